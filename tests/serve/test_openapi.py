"""schemathesis on the OpenAPI description: no answer of the server is one that the description does not tell of.

It has pins of its own, so it lives in an environment of its own, and its command is named here:

    python -m venv /tmp/s && /tmp/s/bin/pip install schemathesis
    EOSIN_SCHEMATHESIS=/tmp/s/bin/schemathesis python -m pytest tests/serve/test_openapi.py
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.serve.scripted import scripted_engine, scripted_room, write_slides
from tests.serve.served import serving

COMMAND = os.environ.get("EOSIN_SCHEMATHESIS") or shutil.which("schemathesis") or ""
EXAMPLES = os.environ.get("EOSIN_SCHEMATHESIS_EXAMPLES", "15")


@pytest.mark.skipif(not Path(COMMAND).is_file(), reason="schemathesis is not here: EOSIN_SCHEMATHESIS names no command")
def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    slides = write_slides(tmp_path / "slides", "a.tif", "b.tif")
    made = scripted_room(tmp_path / "c.sqlite", beside="second")
    cases = {"a": "case 7", "b": "case 7"}
    with serving(scripted_engine(), made, slides=slides, cases=cases, model_name="first") as (url, app):
        key = next(iter(app.state.shelf.slides))
        told = subprocess.run(
            [COMMAND, "run", f"{url}/openapi.json", "--checks", "all", "--max-examples", EXAMPLES, "--seed", "1",
             "--no-color", "--request-timeout", "60", "--suppress-health-check", "all"],
            capture_output=True, text=True, timeout=1500, cwd=tmp_path, check=False,
        )  # fmt: skip
        assert key and told.returncode == 0, told.stdout[-6000:] + told.stderr[-1000:]
