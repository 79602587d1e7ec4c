"""Code that comes with a checkpoint does not run, whatever is typed on the terminal."""

from __future__ import annotations

import ast
import io
import json
import sys
from pathlib import Path

import pytest
from tests.support.slide_toys import slide_settings

from eosin.core.errors import EosinError
from eosin.core.settings.model import HubModel
from eosin.models.load import load
from eosin.models.slide_encoder.build import build_slide_reader

SRC = Path(__file__).resolve().parents[2] / "src" / "eosin"


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint whose settings name code; the code would leave a file. Somebody has typed "y" ahead."""
    folder = tmp_path / "model"
    folder.mkdir()
    code = f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).write_text('ran')\n"
    for name in ("configuration_odd.py", "modeling_odd.py", "processing_odd.py"):
        (folder / name).write_text(code + "class Odd: pass\n", "utf-8")
    auto = {"AutoConfig": "configuration_odd.Odd", "AutoModelForImageTextToText": "modeling_odd.Odd",
            "AutoProcessor": "processing_odd.Odd"}  # fmt: skip
    (folder / "config.json").write_text(json.dumps({"model_type": "odd", "auto_map": auto}), "utf-8")
    (folder / "processor_config.json").write_text(
        json.dumps({"processor_class": "Odd", "auto_map": {"AutoProcessor": "processing_odd.Odd"}}), "utf-8"
    )
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 20))
    return folder


def test_a_checkpoint_with_code_is_refused_by_name(stranger: Path) -> None:
    with pytest.raises(EosinError) as caught:
        load(stranger)
    assert "runs no code" in caught.value.message and "processing_odd.py" in (caught.value.found or "")
    assert not (stranger.parent / "ran").exists()


def test_the_base_of_a_slide_reader_with_code_is_refused(stranger: Path) -> None:
    with pytest.raises(EosinError) as caught:
        build_slide_reader([], slide_settings(base=HubModel(name=str(stranger))), 0)
    assert "configuration_odd.py" in (caught.value.found or "")
    assert not (stranger.parent / "ran").exists()


def test_every_automatic_class_is_told_to_run_no_code() -> None:
    """Auto*.from_pretrained(...) anywhere in Eosin unpacks options, and options start from NO_CODE."""
    for path in SRC.rglob("*.py"):
        text = path.read_text("utf-8")
        calls = [
            node for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
            and node.func.attr == "from_pretrained" and "Auto" in ast.unparse(node.func.value)
        ]  # fmt: skip
        for call in calls:
            unpacked = [ast.unparse(k.value) for k in call.keywords if k.arg is None]
            assert unpacked in (["NO_CODE"], ["options"]), f"{path.relative_to(SRC)}:{call.lineno}"
            assert "NO_CODE" in text or path.name == "build.py"
