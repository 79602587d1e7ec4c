"""The judge of an exam is another one than that of the rewards, or the report says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eosin.chain.exam import refuse_same_judge
from eosin.core.errors import EosinError
from eosin.core.settings.exam import ExamSettings


def test_the_judge_of_the_rewards_is_refused_unless_allowed(tmp_path: Path) -> None:
    checkpoint = tmp_path / "run" / "stages" / "rl" / "checkpoint"
    checkpoint.mkdir(parents=True)
    judge = {"url": "http://127.0.0.1:9/v1", "model": "teacher"}
    (checkpoint.parent / "stage.json").write_text(json.dumps({"name": "rl", "settings": {"scoring": {"judge": judge}}}))
    (tmp_path / "run" / "stages" / "sft").mkdir()
    (tmp_path / "run" / "stages" / "sft" / "stage.json").write_text(json.dumps({"settings": {"scoring": {"judge": 3}}}))
    settings = ExamSettings.model_validate(
        {"terms": [{"name": "rubric"}], "scoring": {"judge": judge | {"url": judge["url"] + "/chat/completions"}}}
    )
    with pytest.raises(EosinError, match="also gave the rewards of the stage rl") as raised:
        refuse_same_judge(str(checkpoint), settings)
    assert "--allow-same-judge" in str(raised.value)
    refuse_same_judge(str(checkpoint), settings.model_copy(update={"same_judge": True}))
    other = ExamSettings.model_validate({"terms": [{"name": "rubric"}], "scoring": {"judge": judge | {"model": "b"}}})
    refuse_same_judge(str(checkpoint), other)
    refuse_same_judge("a-name/on-the-hub", settings)
