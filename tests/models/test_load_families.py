"""Hub models that lack what a reasoner needs say so when they are loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.support.families import write_family

from eosin.core.errors import EosinError
from eosin.models.load import load


def test_a_model_without_a_chat_template_is_refused(tmp_path: Path) -> None:
    folder = write_family("llava", tmp_path / "model")
    for path in folder.glob("*.jinja"):
        path.unlink()
    for path in folder.glob("*config.json"):
        settings = json.loads(path.read_text("utf-8"))
        if settings.pop("chat_template", None):
            path.write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(EosinError, match="no chat template") as caught:
        load(folder)
    assert "instruction-tuned" in str(caught.value)
