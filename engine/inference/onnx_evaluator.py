"""A published model as an evaluator. The only module that makes onnxruntime sessions.

A model is looked at before it is believed: seal, finite weights, game, shapes, and the answers that it carries for a
few positions. On the CPU a row's answer is the same to the bit at every batch size and number of threads (measured
and kept as a test). CUDA picks its kernels by batch size, so there every call runs at one fixed size.
"""

from __future__ import annotations

import base64
import hashlib
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from az.engine.errors import Refused
from az.engine.game import Game
from az.engine.inference.evaluator import Float32
from az.engine.inference.model_file import AGAIN, ModelFile
from az.engine.inference.model_file import FORMAT as FORMAT  # for exporters
from az.engine.inference.pinned_memory import DEFAULT_BATCH, Staging
from az.engine.inference.providers import ASKED, CUDA, choose
from az.engine.printable import one_line

# Of softmax and value, between the answers stored in the file and those given here. In int8 another CPU's rounding
# can move an activation by a whole step.
TOLERANCE = {"fp32": 1e-3, "fp16": 2e-2, "int8": 5e-2}
_BINDINGS_KEPT = 64
_MOST_CHECKED = 256  # positions with their answers in a file


class OnnxEvaluator:
    """An ONNX model that has passed every check of the engine."""

    game: Game
    name: str
    model_id: str  # first 16 hex digits of the file's sha256
    metadata: dict[str, str]
    answers: str = ""  # a digest of what was answered at the check: the same bits give the same one

    def __init__(
        self,
        path: str | Path,
        game: Game | None = None,
        threads: int = 1,
        provider: str = "auto",
        data: bytes | None = None,
        check: bool = True,
        batch: int = 0,
    ) -> None:
        """Load and check. `game`: the one that is wanted (default: the model's own). `data`: the file's bytes, where
        they are not on disk yet; `path` is then only their name. `check`: compare with the answers that it carries.
        `batch`: rows of every call of onnxruntime (0: as asked on the CPU, 1,024 on CUDA).

        Raises WrongRequest when there is no such file, Refused when the model fails a check.
        """
        file = ModelFile(path, data)
        self.name, self.model_id, self.metadata = file.path, file.model_id, file.metadata
        self.path, self.precision = file.path, file.precision
        self.game = file.game(game)
        self.threads = threads
        providers, self._why = choose(provider)
        self._session = self._open(file.data, providers)
        self.provider = str(self._session.get_providers()[0])
        if self.provider != CUDA and self._why.startswith("the CUDA"):
            self._why = "CUDA was there but the session could not use it"
        self._fixed_batch = batch or (DEFAULT_BATCH if self.provider == CUDA else 0)
        self._of_thread = threading.local()
        if check:
            self._check_answers()

    @property
    def on_gpu(self) -> bool:
        """Whether the session that was opened runs on a GPU, whatever was hoped for."""
        return self.provider == CUDA

    def evaluate(self, planes: Float32, logits: Float32, values: Float32) -> None:
        """planes [n, C, H, W] -> logits [n, num_actions], values [n], written into the arrays given."""
        n = len(planes)
        # onnxruntime is handed bare addresses: no array may be smaller than it says.
        if planes.shape[1:] != self.game.planes_shape or logits.shape != (n, self.game.num_actions):
            raise ValueError(f"planes {planes.shape} and logits {logits.shape} do not fit {self.game.name}")
        if values.shape != (n,):
            raise ValueError(f"values {values.shape}, but {n} rows of planes")
        if n == 0:
            return
        if self._fixed_batch:
            self._staging().run(planes, logits, values)
        elif _plain(planes) and _plain(logits) and _plain(values):
            self._run(planes, logits, values)
        else:
            copies = np.empty(logits.shape, np.float32), np.empty(n, np.float32)
            self._run(np.array(planes, np.float32, order="C"), *copies)
            logits[:], values[:] = copies
        if not (np.isfinite(logits).all() and np.isfinite(values).all()):
            self._refuse_rows(logits, values)

    def _run(self, planes: Float32, logits: Float32, values: Float32) -> None:
        """onnxruntime reads and writes the arrays themselves; a search hands in the same ones again and again."""
        key = (planes.ctypes.data, logits.ctypes.data, values.ctypes.data, len(planes))
        bindings: dict[tuple[int, int, int, int], Any] = self._of_thread.__dict__.setdefault("bindings", {})
        binding = bindings.get(key)
        if binding is None:
            if len(bindings) >= _BINDINGS_KEPT:
                bindings.clear()
            binding = self._session.io_binding()
            binding.bind_input("planes", "cpu", 0, np.float32, planes.shape, key[0])
            binding.bind_output("logits", "cpu", 0, np.float32, logits.shape, key[1])
            binding.bind_output("value", "cpu", 0, np.float32, values.shape, key[2])
            bindings[key] = binding
        self._session.run_with_iobinding(binding)

    def _staging(self) -> Staging:
        """This thread's own: two batches may be in flight at once."""
        if not hasattr(self._of_thread, "staging"):
            self._of_thread.staging = Staging(self._session, self.game, self._fixed_batch, self.on_gpu)
        return self._of_thread.staging

    def _refuse_rows(self, logits: Float32, values: Float32) -> None:
        bad = np.flatnonzero(~(np.isfinite(logits).all(axis=1) & np.isfinite(values)))
        part = "value" if not np.isfinite(values[bad[0]]) else "logits"
        raise Refused(
            f"model {self.name} answered with a {part} that is not finite in row {bad[0]} of {len(values)}"
            f" ({len(bad)} such rows); {AGAIN}."
        )

    def _refuse(self, reason: str) -> Refused:
        return Refused(f"model {self.name} is refused: {reason}; {AGAIN}.")

    def _open(self, data: bytes, providers: list[Any]) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 4  # its errors come as exceptions; printed too, they are many red lines
        if self.threads > 1:  # waiting threads must not burn the cores that the search needs
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            session = onnxruntime.InferenceSession(data, options, providers=providers)
        except Exception as error:  # onnxruntime's own errors share no base class
            raise self._refuse(f"onnxruntime cannot read it ({_first_line(error)})") from None
        here = {port.name: port.shape[1:] for port in (*session.get_inputs(), *session.get_outputs())}
        expected = {"planes": list(self.game.planes_shape), "logits": [self.game.num_actions], "value": []}
        if here != expected:
            raise self._refuse(f"its inputs and outputs are {one_line(str(here), 300)} and should be {expected}")
        return session

    def _check_answers(self) -> None:
        """Run the positions that the file carries: finite, and what the exporter saw."""
        try:
            planes = decode_floats(self.metadata["check_planes"]).reshape(-1, *self.game.planes_shape)
            logits = decode_floats(self.metadata["check_logits"]).reshape(len(planes), self.game.num_actions)
            values = decode_floats(self.metadata["check_values"]).reshape(len(planes))
        except ValueError:
            raise self._refuse("its check positions cannot be read") from None
        if not 0 < len(planes) <= _MOST_CHECKED:
            raise self._refuse(f"it carries {len(planes) or 'no'} check positions")
        answer, answer_values = np.empty_like(logits), np.empty_like(values)
        try:
            self.evaluate(planes, answer, answer_values)
        except Refused:
            raise
        except Exception as error:
            raise self._refuse(f"onnxruntime cannot run it ({_first_line(error)})") from None
        self.answers = hashlib.sha256(answer.tobytes() + answer_values.tobytes()).hexdigest()[:16]
        differences = np.abs(softmax(answer) - softmax(logits)).ravel(), np.abs(answer_values - values)
        worst = np.concatenate(differences).max()  # Python's own max would lose a NaN
        allowed = TOLERANCE.get(self.precision, TOLERANCE["fp32"])
        if not worst <= allowed:  # so written, a NaN refuses
            raise self._refuse(f"its answers differ by {worst:.2g} from those stored in it (allowed: {allowed:g})")


