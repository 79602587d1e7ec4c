"""schemathesis on the OpenAPI description: no answer of the server is one that the description does not tell of.

It has pins of its own, so it lives in an environment of its own, and its command is named here:

    python -m venv /tmp/s && /tmp/s/bin/pip install schemathesis
    EOSIN_SCHEMATHESIS=/tmp/s/bin/schemathesis python -m pytest tests/serve/test_openapi.py
"""

from __future__ import annotations

import os
import shutil
import subprocess
import urllib.request
from pathlib import Path

import pytest
from tests.serve.scripted import scripted_engine, scripted_room, write_slides
from tests.serve.served import serving

COMMAND = os.environ.get("EOSIN_SCHEMATHESIS") or shutil.which("schemathesis") or ""
RULES = "positive_data_acceptance"
"""Not asked: a JSON schema cannot say that a box has x0 < x1, that options differ, or that a picture is a data URL."""
EXAMPLES = os.environ.get("EOSIN_SCHEMATHESIS_EXAMPLES", "15")


@pytest.mark.skipif(not Path(COMMAND).is_file(), reason="schemathesis is not here: EOSIN_SCHEMATHESIS names no command")
def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    slides = write_slides(tmp_path / "slides", "a.tif", "b.tif")
    made = scripted_room(tmp_path / "c.sqlite", beside="second")
    cases = {"a": "case 7", "b": "case 7"}
    with serving(scripted_engine(), made, slides=slides, cases=cases, model_name="first") as (url, _):
        description = tmp_path / "openapi.json"
        description.write_bytes(urllib.request.urlopen(f"{url}/openapi.json", timeout=120).read())
        told = subprocess.run(
            [COMMAND, "run", str(description), "--url", url, "--checks", "all", "--exclude-checks", RULES,
             "--max-examples", EXAMPLES, "--seed", "1", "--no-color", "--request-timeout", "60",
             "--phases", "examples,coverage,fuzzing", "--suppress-health-check", "all"],
            capture_output=True, text=True, timeout=1800, cwd=tmp_path, check=False,
        )  # fmt: skip
        assert told.returncode == 0, told.stdout[-8000:] + told.stderr[-1000:]
