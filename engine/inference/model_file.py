"""A published model's file, with every check that needs no runtime: what can be wrong with a model mostly shows here.

onnxruntime takes a quarter of a second to import, and a person who has mistyped a name should not wait for it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from az.engine.errors import Refused, WrongRequest
from az.engine.game import Game, load_game
from az.engine.inference import onnx_reader as onnx_bytes
from az.engine.inference.onnx_graph import check_graph
from az.engine.printable import quoted
from az.engine.system.disk_errors import is_passing
from az.engine.system.safe_read import UnusableFileError, read_regular

FORMAT = "1"  # of the metadata; raise it when an older engine could not read a newer file
PRECISIONS = ("fp32", "fp16", "int8")
AGAIN = "export it again or choose another model"


class ModelFile:
    """The bytes of a model: sealed, its weights finite."""

    def __init__(self, path: str | Path, data: bytes | None = None) -> None:
        """Read and check. `data`: the file's bytes, where they are not on disk yet; `path` is then only their name.

        Raises WrongRequest when there is no such file, Refused when it fails a check.
        """
        self.path = str(path)
        self.data = _read(Path(path)) if data is None else data
        self.model_id = hashlib.sha256(self.data).hexdigest()[:16]
        self.metadata = self._checked_metadata()
        self.precision = self.metadata.get("precision", "fp32")

    def refusal(self, reason: str) -> Refused:
        """The error for a model that fails a check."""
        return Refused(f"model {self.path} is refused: {reason}; {AGAIN}.")

    def _checked_metadata(self) -> dict[str, str]:
        if len(self.data) > onnx_bytes.MOST_BYTES:
            raise self.refusal(f"it has {len(self.data):,} bytes, and at most {onnx_bytes.MOST_BYTES:,} are read")
        try:
            metadata = onnx_bytes.metadata_of(self.data)
        except onnx_bytes.BrokenFileError:
            raise self.refusal("it is damaged or not an ONNX file") from None
        needed = ("format", "game", "game_version", "planes_shape", "num_actions", "check_planes", "check_logits")
        missing = [key for key in (*needed, "check_values", onnx_bytes.SEAL) if key not in metadata]
        if missing:
            raise self.refusal(f"it carries no az metadata ({missing[0]} is missing)")
        if metadata["format"] != FORMAT:
            raise self.refusal(f"its format is {quoted(metadata['format'])} and this az reads format {FORMAT}")
        if not onnx_bytes.seal_fits(self.data, metadata[onnx_bytes.SEAL]):
            raise self.refusal("its checksum does not fit its contents, so the file has been damaged or altered")
        if metadata.get("precision", "fp32") not in PRECISIONS:
            raise self.refusal(f"its precision is {quoted(metadata['precision'])}")
        try:
            content = onnx_bytes.read(self.data)
            for name, weights in content.weights.items():
                if not np.isfinite(weights).all():
                    raise self.refusal(f"its weight '{quoted(name)}' holds numbers that are not finite")
        except onnx_bytes.BrokenFileError:
            raise self.refusal("it is damaged or not an ONNX file") from None
        except onnx_bytes.ForeignModelError as error:
            raise self._foreign(error) from None
        self._content = content
        return metadata

    def _foreign(self, error: onnx_bytes.ForeignModelError) -> Refused:
        return self.refusal(f"it is not as az writes models: {quoted(str(error), 200)}")

    def game(self, wanted: Game | None) -> Game:
        """The game to play: name, version and sizes must be those of the model, and its operators must fit them."""
        name = self.metadata["game"]
        if wanted is not None and wanted.name != name:
            raise WrongRequest(
                f"model {self.path} plays {quoted(name)}, not {wanted.name}: choose a model of {wanted.name}."
            )
        try:
            game = wanted or load_game(name)
        except WrongRequest:
            raise self.refusal(f"it plays '{quoted(name)}', a game that is not installed here") from None
        facts = {
            "game_version": str(game.version),
            "planes_shape": ",".join(map(str, game.planes_shape)),
            "num_actions": str(game.num_actions),
        }
        for key, here in facts.items():
            if self.metadata[key] != here:
                raise self.refusal(f"its {key} of {name} is {quoted(self.metadata[key])} and here it is {here}")
        try:
            check_graph(self._content, game.planes_shape, game.num_actions)
        except onnx_bytes.ForeignModelError as error:
            raise self._foreign(error) from None
        return game


def _read(path: Path) -> bytes:
    try:
        return read_regular(path, onnx_bytes.MOST_BYTES)
    except UnusableFileError as error:
        raise Refused(f"model {path} is refused: {error.strerror}; {AGAIN}.") from None
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and is_passing(error):
            raise
        why = f" ({error.strerror})" if isinstance(error, OSError) and not isinstance(error, FileNotFoundError) else ""
        raise WrongRequest(f"there is no readable model file '{path}'{why}: give the path of an ONNX file.") from None
