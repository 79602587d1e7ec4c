"""The page of a run: complete, partial, damaged and hostile runs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import synthetic_run
import yaml
from synthetic_run import LABELS, write_recipe, write_run

from eosin.core.errors import EosinError
from eosin.core.store import artifacts as store
from eosin.report import build
from eosin.report.records.load import load

VOID = {"meta", "link", "img", "input", "br", "hr"}


class Page(HTMLParser):
    """Elements, attributes and text of a page; notes tags that do not nest."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [a for t, a in self.elements if t == tag]


def read(path: Path) -> Page:
    page = Page(path.read_text("utf-8"))
    page.text = " ".join(page.text.split())
    return page


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "whole")


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(whole, tmp_path / "run"))


def check_self_contained(page: Page) -> None:
    assert page.wrong == [] and page.open == []
    for tag, attrs in page.elements:
        assert tag not in {"script", "iframe", "object", "embed", "base", "form", "audio", "video"}
        assert not [k for k in attrs if k.startswith("on")]
        for key in ("src", "href", "xlink:href", "srcset", "action", "data"):
            value = attrs.get(key)
            assert value is None or re.match(r"#|data:image/jpeg;base64,|data:,$|\.\./|[\w/.%-]+$", value), value
    policy = [m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy and "default-src 'none'" in str(policy[0])


def test_complete_run_says_what_the_files_say(whole: Path) -> None:
    out = build(whole)
    assert out == whole / "report" / "index.html"
    assert out.stat().st_size < 5_000_000
    page = read(out)
    check_self_contained(page)
    summary = store.read_json(whole / "evals/rl/heldout/summary.json")
    shown = f"{100 * summary['accuracy']:.1f} % [{100 * summary['ci95'][0]:.1f}, {100 * summary['ci95'][1]:.1f}]"
    assert shown in page.text
    colour = store.read_json(whole / "baselines.json")["heldout"]["colour_histogram"]["accuracy"]
    assert f"colour histogram {100 * colour:.1f} %" in page.text
    for words in (
        "PHANTOM: procedurally generated images",
        "Research use only, not for diagnosis",
        "3 stages of training ran",
        "chance 16.7 %",
        "no case stands in two of them",
        "image truncated or damaged",
        "judge did not reply",
        "stages/sft/checkpoint",
    ):
        assert words in page.text
    assert not (whole / "report" / ".index.html").exists()


def test_images_have_alt_texts_and_ids_are_unique(whole: Path) -> None:
    page = read(build(whole))
    images = page.all("img")
    assert len(images) == 12 + 5  # gallery of the recipe, five groups of rollouts
    assert all(i.get("alt") and str(i["src"]).startswith("data:image/jpeg") for i in images)
    assert all(s.get("aria-label") for s in page.all("svg"))
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    linked = {str(a["href"])[1:] for a in page.all("a") if str(a.get("href")).startswith("#")}
    assert linked <= set(ids)
    labels = [a["for"] for a in page.all("label")]
    assert set(labels) <= set(ids)
    assert len(page.all("h1")) == 1


def test_checkpoint_links_lead_to_the_checkpoint(whole: Path, tmp_path: Path) -> None:
    for out in (build(whole), build(whole, tmp_path / "elsewhere" / "page.html")):
        links = [str(a["href"]) for a in read(out).all("a") if "checkpoint" in str(a.get("href"))]
        assert len(links) == 3
        assert all((out.parent / link / "manifest.json").is_file() for link in links)


def test_building_twice_gives_the_same_bytes(whole: Path, tmp_path: Path) -> None:
    first = build(whole).read_bytes()
    assert build(whole).read_bytes() == first


def test_a_recipe_may_leave_curves_out(run: Path) -> None:
    before = build(run).read_text("utf-8")
    recipe = yaml.safe_load((run / "recipe.yaml").read_text("utf-8"))
    recipe["report"] = {**(recipe.get("report") or {}), "curves": False}
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe), "utf-8")
    after = build(run).read_text("utf-8")
    assert 'id="curve0' in before and 'id="curve0' not in after and 'id="class0' not in after
    assert "report.curves: false" in after and "report.curves: false" not in before
    assert after.count("<svg") > 0  # accuracy and step time are still drawn


