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


def test_a_version_of_a_run(place):
    (place / "runs" / "night" / "best.json").write_text('{"model": "000002", "step": 200, "thrown": 0.1}')
    for text in ("night@best", "runs/night@best", "night@2", "night@000002"):
        assert resolve_model(text).name == "000002.onnx", text
    assert resolve_model("night@11").name == "000011.onnx"
    (place / "runs" / "odd@best").mkdir()
    with pytest.raises(WrongRequest, match="'odd@best' holds no published model"):  # a folder of that very name
        resolve_model("odd@best")


@pytest.mark.parametrize(
    ("text", "best", "hint"),
    [
        ("night@best", None, "has not named its best model"),
        ("night@best", "[", "has not named its best model"),
        ("night@best", '{"model": 2}', "has not named its best model"),
        ("night@best", '{"model": "000003"}', "no model '000003' now: it has 2 to 11"),
        ("night@best", '{"model": "../../x"}', "no model"),
        ("night@12", None, "no model '12' now"),
        ("night@", None, "no model '' now"),
        ("night@²", None, "no model"),
        ("nigt@best", None, "no model 'nigt@best'"),
    ],
)
def test_a_version_that_is_not_there(place, text, best, hint):
    if best is not None:
        (place / "runs" / "night" / "best.json").write_text(best)
    with pytest.raises(WrongRequest, match=hint) as error:
        resolve_model(text)
    assert str(error.value).endswith(".")


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
