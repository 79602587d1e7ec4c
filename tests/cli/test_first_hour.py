"""What a newcomer meets: `eosin` alone, completion, the doctor, and the page that an error names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from eosin.chain.recipe.run import shipped_recipes
from eosin.cli.main import app
from eosin.cli.start.needs import Needs, billions, needs_of, verdict
from eosin.cli.start.pages import _PAGES, page_of
from eosin.cli.start.servers import server_state
from eosin.cli.start.story import next_command, story
from eosin.core.errors import EosinError
from eosin.core.settings.recipe import Recipe, load_recipe

ROOT = Path(__file__).resolve().parents[2]


def test_eosin_alone_tells_the_story_in_ten_lines() -> None:
    done = CliRunner().invoke(app, [])
    assert done.exit_code == 0
    lines = done.output.strip().splitlines()
    assert len(lines) == 10 and any(line.startswith("next: ") for line in lines)
    assert "not for diagnosis" in lines[0]


def test_the_next_command_follows_what_is_there(tmp_path: Path) -> None:
    assert next_command(tmp_path).startswith(("eosin demo", "pip install"))
    if next_command(tmp_path).startswith("pip"):
        pytest.skip("training is not installed here")
    run = tmp_path / "runs" / "mine"
    run.mkdir(parents=True)
    (run / "recipe.yaml").write_text("name: mine\n")
    assert next_command(tmp_path).startswith(f"eosin run {run / 'recipe.yaml'} --out {run}")
    (run / "summary.json").write_text(json.dumps({"state": "incomplete"}))
    assert next_command(tmp_path).startswith("eosin run ")
    (run / "summary.json").write_text(json.dumps({"state": "complete"}))
    assert str(run / "report" / "index.html") in next_command(tmp_path) and "own tiles" in story(tmp_path)


def test_verbs_that_the_story_names_exist() -> None:
    import re

    import typer

    verbs = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    assert set(re.findall(r"eosin ([a-z][a-z-]+)", story(Path("/nowhere")))) <= verbs


def test_completion_completes_verbs() -> None:
    """As bash asks: the words so far, and the place of the one to complete."""
    env = {**os.environ, "_EOSIN_COMPLETE": "complete_bash", "COMP_WORDS": "eosin know", "COMP_CWORD": "1"}
    code = "import sys; sys.argv = ['eosin']; from eosin.cli.main import app; app(prog_name='eosin')"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["knowledge"], done.stderr


def test_every_shipped_recipe_says_what_it_needs() -> None:
    found = {name: needs_of(load_recipe(path).recipe) for name, path in shipped_recipes().items()}
    assert found["demo"] == Needs(("train",), "", None, 6.0)
    assert found["colorectal"].data == "data.root=PATH"
    assert "slides" in found["demo-slide"].extras and "encoders" in found["colorectal-pretrained"].extras
    assert found["patho-clip-colorectal"].extras == ("train", "encoders", "pretrained")
    # 7 billion parameters, all trained: 7e9 x (16 + 2 for the reference of the KL term) bytes, and 6 GiB
    assert found["pathvlm-r1"].gpu_gib == pytest.approx(7e9 * 18 / 2**30 + 6)


def test_adapters_need_less() -> None:
    whole = {"model": {"kind": "hub", "name": "Qwen/Qwen2.5-VL-3B-Instruct"}, "stages": {"sft": {}}}
    adapted = {**whole, "stages": {"sft": {"lora": {}}}}
    assert needs_of(Recipe.model_validate(whole)).gpu_gib == pytest.approx(3e9 * 16 / 2**30 + 6)
    assert needs_of(Recipe.model_validate(adapted)).gpu_gib == pytest.approx(3e9 * 2 / 2**30 + 6)


@pytest.mark.parametrize(
    ("name", "size"), [("Qwen/Qwen2.5-VL-7B-Instruct", 7), ("org/model-0.5B", 0.5), ("openslide", None), ("8bit", None)]
)
def test_size_in_a_name(name: str, size: float | None) -> None:
    assert billions(name) == size


def test_verdict_by_hand() -> None:
    assert verdict(Needs(("train",), "", 80.0, 6.0), None, 100) in (
        "a GPU of about 80 GiB",
        "pip install 'eosin[train]'",
    )
    light = Needs((), "", 20.0, 6.0)
    assert verdict(light, 24.0, 1) == "ready" and verdict(light, 16.0, 100) == "a GPU of about 20 GiB (here 16)"
    assert verdict(Needs((), "", None, 6.0), None, 4.0) == "6 GiB of free memory (here 4)"


class _Server(BaseHTTPRequestHandler):
    answers = {
        "/v1/models": (200, b'{"data": [{"id": "small"}]}'),
        "/key/models": (401, b""),
        "/odd/models": (200, b"[1"),
    }

    def do_GET(self) -> None:
        status, body = self.answers.get(self.path, (404, b""))
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_servers_are_asked(address: str) -> None:
    assert server_state(f"{address}/v1") == (True, "serves small")
    assert server_state(f"{address}/key") == (True, "answers, and asks for a key")
    assert server_state(f"{address}/odd")[0] is False
    assert "404" in server_state(address)[1]
    assert server_state("ftp://nowhere")[0] is False
    assert server_state("http://127.0.0.1:1/v1", timeout_s=2)[0] is False


def test_an_error_names_its_page() -> None:
    from eosin.core.settings.data import TableData
    from eosin.sources import read_table

    with pytest.raises(EosinError) as caught:
        read_table(TableData(root="/nowhere"))
    assert page_of(caught.value.__traceback__) == "docs/bring-your-own.md"
    assert page_of(None) is None


def test_pages_that_errors_name_exist_and_rooms_too() -> None:
    for module, page in _PAGES.items():
        assert (ROOT / "docs" / page).is_file(), page
        place = ROOT / "src" / Path(*module.split("."))
        assert list(place.parent.glob(place.name + "*")), module


def test_the_page_is_printed() -> None:
    command = [sys.executable, "-m", "eosin.cli.main", "slides", "info", "/nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "page:     docs/slides.md" in done.stderr


def test_the_doctor_looks_at_every_extra_that_a_user_may_want() -> None:
    from eosin.cli.start.doctor import ABILITIES

    text = (ROOT / "pyproject.toml").read_text("utf-8")
    extras = set(tomllib.loads(text)["project"]["optional-dependencies"])
    looked_at = {extra for extra, _ in ABILITIES.values() if extra}
    assert extras - looked_at == {"pretrained", "docs", "sbom", "lock", "dev"}  # a file of weights; developers'
