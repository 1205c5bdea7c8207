"""Two machines of a Ray cluster with a cable between them that can be cut: two network namespaces of this machine.

Runs in namespaces of its own (`unshare`, from util-linux, where the system lets an ordinary user have them), so that
it changes nothing outside and nothing of it is left when it ends. The head is 10.77.0.1; the node 10.77.0.2 is started
again whenever it ends, as docs/how-to/cluster.md says. Orders come as lines of stdin, answers go to stdout.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
from ray_nodes import AUTH, LineServer

HEAD, NODE, PORT = "10.77.0.1", "10.77.0.2", 6379
UNSHARE = ["unshare", "--user", "--map-root-user", "--net", "--pid", "--fork", "--mount-proc"]
QUICK = {  # a lost node and a lost head are seen within seconds, not a minute
    "RAY_health_check_initial_delay_ms": "1000", "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000", "RAY_health_check_failure_threshold": "4",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "10",
}  # fmt: skip


def why_not() -> str:
    """Why there can be no such cable here; "" where there can."""
    if shutil.which("unshare") is None or shutil.which("ip") is None or shutil.which("nsenter") is None:
        return "unshare, nsenter or ip is not installed"
    tried = subprocess.run(
        [*UNSHARE, "ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1"], capture_output=True
    )
    return "" if tried.returncode == 0 else "this system gives a user no network namespace"


class TwoMachines(LineServer):
    """Both machines. quick: whether Ray sees a lost one within seconds. Use as a context manager."""

    def __init__(self, folder: Path, quick: bool = True) -> None:
        self.folder = folder
        environment = os.environ | AUTH | (QUICK if quick else {})
        command = ["env", *(f"{name}={value}" for name, value in environment.items() if name in {*AUTH, *QUICK})]
        super().__init__([*command, *UNSHARE, sys.executable, str(Path(__file__).resolve())], folder)
        self.address = f"{HEAD}:{PORT}"

    def train(self, where: str, *command: str) -> None:
        """Start a command on the "head" or the "node"; what it says goes to said.txt."""
        self.say("train", where, shlex.join(command))

    def ended(self) -> int | None:
        """The command's exit code."""
        code = self.say("ended")
        return code if isinstance(code, int) else None

    def said(self) -> str:
        """What the command has said so far."""
        return (self.folder / "said.txt").read_text(errors="replace")


class _Machines:
    """Each with its own processes, its own /tmp/ray and its own name: by them Ray finds the node of a process."""

    def __init__(self) -> None:
        _do("ip link set lo up")
        self.inits = {where: self._machine(where, net) for where, net in (("head", []), ("node", ["--net"]))}
        _do(f"ip link add v0 type veth peer name v1 netns {self.inits['node']}")
        _do(f"ip addr add {HEAD}/24 dev v0")
        _do("ip link set v0 up")
        for line in ("ip link set lo up", f"ip addr add {NODE}/24 dev v1", "ip link set v1 up"):
            _do(f"nsenter -t {self.inits['node']} -n {line}")
        ray = f"{Path(sys.executable).parent / 'ray'} start --object-store-memory 100000000 --num-cpus 1 --block"
        self.start("head", f"{ray} --head --node-ip-address {HEAD} --port {PORT} --include-dashboard false")
        time.sleep(5.0)
        self.start("node", f"while :; do {ray} --address {HEAD}:{PORT} --node-ip-address {NODE}; sleep 2; done")
        self.run: subprocess.Popen[bytes] | None = None

    def _machine(self, where: str, net: list[str]) -> int:
        """The number of its first process, which collects those that have lost their parents."""
        own = Path(f"ray-{where}").resolve()
        own.mkdir()
        first = f"hostname {where}; mkdir -p /tmp/ray; mount --bind {shlex.quote(str(own))} /tmp/ray; "
        apart = ["unshare", *net, "--mount", "--uts", "--pid", "--fork", "--mount-proc", "bash", "-c"]
        holder = psutil.Process(subprocess.Popen([*apart, f"{first} echo up > up-{where}; sleep 1000000 & wait"]).pid)
        while not Path(f"up-{where}").exists():
            time.sleep(0.1)
        return holder.children()[0].pid

    def start(self, where: str, line: str, said: str = os.devnull) -> subprocess.Popen[bytes]:
        inside = ["nsenter", "-t", str(self.inits[where]), "--mount", "--uts", "--net", "--pid", f"--wd={Path.cwd()}"]
        with Path(said).open("w") as out:
            return subprocess.Popen([*inside, "bash", "-c", line], stdout=out, stderr=out, stdin=subprocess.DEVNULL)

    def obey(self, word: str, rest: str) -> object:
        if word == "train":
            where, _, line = rest.partition(" ")
            self.run = self.start(where, f"exec {line}", "said.txt")
        elif word in ("cut", "mend"):
            _do(f"ip link set v0 {'down' if word == 'cut' else 'up'}")
        elif word == "stop" and self.run is not None:
            psutil.Process(self.run.pid).children()[0].send_signal(signal.SIGINT)  # nsenter hands on no signal
        elif word == "ended" and self.run is not None:
            return self.run.poll()
        elif word == "players":
            return sum("ray::Node" in line for line in map(_line_of, psutil.process_iter()))
        return True


def _line_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it has gone
        return ""


def _do(line: str) -> None:
    subprocess.run(line.split(), check=True, timeout=20)


def main() -> None:
    """See above."""
    machines = _Machines()
    print(json.dumps({"answer": True}), flush=True)
    for line in sys.stdin:
        word, _, rest = line.strip().partition(" ")
        print(json.dumps({"answer": machines.obey(word, rest)}), flush=True)


if __name__ == "__main__":
    main()
