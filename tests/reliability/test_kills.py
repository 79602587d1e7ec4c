"""A short form of `python -m tests.reliability`: kills where a result takes its place. The long form is one command."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import forked

ROOT = Path(__file__).resolve().parents[2]
# Before marks of completion, renames and removals: the points where faults were found, or would be.
POINTS = {
    "run": (8, 88, 229, 412),
    "evaluate": (5, 59),
    "rl-data": (14, 26),
    "slides features": (13, 20),
    "slides tiles": (7, 12),
    "knowledge build": (9, 12),
    "phantom tiles": (11,),
    "score": (4,),
}
FEW = {"run": (229,), "slides features": (13,)}


@pytest.mark.parametrize("points", [FEW, pytest.param(POINTS, marks=pytest.mark.long)], ids=["few", "all"])
def test_killed_at_chosen_file_operations_and_given_again_everything_is_whole_and_equal(
    points: dict[str, tuple[int, ...]],
) -> None:
    at = [f"{verb}:{n}" for verb, numbers in points.items() for n in numbers]
    done = forked.run(["-m", "tests.reliability", "--verbs", *points, "--at", *at], cwd=ROOT)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert f"{'all':<18}{len(at):>11}{len(at):>8}{0:>8}" in done.stdout