def test_gallery_shows_right_and_wrong_of_every_class(whole: Path) -> None:
    page = read(build(whole))
    cards = [str(a["class"]).split()[1] for a in page.all("article") if str(a.get("class")).startswith("card")]
    rows = store.read_jsonl(whole / "evals/rl/heldout/predictions.jsonl")
    assert any(not r["correct"] for r in rows)
    assert cards.count("wrong") >= 1 and cards.count("right") >= len(LABELS)


def test_partial_run_is_built_and_says_what_is_missing(run: Path) -> None:
    for name in (
        "summary.json",
        "baselines.json",
        "provenance.json",
        "stages/rl/stage.json",
        "stages/rl/rollouts.jsonl",
    ):
        (run / name).unlink()
    shutil.rmtree(run / "stages/rl/checkpoint")
    shutil.rmtree(run / "evals/rl")
    (run / "samples/test.parquet").write_bytes(b"cut off")
    (run / "evals/sft/heldout/summary.json").write_text("{", encoding="utf-8")
    page = read(build(run))
    check_self_contained(page)
    for words in (
        "This run is partial",
        "Stage rl was started but has no whole checkpoint",
        "baselines.json is missing",
        "provenance.json is missing",
        "samples/test.parquet could not be read",
        "evals/sft/heldout/summary.json could not be read",
        "No baseline was recorded",
        "after pretrain",
    ):
        assert words in page.text


def test_run_with_a_recipe_only(tmp_path: Path) -> None:
    write_recipe(tmp_path / "bare", ["sft", "rl"])
    page = read(build(tmp_path / "bare"))
    check_self_contained(page)
    assert "Stage sft is in the recipe but has not run" in page.text
    assert "nothing is known about accuracy" in page.text


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(EosinError, match="not the folder of a run"):
            build(place)


HOSTILE = (
    '</bdi></td></article><script>alert(1)</script><img src=x onerror="alert(2)">"\' onload=alert(3) '
    "{{ 7*7 }} {% include 'x' %} &lt;b&gt; \x00\x1b[31m \ud800 \u202e $\\frac{1}{0}$ <think>a</answer><svg onload=a>"
)


def test_hostile_text_stays_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic_run, "reply_of", lambda letter, text: HOSTILE.replace("\ud800", ""))
    root = write_run(tmp_path / "run", {"base": 0.2, "rl": 0.8}, num_cases=12)
    for path in root.glob("evals/*/*/predictions.jsonl"):
        rows = store.read_jsonl(path)
        for row in rows:
            row |= {"question": HOSTILE, "label": HOSTILE, "choices": {"A": HOSTILE}, "unparsed_reason": HOSTILE}
        path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    for path in [*root.glob("**/*.json"), root / "stages/rl/rollouts.jsonl", root / "stages/rl/metrics.jsonl"]:
        if path.name == "manifest.json":
            continue
        text = path.read_text("utf-8")
        bad = json.dumps(HOSTILE)[1:-1]
        for word in (
            *LABELS,
            "Apache-2.0",
            "image file missing",
            "colour_histogram",
            "reward/format",
            "learning_rate",
            "0.1.0",
        ):
            text = text.replace(f'"{word}"', f'"{bad}{word}"')
        path.write_text(text, encoding="utf-8")
    out = build(root)
    page = read(out)
    check_self_contained(page)
    assert page.text.count("<script>alert(1)</script>") >= 10
    assert "{{ 7*7 }}" in page.text
    assert "\x00" not in out.read_text("utf-8") and "\x1b" not in out.read_text("utf-8")


def test_stage_named_like_a_path_or_a_tag_is_escaped(run: Path) -> None:
    bad = 'a" onmouseover="x&<b>'
    (run / "stages/rl").rename(run / "stages" / bad)
    summary = store.read_json(run / "summary.json")
    summary["stages"][-1]["name"] = bad
    store.write_json(run / "summary.json", summary)
    page = read(build(run))
    check_self_contained(page)
    assert bad in page.text


