"""Artifacts are whole or do not exist: after an error, on a full disk, after a kill."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from eosin.core.errors import EosinError
from eosin.core.store import artifacts as store
from eosin.core.store.artifacts import append_jsonl, exists, open_artifact, read_json, read_jsonl, write_json, writing

SOURCE = Path(__file__).resolve().parents[2] / "src"


def _write(path: Path, text: str = "hello", **options: object) -> None:
    with writing(path, "samples", **options) as writer:  # type: ignore[arg-type]
        (writer.dir / "sub").mkdir()
        (writer.dir / "sub" / "a.txt").write_text(text)
        writer.counts["rows"] = 3
        writer.facts["colour"] = "pink"


def test_a_whole_artifact_opens_with_counts_facts_and_record(tmp_path: Path) -> None:
    _write(tmp_path / "s", record={"seed": 7})
    artifact = open_artifact(tmp_path / "s", "samples", verify=True)
    assert artifact.manifest["counts"] == {"rows": 3}
    assert artifact.manifest["colour"] == "pink"
    assert artifact.manifest["record"]["seed"] == 7
    assert "not for diagnosis" in artifact.manifest["record"]["note"]
    assert set(artifact.manifest["parts"]) == {"sub/a.txt", "README.md"}
    assert [p.name for p in tmp_path.iterdir()] == ["s"]


def test_the_digest_depends_on_the_content_only(tmp_path: Path) -> None:
    for name, text in (("a", "x"), ("b", "x"), ("c", "y")):
        _write(tmp_path / name, text)
    a, b, c = (open_artifact(tmp_path / n).digest for n in "abc")
    assert a == b != c


def test_parents_are_named_by_digest(tmp_path: Path) -> None:
    _write(tmp_path / "a")
    parent = open_artifact(tmp_path / "a")
    _write(tmp_path / "b", parents=[parent])
    assert open_artifact(tmp_path / "b").manifest["parents"] == [
        {"path": "a", "kind": "samples", "digest": parent.digest}
    ]


def test_an_exception_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), writing(tmp_path / "s", "samples") as writer:
        (writer.dir / "a.txt").write_text("x")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten_unless_asked(tmp_path: Path) -> None:
    _write(tmp_path / "s", "old")
    with pytest.raises(EosinError, match="never overwrites"):
        _write(tmp_path / "s", "new")
    assert (tmp_path / "s" / "sub" / "a.txt").read_text() == "old"
    _write(tmp_path / "s", "new", replace=True)
    assert (tmp_path / "s" / "sub" / "a.txt").read_text() == "new"


def test_a_failed_replacement_keeps_the_old(tmp_path: Path) -> None:
    _write(tmp_path / "s", "old")
    with pytest.raises(ZeroDivisionError), writing(tmp_path / "s", "samples", replace=True):
        raise ZeroDivisionError
    assert (open_artifact(tmp_path / "s", verify=True).path / "sub" / "a.txt").read_text() == "old"


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EosinError, match="disk is full") as caught:
        _write(tmp_path / "s")
    assert str(tmp_path) in str(caught.value)
    assert "free some space" in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(EosinError, match="disk is full"):
        write_json(tmp_path / "a.json", {"a": 1})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "message"), [(errno.EROFS, "read-only"), (errno.EACCES, "not permitted"), (errno.EDQUOT, "quota")]
)
def test_other_faults_of_a_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, message: str) -> None:
    def refuse(_: int) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(EosinError, match=message):
        write_json(tmp_path / "a.json", {})


def test_a_fault_in_the_block_that_is_no_disk_fault_is_not_renamed(tmp_path: Path) -> None:
    with pytest.raises(ConnectionError), writing(tmp_path / "s", "samples"):
        raise ConnectionError(errno.ECONNRESET, "reset")


LIMITED = """
import resource, signal, sys
from pathlib import Path
from eosin.core.errors import EosinError
from eosin.core.formats import write_samples
from eosin.core.nouns.sample import ImageBytes, Origin, Sample, user_prompt
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
samples = [
    Sample(id=str(i), images=(ImageBytes(data=bytes(9000)),), messages=user_prompt("?"), origin=Origin(source="t"))
    for i in range(50)
]
for name in ("s.parquet", "s.jsonl", "s.json", "folder"):
    try:
        write_samples(samples, Path(sys.argv[1]) / name)
    except EosinError as exc:
        print(exc.message)
"""


def test_a_write_that_the_system_cuts_off_leaves_no_half_file(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    done = _python(LIMITED, str(out), check=True)
    # The JSON of 50 rows stays under the limit: its images stand in files of their own.
    assert done.stdout.splitlines() == ["The file would be larger than is allowed here."] * 3
    assert {p.name for p in out.iterdir()} <= {"s.json", "s_images"}


KILLED = """
import sys, time
from pathlib import Path
from eosin.core.store.artifacts import writing
with writing(Path(sys.argv[1]), "samples") as writer:
    (writer.dir / "a.txt").write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


def test_a_killed_process_leaves_no_artifact_and_does_not_stand_in_the_way(tmp_path: Path) -> None:
    path = tmp_path / "s"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True, env=_environment()
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "writing"
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    assert not path.exists()
    assert not exists(path)
    with pytest.raises(EosinError, match="no whole artifact"):
        open_artifact(path)
    _write(path)
    assert open_artifact(path, verify=True).manifest["counts"] == {"rows": 3}


