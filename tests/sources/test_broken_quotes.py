"""A table with a quotation mark too many loses that line, by name, and no other."""

from __future__ import annotations

from pathlib import Path

from eosin.core.nouns.outcome import Dropped
from eosin.sources.table import read_cells, row_of


def test_only_the_broken_line_is_lost(tmp_path: Path) -> None:
    text = 'id,text\n1,"a ""good"" one"\n2,"never closed\n3,plain\n4,"over\ntwo lines"\n5,end\n'
    (tmp_path / "t.csv").write_text(text, "utf-8")
    header, rows = read_cells(tmp_path / "t.csv")
    made = [row_of(header, cells, f"t.csv:{number}") for number, cells in rows]
    kept = [m for m in made if not isinstance(m, Dropped)]
    lost = [m for m in made if isinstance(m, Dropped)]
    assert kept == [
        {"id": "1", "text": 'a "good" one'}, {"id": "3", "text": "plain"}, {"id": "4", "text": "over\ntwo lines"},
        {"id": "5", "text": "end"},
    ]  # fmt: skip
    assert [(d.id, d.reason) for d in lost] == [("t.csv:3", "quotation mark not closed")]


def test_a_mark_that_is_never_closed_takes_no_rows_with_it(tmp_path: Path) -> None:
    rows = "".join(f"{i},row {i}\n" for i in range(50))
    (tmp_path / "t.csv").write_text(f'id,text\n"x,lost\n{rows}', "utf-8")
    header, found = read_cells(tmp_path / "t.csv")
    assert [cells[0] for _, cells in found[1:]] == [str(i) for i in range(50)]
    assert [number for number, _ in found] == list(range(2, 53))