JUNK: tuple[Any, ...] = (None, -1, "text", [], {}, [None], {"a": None}, float("nan"), 10**30, True)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, inner in items:
        found += _places(inner, (*path, key))
    return found


def _put(value: Any, path: tuple[Any, ...], junk: Any) -> Any:
    copy = json.loads(json.dumps(value))
    place = copy
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = junk
    return copy


@pytest.mark.parametrize(
    "name",
    ["samples/card.json", "stages/rl/stage.json", "evals/rl/heldout/summary.json", "baselines.json", "summary.json"],
)
def test_junk_in_any_field_never_stops_the_page(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every field in turn holds junk of another type. Curves and pictures do not depend on it and are left out."""
    monkeypatch.setattr("eosin.report.sections.overview.stage_curves", lambda *_: [])
    monkeypatch.setattr("eosin.report.drawing.figures.Chart.svg", lambda self: "")  # drawn, but not written: slow
    monkeypatch.setattr("eosin.report.records.stats.NUM_RESAMPLES", 10)
    run = write_run(tmp_path / "run", {"base": 0.2, "rl": 0.8}, num_cases=6)
    (run / "recipe.yaml").write_text("name: junk\nreport: {gallery: 0}\n", encoding="utf-8")
    (run / "stages/rl/rollouts.jsonl").unlink()
    good = store.read_json(run / name)
    if name == "summary.json":
        good["stages"] = good["stages"][-1:]
        good["stages"][0]["exams"]["heldout"] = {"accuracy": 0.5}
    for i, path in enumerate(_places(good)):
        text = json.dumps(_put(good, path, JUNK[i % len(JUNK)]))
        (run / name).write_text(text, encoding="utf-8")
        page = read(build(run))
        assert page.wrong == [] and "Research use only" in page.text, path


def test_junk_rows_in_the_logs_never_stop_the_page(run: Path) -> None:
    rows: list[Any] = [
        {},
        [],
        3,
        {"step": "x"},
        {"step": 1, "loss": None},
        {"step": 2, "loss": "nan", "reward": float("inf")},
    ]
    rows += [{"step": 3, "loss": 1.0, "terms": 4}, {"id": 5, "choices": [], "reply": {"a": 1}, "correct": "yes"}]
    text = "".join(json.dumps(r) + "\n" for r in rows) + '{"step": 9, "cut o'
    for path in ("stages/rl/metrics.jsonl", "stages/rl/rollouts.jsonl", "evals/rl/heldout/predictions.jsonl"):
        (run / path).write_text(text, encoding="utf-8")
    check_self_contained(read(build(run)))


def test_images_beyond_the_budget_are_left_out_and_told(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eosin.report.drawing.pictures.MAX_PAGE_BYTES", 20_000)
    out = build(run)
    page = read(out)
    assert 1 <= len(page.all("img")) < 16
    assert "images were left out to keep this page small" in page.text


def test_a_run_on_real_data_is_not_called_phantom(run: Path) -> None:
    card = store.read_json(run / "samples/card.json")
    store.write_json(run / "samples/card.json", {**card, "name": "colorectal tiles"})
    (run / "recipe.yaml").write_text("name: colorectal\ndata: {source: folder, root: tiles}\n", encoding="utf-8")
    assert not load(run).is_phantom
    assert "PHANTOM" not in read(build(run)).text


def test_report_imports_no_torch_and_no_transformers() -> None:
    code = (
        "import sys, eosin.report, eosin.report.drawing.curves, eosin.report.sections.overview;"
        "print([m for m in ('torch', 'transformers', 'trl') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_cli_builds_the_page(whole: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from eosin.cli.exams.report import app

    out = tmp_path / "page.html"
    result = CliRunner().invoke(app, [str(whole), "--out", str(out)])
    assert result.exit_code == 0 and str(out.resolve()) in result.stdout.replace("\n", "")
    assert out.is_file()
    assert "Example" in CliRunner().invoke(app, ["--help"]).stdout