KILLED_REPLACING = """
import itertools, sys
from pathlib import Path
from eosin.core.store.artifacts import writing
for i in itertools.count(1):
    with writing(Path(sys.argv[1]), "samples", replace=True) as writer:
        (writer.dir / "a.txt").write_text(str(i))
    print(i, flush=True)
"""


def test_a_process_killed_while_replacing_leaves_a_whole_artifact(tmp_path: Path) -> None:
    path = tmp_path / "s"
    for pause in (0.0, 0.003, 0.011):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED_REPLACING, str(path)],
            stdout=subprocess.PIPE, text=True, env=_environment(),
        )  # fmt: skip
        assert process.stdout is not None
        for _ in range(3):
            assert process.stdout.readline()
        time.sleep(pause)
        process.kill()
        process.wait(timeout=30)
        process.stdout.close()
        assert open_artifact(path, "samples", verify=True).path.joinpath("a.txt").read_text().isdigit()


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(SOURCE)}


def _python(code: str, *arguments: str, check: bool) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        capture_output=True, text=True, timeout=120, check=check, env=_environment(),
    )  # fmt: skip


def test_a_folder_without_a_manifest_does_not_exist(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    with pytest.raises(EosinError, match="no whole artifact") as caught:
        open_artifact(tmp_path / "s")
    assert "cut off" in str(caught.value.found)


def test_another_kind_a_later_schema_and_a_changed_part_are_refused(tmp_path: Path) -> None:
    _write(tmp_path / "s")
    with pytest.raises(EosinError, match="another kind"):
        open_artifact(tmp_path / "s", "checkpoint")
    manifest = read_json(tmp_path / "s" / "manifest.json")
    (tmp_path / "s" / "sub" / "a.txt").write_text("changed")
    open_artifact(tmp_path / "s")
    with pytest.raises(EosinError, match="changed after"):
        open_artifact(tmp_path / "s", verify=True)
    write_json(tmp_path / "s" / "manifest.json", {**manifest, "schema_version": 99})
    with pytest.raises(EosinError, match="later Eosin"):
        open_artifact(tmp_path / "s")


def test_json_lines_survive_a_kill_and_odd_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    assert read_jsonl(path) == []
    rows = [{"text": "a\u2028b\u0085c\nd\x0b"}, {"n": 1}]
    append_jsonl(path, rows)
    assert read_jsonl(path) == rows
    with path.open("ab") as handle:
        handle.write('{"text": "cut off é'.encode()[:-1])  # cut inside a character
    assert read_jsonl(path) == rows
    append_jsonl(path, [{"n": 2}])
    assert read_jsonl(path) == [*rows, {"n": 2}]
    append_jsonl(path, [])
    assert len(path.read_bytes().split(b"\n")) == 4


def test_a_file_that_is_only_a_cut_off_line_is_begun_again(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(b"x" * 200_000)
    append_jsonl(path, [{"n": 1}])
    assert read_jsonl(path) == [{"n": 1}]


def test_a_broken_line_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"n": 1}\n{broken\n{"n": 2}\n')
    with pytest.raises(EosinError, match="not valid JSON") as caught:
        read_jsonl(path)
    assert str(caught.value.where).endswith("m.jsonl:2")


def test_read_json_names_missing_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(EosinError, match="no such file"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(EosinError, match="not valid JSON"):
        read_json(tmp_path / "a.json")


def test_numbers_that_json_has_not_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_sha256_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, example B.1
    assert store.sha256_file(tmp_path / "a") == known


ODD_MANIFESTS = [
    "[]", "3", '"text"', "null", "{}", '{"kind": 3}', '{"kind": "samples", "digest": 1, "parts": {}}',
    '{"kind": "samples", "digest": "x", "parts": []}', '{"kind": "samples", "digest": "x", "parts": {"a": "b"}}',
    '{"schema_version": "1", "kind": "samples", "digest": "x", "parts": {}}',
    '{"schema_version": [1], "kind": "samples", "digest": "x", "parts": {}}',
    '{"kind": "samples", "digest": "x", "parts": {}, "parents": [3]}',
    '{"kind": "samples", "digest": "x", "parts": {}, "counts": {"samples": "many"}}', "[" * 100_000, '{"a": ', "\x00",
]  # fmt: skip


@pytest.mark.parametrize("text", ODD_MANIFESTS, ids=range(len(ODD_MANIFESTS)))
def test_a_manifest_of_any_structure_is_an_error_that_names_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / store.MANIFEST).write_text(text, "utf-8")
    with pytest.raises(EosinError) as caught:
        store.open_artifact(tmp_path / "a")
    assert store.MANIFEST in str(caught.value)


def test_manifests_found_by_fuzzing(shared_data: Path) -> None:
    from eosin.core.formats import read_samples

    for folder in sorted((shared_data / "odd_files").glob("manifest-*")):
        for read in (store.open_artifact, read_samples):
            try:
                read(folder)
            except EosinError as exc:
                assert folder.name in str(exc)


@pytest.mark.parametrize("text", ["[]", "3", "null", '"a"', "[" * 100_000, "{"], ids=range(6))
def test_a_record_that_is_no_object_is_an_error_that_names_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "summary.json").write_text(text, "utf-8")
    with pytest.raises(EosinError, match="summary.json"):
        store.read_object(tmp_path / "summary.json")
    (tmp_path / "rows.jsonl").write_text(text + "\n{}\n", "utf-8")
    with pytest.raises(EosinError, match="rows.jsonl:1"):
        store.read_jsonl(tmp_path / "rows.jsonl")
