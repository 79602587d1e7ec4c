"""What was spent before a restart is known after it, also where a kill cut it short."""

from __future__ import annotations

from pathlib import Path

from eosin.clients.ledger import Ledger


def test_calls_that_never_ended_cost_their_worst_case(tmp_path: Path) -> None:
    path = tmp_path / "exam" / "spent.jsonl"
    first = Ledger(path)
    assert not path.exists() and not any(first.before.values())
    numbers = [first.admitted(0.5, again=k == 2) for k in range(4)]
    first.ended(numbers[0], {"prompt_tokens": 100, "completion_tokens": 10, "cost": 0.25})
    first.ended(numbers[1], {"cost_assumed": 0.5, "unreported": 1})
    first.ended(numbers[2], {})  # the server did no work for it
    assert Ledger(path).before == {
        "calls": 4, "retries": 1, "prompt_tokens": 100, "completion_tokens": 10, "cost": 0.25, "cost_assumed": 1.0,
        "unreported": 2,
    }  # fmt: skip


def test_a_line_that_a_kill_cut_off_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "spent.jsonl"
    first = Ledger(path)
    first.ended(first.admitted(1.0, again=False), {"cost": 0.5})
    with path.open("a") as file:
        file.write('{"ended": 7, "co')
    second = Ledger(path)
    second.ended(second.admitted(1.0, again=True), {"cost": 0.25})
    found = Ledger(path).before
    assert (found["calls"], found["retries"], found["cost"], found["cost_assumed"]) == (2, 1, 0.75, 0.0)
