"""What the page shows of reinforcement learning: figures by hand, groups, images, collapse, size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from synthetic_run import write_run
from test_report_page import read

from eosin.core.store import artifacts as store
from eosin.report import build, words
from eosin.report.drawing.curves import stage_curves
from eosin.report.drawing.pictures import load_thumbnails
from eosin.report.records.load import StageRun, load
from eosin.report.sections.replies import groups_a_stage, rollout_groups
from eosin.report.sections.rl import checks, figures_table, prompts_seen, rl_sections, term_names_of, train_seconds


def plain(text: str) -> str:
    return text.replace("\u00a0", " ").replace("\u202f", " ")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("rl") / "run")


def test_figures_by_hand() -> None:
    rows = [{"step": i, "reward": i / 10, "frac_zero_std": 0.5, "reward/format": 1.0} for i in range(10)]
    table = {r["name"]: r for r in figures_table(rows, ["format"])}
    assert {k: plain(v) for k, v in table["reward, mean"].items()} == {
        "name": "reward, mean", "first": "0.05", "last": "0.85", "low": "0", "high": "0.9",
    }  # fmt: skip
    assert plain(table["groups without variance"]["last"]) == "50.0 %"
    assert "reward term format" in table and len(table) == 3
    assert list(table) == ["reward, mean", "reward term format", "groups without variance"]


def test_sums_count_every_step() -> None:
    """A row that is logged every fifth step stands for five; a resumed run repeats none."""
    rows = [
        {"step": s, "groups_dropped": 2.0, "prompts_seen": 10 * s, "seconds": s, "valid_seconds": 0.5} for s in (5, 10)
    ]
    stage = StageRun("rl", {"kind": "rl"}, "complete", metrics=[*rows, dict(rows[1])])
    facts = dict(rl_sections_of(stage)["facts"])
    assert "of which 20 groups (20 %)" in plain(facts["prompts seen"])
    assert train_seconds(stage) == 9.5


def rl_sections_of(stage: StageRun) -> dict[str, Any]:
    from types import SimpleNamespace

    run = SimpleNamespace(stages=[stage], recipe={}, start_of=lambda _: "sft")
    return rl_sections(run)[0]  # type: ignore[arg-type]


def test_prompts_of_a_stage_that_logs_none_follow_from_its_settings() -> None:
    settings = {"batch_size": 64, "gradient_accumulation": 2, "num_generations": 8}
    assert prompts_seen(StageRun("r", {"kind": "rl", "settings": settings, "num_steps": 10}, "complete")) == 160
    assert prompts_seen(StageRun("s", {"kind": "sft", "settings": settings, "num_steps": 10}, "complete")) == 1280
    assert prompts_seen(StageRun("s", {"kind": "sft"}, "complete")) is None


def test_checks_of_either_place_are_told() -> None:
    found = {"round_trip": {"largest_difference": 3.8e-6, "passed": True, "num_tokens": 512, "backend": "dense"}}
    for info in ({"checks": found}, {"extra": {"checks": found}}):
        [check] = checks(StageRun("rl", info, "complete"))
        assert check["name"] == "round trip"
        assert dict(check["figures"]) == {
            "largest difference": "3.8e-06", "passed": "yes", "num tokens": "512", "backend": "dense",
        }  # fmt: skip
    assert not list(checks(StageRun("rl", {"checks": [1]}, "complete")))


def test_page_shows_algorithm_terms_checks_and_curves(whole: Path) -> None:
    page = read(build(whole))
    for text in (
        "DAPO+{beta=0.01}", "Check at start, round trip", "3.8e-06", "reward term accuracy",
        "groups replaced in a step", "batches used short of full groups", "gave way to fresh prompts",
    ):  # fmt: skip
        assert text in page.text, text
    titles = [a["aria-label"] or "" for a in page.all("svg")]
    for title in (
        "Reward, each term", "Groups of a step", "Entropy", "KL", "Clipped ratios", "Truncated and unparsed",
        "Length of a completion", "Tokens generated a second", "Where the time of a step goes", "Prompts seen",
        "Spread of reward", "Batches generated", "Held-out accuracy of stage rl over prompts seen",
        "Held-out accuracy of stage rl over seconds of training", "Completions without a score",
    ):  # fmt: skip
        assert any(t.startswith(title) for t in titles), title
    assert page.wrong == [] and page.open == []


def test_shares_are_stacked_to_one() -> None:
    rows = [{"step": s, "share_generate": 0.5, "share_rewards": 0.1, "share_loss": 0.4} for s in range(1, 9)]
    [drawn] = stage_curves(rows, "rl", "rl", "x")
    assert "generation from 0.5 to 0.5; rewards from 0.1 to 0.1; loss and update from 0.4 to 0.4" in drawn.svg
    single = stage_curves(rows[:1], "rl", "rl", "x")
    assert len(single) == 1 and "<path" in single[0].svg


def test_events_of_rewards_are_not_drawn_as_terms() -> None:
    rows = [{"step": s, "reward/format": 1.0, "reward/repeats": 0.1 * s} for s in range(1, 5)]
    drawn = [d.svg for d in stage_curves(rows, "rl", "rl", "x", ["format"])]
    assert len(drawn) == 2
    assert any("Reward, each term" in d and "repeats" not in d for d in drawn)
    assert any("What the rewards saw" in d and "repeats" in d for d in drawn)


def test_sources_and_penalties_are_named_as_terms() -> None:
    own = {"terms": [{"name": "accuracy"}], "penalties": [{"name": "overlong"}]}
    rewards = {"label": "x", "sources": {"a": own, "b": {"terms": [{"name": "sharp"}, {"name": "accuracy"}]}}}
    stage = StageRun("rl", {"kind": "rl", "rewards": rewards}, "complete")
    assert term_names_of(stage) == ("accuracy", "overlong", "sharp")
    rows = [{"step": s, "reward_of/a": 0.1 * s, "reward_of/b": 0.5, "reward/overlong": -0.1} for s in range(1, 5)]
    drawn = [d.svg for d in stage_curves(rows, "rl", "rl", "x", term_names_of(stage))]
    assert any("Reward, each source" in d and "a from 0.1 to 0.4; b from 0.5" in d for d in drawn)
    assert any("Reward, each term" in d and "overlong from -0.1" in d for d in drawn)
    assert len(drawn) == 2
    assert "reward of the source a" in [r["name"] for r in figures_table(rows)]


def with_images(root: Path, names: list[str]) -> None:
    rows = store.read_jsonl(root / "stages/rl/rollouts.jsonl")
    for row in rows:
        row |= {"images": names, "fate": "kept", "in_loss": True, "answer": "A"}
    rows[-4:] = [r | {"fate": "no variance", "in_loss": False, "advantage": None} for r in rows[-4:]]
    text = "".join(json.dumps(r) + "\n" for r in rows)
    (root / "stages/rl/rollouts.jsonl").write_text(text, "utf-8")


def test_groups_show_their_own_images_and_what_became_of_them(tmp_path: Path) -> None:
    root = write_run(tmp_path / "run")
    here = root / "stages/rl/rollouts/images"
    here.mkdir(parents=True)
    for i in range(2):
        Image.new("RGB", (300, 200), "pink").save(here / f"a-{i}.jpg")
    with_images(root, ["rollouts/images/a-0.jpg", "rollouts/images/a-1.jpg", "../../../secret.jpg"])
    Image.new("RGB", (50, 50)).save(tmp_path / "secret.jpg")
    page = read(build(root))
    shown = [a for a in page.all("img") if (a["alt"] or "").startswith("Image of the prompt")]
    assert len(shown) == 10  # five groups, two images each; the one outside of the stage's folder is left out
    assert "all replies earned the same, and another prompt took its place" in page.text
    assert "gold answer" in page.text
    rows = [a for a in page.all("tr") if "--a:" in (a.get("style") or "")]
    assert {a["class"] for a in rows} >= {"up", "down"}


def test_thumbnails_that_are_missing_are_told(tmp_path: Path) -> None:
    [found] = load_thumbnails(tmp_path, ["rollouts/images/none.jpg"])
    assert found.uri is None and "missing" in found.why_not
    assert load_thumbnails(tmp_path / "in", ["../x.jpg"]) == []


def test_groups_are_bounded_and_one_replaced_group_is_shown() -> None:
    assert [groups_a_stage(n) for n in (0, 1, 3, 5, 50)] == [6, 6, 6, 3, 2]
    rows = [
        {"step": s, "sample_id": f"s{g}", "group": g, "reward": r, "fate": "kept" if g else "no variance"}
        for s in range(1, 40)
        for g in (0, 1)
        for r in ((1, 1) if g == 0 else (0, 1))
    ]
    groups = rollout_groups(StageRun("rl", {}, "complete", rollouts=rows))
    assert [g.fate for g in groups] == ["kept"] * 5 + ["no variance"]


def test_collapse_is_told_on_the_page(tmp_path: Path) -> None:
    root = write_run(tmp_path / "run")
    folder = root / "stages/rl"
    (folder / "stage.json").unlink()
    (folder / "checkpoint" / store.MANIFEST).unlink()
    store.write_json(
        folder / "collapse.json",
        {"step": 12, "since": 8, "seen": ["entropy 0.0002 nats a token, at or below 0.001"], "last_good": "last_good",
         "last_good_step": 6},
    )  # fmt: skip
    run = load(root)
    assert run.stages[-1].state == "collapsed" and run.stages[-1].kind == "rl"
    [told] = [w for w in words.warnings(run) if "collapsed" in w]
    assert "entropy 0.0002" in told and "from 8 to 12" in told and "stages/rl/last_good, after 6 steps" in told
    assert "collapsed" in read(build(root)).text


def test_old_runs_without_the_new_figures_still_have_a_page(tmp_path: Path) -> None:
    root = write_run(tmp_path / "run")
    old = ("step", "seconds", "loss", "reward", "reward/accuracy", "kl")
    rows = [{k: r[k] for k in old} for r in store.read_jsonl(root / "stages/rl/metrics.jsonl")]
    (root / "stages/rl/metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), "utf-8")
    info = store.read_json(root / "stages/rl/stage.json")
    store.write_json(root / "stages/rl/stage.json", {k: v for k, v in info.items() if k not in ("checks", "rewards")})
    (root / "summary.json").unlink()
    page = read(build(root))
    assert "reward, mean" in page.text and "Check at start" not in page.text


def test_page_stays_small(whole: Path) -> None:
    assert build(whole).stat().st_size < 1_500_000