def all_answers(data: bytes, planes: Float32) -> dict[str, Any]:
    """Every output of an ONNX model by name, its nodes run as they are written (no rewriting), on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_outputs()]
    return dict(zip(names, session.run(names, {"planes": planes}), strict=True))


def provider_line(evaluator: OnnxEvaluator) -> str:
    """For people: where the network runs, and why where that was not asked for."""
    why = "" if evaluator._why == ASKED else f" ({evaluator._why})"
    return f"network on {'CUDA' if evaluator.provider == CUDA else 'the CPU'}{why}"


def encode_floats(array: Float32) -> str:
    """base64 of little-endian float32."""
    return base64.b64encode(np.ascontiguousarray(array, "<f4").tobytes()).decode()


def decode_floats(text: str) -> Float32:
    """[n]; raises ValueError."""
    return np.frombuffer(base64.b64decode(text, validate=True), "<f4").astype(np.float32)


def softmax(logits: Float32) -> Float32:
    """[n, A] -> [n, A], in double precision inside; -inf is a move that is not there."""
    shifted = np.exp((logits - logits.max(axis=1, keepdims=True)).astype(np.float64))
    return (shifted / shifted.sum(axis=1, keepdims=True)).astype(np.float32)


def _plain(array: Float32) -> bool:
    return array.flags.carray and array.dtype == np.float32


def _first_line(error: Exception) -> str:
    return one_line(str(error).strip().partition("\n")[0] or type(error).__name__, 160).rstrip(".")
