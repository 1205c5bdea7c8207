"""What a person asks for by --cluster and --records, checked before a run begins."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from az.engine.errors import WrongRequest
from az.engine.printable import one_line
from az.train.cluster.fleet import LOCAL

if TYPE_CHECKING:
    from az.train.config import RunConfig
    from az.train.run.services import Selfplay

MISSING = "ray is not installed, and --cluster needs it: pip install '.[ray]' in the checkout brings it."


def check_address(cluster: str) -> None:
    """Raises WrongRequest where --cluster names no address, or ray is not installed. Nothing is loaded."""
    host, _, port = cluster.rpartition(":")
    is_port = port.isascii() and port.isdigit() and 0 < int(port[:9]) < 65_536
    if cluster != LOCAL and not (host and "/" not in host and is_port):
        raise WrongRequest(
            f"'{one_line(cluster, 100)}' is no address of a cluster: give HOST:PORT of its head (ray start --head says"
            f" it), or {LOCAL} for a cluster of this machine alone."
        )
    found = importlib.util.find_spec("ray")
    if found is None or found.origin is None:  # a folder of that name is no package: Ray's own files are in /tmp/ray
        raise WrongRequest(MISSING)


@dataclass(frozen=True)
class Elsewhere:
    """Other machines that make games for a run. cluster: HOST:PORT, or `local`; records: a folder."""

    cluster: str | None = None
    records: str | None = None

    def check(self, config: RunConfig) -> None:
        """Raises WrongRequest for what cannot be met; nothing is started."""
        if self.records is not None:
            if not Path(self.records).expanduser().is_dir():
                raise WrongRequest(f"--records: there is no folder '{self.records}'.")
            if config.deterministic:
                raise WrongRequest(
                    "a deterministic run cannot take --records: when a file appears is not a matter of its seed."
                )
        if self.cluster is None:
            return
        check_address(self.cluster)

    def selfplay(self) -> Selfplay | None:
        """Where the run's games are made; None: by processes of this machine."""
        from az.train.cluster.selfplay import WithRecords
        from az.train.run.worker_pool import LocalSelfplay

        selfplay: Selfplay | None = None
        if self.cluster is not None:
            from az.train.cluster.pool import ClusterSelfplay

            selfplay = ClusterSelfplay(self.cluster)
        if self.records is not None:
            selfplay = WithRecords(selfplay or LocalSelfplay(), Path(self.records).expanduser())
        return selfplay


HERE = Elsewhere()
