"""Names of strangers become names of files; paths of strangers stay in their folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eosin.core.store.names import MAX_BYTES, file_name, inside, is_file_name

FIT = ["heldout", "slide 7", "TCGA-A1-A0SB-01Z-00-DX1", "Präparat.2", "ausstrich_01", "肝臓", "a.b.c"]
UNFIT = [
    "", ".", "..", "../../../x", "/etc/passwd", "a/b", "a\\b", "C:x", "x\0y", "line\nbreak", " lead", "trail ", "dot.",
    ".hidden", "nul", "CON.txt", "x" * 300, "é" * 100, "\ud800", "a\u2028b", "*?",
]  # fmt: skip


@pytest.mark.parametrize("text", FIT)
def test_a_fit_name_stays_as_it_is(text: str) -> None:
    assert file_name(text) == text


@pytest.mark.parametrize("text", UNFIT)
def test_an_unfit_text_becomes_one_part_of_a_path(text: str, tmp_path: Path) -> None:
    name = file_name(text)
    assert is_file_name(name) and not is_file_name(text)
    (tmp_path / name).write_text("x", "utf-8")
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_two_texts_never_share_a_name() -> None:
    assert len({file_name(t) for t in [*FIT, *UNFIT, "a_b", "a//b", "x" * 301]}) == len(FIT) + len(UNFIT) + 3


@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_any_text_gives_a_name(text: str) -> None:
    name = file_name(text)
    assert (
        is_file_name(name)
        and len(name.encode("utf-8")) <= MAX_BYTES
        and "/" not in name
        and name not in ("", ".", "..")
    )


def test_a_path_of_a_stranger_stays_inside(tmp_path: Path) -> None:
    root = tmp_path / "data"
    (root / "deep").mkdir(parents=True)
    (tmp_path / "secret").write_text("s", "utf-8")
    (root / "link").symlink_to(tmp_path / "secret")
    (root / "loop").symlink_to(root / "loop")
    assert inside(root, "deep/a.png") == (root / "deep" / "a.png").resolve()
    assert inside(root, "deep/../b.png") == (root / "b.png").resolve()
    for name in ("../secret", "/etc/passwd", "link", "deep/../../secret", "x\0", "", ".", "\ud800"):
        assert inside(root, name) is None, name
