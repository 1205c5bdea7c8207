"""What a person may write where a model is wanted."""

import pytest

from az.engine.errors import WrongRequest
from az.engine.inference import model_resolver as models
from az.engine.inference.model_resolver import default_model, load_evaluator, resolve_model, shipped_models


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder with a run `night` of three models, the newest without its card, and a shipped model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(models, "SHIPPED", tmp_path / "shipped")
    folder = tmp_path / "runs" / "night" / "models"
    folder.mkdir(parents=True)
    (tmp_path / "shipped").mkdir()
    for name in ("000002.onnx", "000002.json", "000011.onnx", "000011.json", "000012.onnx", ".000013.onnx.tmp-1"):
        (folder / name).write_bytes(b"")
    (tmp_path / "shipped" / "checkers.onnx").write_bytes(b"not a model")
    (tmp_path / "mine.onnx").write_bytes(b"")
    return tmp_path


def test_a_path_a_run_or_a_shipped_name(place):
    assert resolve_model("mine.onnx").name == "mine.onnx"
    for text in ("night", "runs/night", "runs/night/models", str(place / "runs" / "night")):
        assert resolve_model(text).name == "000011.onnx", text  # 000012 has no card: it is not published
    assert resolve_model("checkers") == place / "shipped" / "checkers.onnx" == default_model("checkers")
    assert shipped_models() == ["checkers"]
    assert default_model("hex") is None


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("chekers", "did you mean checkers"),
        ("nigt", "did you mean night"),
        ("zzz", "shipped model .checkers."),
        ("nowhere/at/all.onnx", "no model file"),
        ("", "no model ''"),
        ("runs/empty", "no published model"),
        ("notes.txt", "not an ONNX file"),
    ],
)
def test_wrong_names_get_one_sentence(place, text, hint):
    (place / "runs" / "empty" / "models").mkdir(parents=True)
    (place / "notes.txt").write_text("")
    with pytest.raises(WrongRequest, match=hint) as error:
        resolve_model(text)
    assert str(error.value).endswith(".")


def test_a_broken_shipped_model_is_refused_by_name(place):  # noqa: ARG001
    from az.engine.errors import Refused

    with pytest.raises(Refused, match=r"checkers\.onnx"):
        load_evaluator("checkers")
