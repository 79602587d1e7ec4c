"""Corrections: kept version by version, once whatever happens, compared, and given out as samples and shapes."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
import urllib.request
import uuid
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

import numpy as np
import pytest
from tests.serve.scripted import scripted_engine, scripted_room, write_slides
from tests.serve.served import serving
from tests.serve.stores import KINDS, place_of_store
from tests.support import forked

from eosin.core.errors import EosinError
from eosin.core.nouns.prompt import REJECTED, gold_reply
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import SlideBag
from eosin.serve.corrections.agreement import agreement
from eosin.serve.corrections.archive import files_of
from eosin.serve.corrections.body import CorrectedStatement, Correction, Region
from eosin.serve.corrections.samples import samples_of
from eosin.serve.corrections.shapes import label_studio, shapes_of, with_shapes
from eosin.serve.corrections.store import CorrectionStore, OtherContentError, without_password
from eosin.slides.annotations.geojson import write_geojson
from eosin.slides.annotations.geojson_read import read_geojson

GRAMMAR = Grammar.of("info/think/answer", numbered_steps=True)
REPLY = "<info>Mitoses are frequent.</info>\n<think>1. Stroma is pale.</think>\n<answer>adenoma</answer>"


def reading(id: str | None = None, slide: str = "a" * 16, **more: Any) -> dict[str, Any]:
    told = [
        {"id": "s1", "block": "findings", "text": "Mitoses are frequent.",
         "evidence": {"boxes": [{"um": [0, 0, 50, 50], "px": [0, 0, 100, 100]}]}},
        {"id": "s2", "block": "reasoning", "text": "Stroma is pale."},
    ]  # fmt: skip
    return {"id": id or uuid.uuid4().hex, "slide": slide, "slide_name": "a", "question": "What is it?", "options": [],
            "created": time.time(), "reply": REPLY, "answer": "adenoma", "statements": told, **more}  # fmt: skip


def correction(reader: str = "AB", *, key: str | None = None, **more: Any) -> Correction:
    kept = [
        CorrectedStatement(id="s1", block="findings", text="Mitoses are frequent."),
        CorrectedStatement(id="s2", block="reasoning", text="Stroma is pale."),
    ]
    values = {"answer": "adenoma", "statements": kept, "is_signed": True, **more}
    return Correction(key=key or uuid.uuid4().hex, reader=reader, **values)


@pytest.fixture(params=KINDS)
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with place_of_store(request.param, tmp_path) as place:
        yield place


@pytest.fixture
def store(where: str) -> Iterator[CorrectionStore]:
    made = CorrectionStore(where)
    yield made
    made.close()


def keep(store: CorrectionStore, *corrections: Correction, image: str | None = None, **more: Any) -> str:
    told = reading(**more)
    store.add_reading(told, SlideBag(path="/f/a.h5", slide="/s/a.svs").model_dump_json() if image is None else image)
    for one in corrections:
        store.add(told["id"], one)
    return str(told["id"])


def test_every_version_is_kept_and_a_key_counts_once(store: CorrectionStore) -> None:
    first, second = correction(is_signed=False), correction(answer="carcinoma")
    id = keep(store, first, second)
    assert store.add(id, first).version == 1  # sent again
    assert [(v.version, v.correction.answer) for v in store.versions(id)] == [(1, "adenoma"), (2, "carcinoma")]
    with pytest.raises(OtherContentError):
        store.add(id, correction(key=first.key, comment="other"))
    with pytest.raises(OtherContentError):
        store.add(keep(store), first)
    with pytest.raises(EosinError, match="no such reading"):
        store.add("f" * 32, correction())
    assert CorrectionStore(store.where).versions(id) == store.versions(id)


def test_the_log_is_written_ahead_and_flushed(tmp_path: Path) -> None:
    with CorrectionStore(tmp_path / "c.sqlite").engine.connect() as connection:
        told = {n: connection.exec_driver_sql(f"PRAGMA {n}").scalar() for n in ("journal_mode", "synchronous")}
    assert told == {"journal_mode": "wal", "synchronous": 2}  # 2 is FULL


def test_a_store_of_a_later_eosin_or_of_no_kind_is_refused(tmp_path: Path, store: CorrectionStore) -> None:
    with store.engine.begin() as connection:
        connection.exec_driver_sql("update about set value = '99'")
    with pytest.raises(EosinError, match="later Eosin"):
        CorrectionStore(store.where)
    (tmp_path / "x.sqlite").write_bytes(b"no database at all" * 99)
    with pytest.raises(EosinError, match="cannot be opened"):
        CorrectionStore(tmp_path / "x.sqlite")
    with pytest.raises(EosinError) as told:
        CorrectionStore("postgresql+nodriver://me:secret@host/db")
    assert "secret" not in str(told.value)


def test_writers_that_come_together_get_numbers_without_gaps(store: CorrectionStore) -> None:
    id = keep(store)
    threads = [
        threading.Thread(target=lambda: [store.add(id, correction(comment=str(i))) for i in range(5)]) for _ in range(6)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert [v.version for v in store.versions(id)] == list(range(1, 31))


SERVER = """
import sys, uvicorn
from pathlib import Path
from fastapi import FastAPI
from eosin.core.nouns.reply import Grammar
from eosin.serve.corrections.router import corrections_router
from eosin.serve.corrections.store import CorrectionStore
from eosin.serve.settings import ServeSettings
app = FastAPI()
app.include_router(corrections_router(CorrectionStore(sys.argv[1]), None, ServeSettings()))
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="error")
"""


def serve(path: str, port: int) -> Any:
    return forked.start(["-c", SERVER, path, str(port)])


def test_none_is_lost_and_none_is_there_twice_when_the_server_is_killed(store: CorrectionStore, where: str) -> None:
    """20 clients, each sending until it is told that its correction is kept; the server is killed while they do.

    EOSIN_CORRECTIONS_EACH=50 makes it the 1,000 corrections of the long form.
    """
    clients, each, kills = 20, int(os.environ.get("EOSIN_CORRECTIONS_EACH", "5")), 2
    # Below the ports that systems give to clients: none of these may connect to itself while no server listens.
    port = random.Random(os.getpid()).randint(12_000, 30_000)
    id = keep(store)
    bodies = [[correction(f"R{c}", comment=str(n)) for n in range(each)] for c in range(clients)]
    confirmed: list[str] = []

    def client(own: list[Correction]) -> None:
        for body in own:
            data = body.model_dump_json().encode()
            for _ in range(20_000):
                asked = urllib.request.Request(
                    f"http://127.0.0.1:{port}/readings/{id}/corrections", data, {"Content-Type": "application/json"}
                )
                try:
                    with urllib.request.urlopen(asked, timeout=20) as reply:
                        confirmed.append(json.loads(reply.read())["key"])
                        break
                except (HTTPError, URLError, HTTPException, OSError):
                    time.sleep(0.05)

    threads = [threading.Thread(target=client, args=(own,)) for own in bodies]
    for t in threads:
        t.start()
    process, rng = serve(where, port), random.Random(0)
    for kill in range(kills):
        wanted = (kill + 1) * clients * each // (kills + 2)
        until = time.monotonic() + 600
        while len(confirmed) < wanted and time.monotonic() < until:
            assert process.poll() is None, "the server does not start"
            time.sleep(0.001 + 0.004 * rng.random())
        process.send_signal(signal.SIGKILL)
        process.wait()
        process = serve(where, port)
    for t in threads:
        t.join(timeout=900)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = store.versions(id)
    keys = [v.correction.key for v in kept]
    assert len(confirmed) == clients * each
    assert sorted(keys) == sorted(c.key for own in bodies for c in own)
    for c, own in enumerate(bodies):
        mine = [v for v in kept if v.correction.reader == f"R{c}"]
        assert [(v.version, v.correction.comment) for v in mine] == [(n + 1, str(n)) for n in range(len(own))]


# ---- agreement -----------------------------------------------------------------------------------------------------


def test_agreement_is_kappa_of_what_both_have_signed(store: CorrectionStore) -> None:
    """Answers a a a b b b a b against a a b b b b a a: 6 of 8 alike; margins 4, 4 and 4, 4: chance 0.5; kappa 0.5."""
    first, second = "aaabbbab", "aabbbbaa"
    for k, (a, b) in enumerate(zip(first, second, strict=True)):
        struck = [CorrectedStatement(id="s1", block="findings", text="x", state="struck")]
        mine = correction("AB", answer=a, rating=5, statements=struck if k % 2 else None or correction().statements)
        keep(store, mine, correction("CD", answer=b.upper(), rating=4), slide=f"{k:016x}")
    keep(store, correction("AB"), correction("CD", is_signed=False))
    found = agreement(store, "AB", "CD")
    assert found["num_readings"] == 8
    assert found["answer"]["kappa"] == pytest.approx(0.5) and found["answer"]["same"] == 0.75
    low, high = found["answer"]["ci95"]
    assert low < 0.5 < high
    assert found["statements"]["n"] == 12 and found["statements"]["same"] == pytest.approx(8 / 12, abs=1e-3)
    assert found["rating"]["kappa"] == pytest.approx(0.0)
    assert agreement(store, "AB", "XY")["answer"]["kappa"] is None


# ---- samples and pairs ---------------------------------------------------------------------------------------------


def corrected() -> list[CorrectedStatement]:
    return [
        CorrectedStatement(id="s1", block="findings", text="Mitoses are rare.", state="edited"),
        CorrectedStatement(id="s2", block="reasoning", text="Stroma is pale.", state="struck"),
        CorrectedStatement(id="a1", block="reasoning", text="Glands are regular.", state="added"),
    ]


def test_a_finding_that_is_added_to_a_reply_without_findings_is_not_lost(store: CorrectionStore) -> None:
    """The page and QuPath add findings; a model that answers in think and answer has no block for them."""
    thought = CorrectedStatement(id="s1", block="reasoning", text="Stroma is pale.")
    new = CorrectedStatement(id="a1", block="findings", text="Glands are regular.", state="added")
    form = {"tags": "think/answer", "numbered_steps": False}
    keep(store, correction(answer="normal", statements=[thought, new]), grammar=form)
    [sample] = samples_of(store).kept
    assert gold_reply(sample, Grammar.of("think/answer")).count("Glands are regular.") == 1
    assert json.loads(files_of(store)["pairs.jsonl"])["chosen"][0]["content"].count("Glands are regular.") == 1


def test_a_signed_correction_is_a_sample_and_a_pair(store: CorrectionStore) -> None:
    id = keep(store, correction(answer="normal", statements=corrected(), rating=2))
    [sample] = samples_of(store).kept
    assert (sample.findings, sample.reasoning) == ("Mitoses are rare.", ("Glands are regular.",))
    assert sample.answer == "normal"
    assert sample.origin.slide == "a" and sample.extra["rating"] == 2 and sample.extra[REJECTED] == REPLY
    want = "<info>Mitoses are rare.</info>\n<think>1. Glands are regular.</think>\n<answer>normal</answer>"
    assert gold_reply(sample, GRAMMAR) == want
    files = files_of(store, GRAMMAR)
    [pair] = [json.loads(line) for line in files["pairs.jsonl"].splitlines()]
    assert (pair["chosen"][0]["content"], pair["rejected"][0]["content"]) == (want, REPLY)
    assert "/f/a.h5" not in json.dumps(files) and id in files["versions.jsonl"]


def test_what_was_kept_as_it_is_gives_a_sample_and_no_pair(store: CorrectionStore) -> None:
    drawn = {"regions": [Region(points=[(0, 0), (9, 0), (9, 9)])]}
    moved = [s.model_copy(update=drawn) for s in correction().statements]
    keep(store, correction(statements=moved))
    [sample] = samples_of(store).kept
    assert REJECTED not in sample.extra


def test_readings_that_give_no_sample_are_set_aside_with_their_reason(store: CorrectionStore) -> None:
    keep(store, correction("AB", answer="a"), correction("CD", answer="b"))
    keep(store, correction(answer=" "))
    keep(store, correction(answer="other"), options=["adenoma", "normal"])
    keep(store, correction(), image="")
    keep(store, correction(statements=[s.model_copy(update={"state": "struck"}) for s in correction().statements]))
    keep(store, correction(is_signed=False))
    found = samples_of(store)
    assert not found.kept and sorted(found.reasons().values()) == [1] * 5
    assert set(found.reasons()) == {
        "readers disagree", "no answer", "the answer is none of the options",
        "a region of a reader of whole slides", "every statement was struck",
    }  # fmt: skip
    assert samples_of(store, ["CD"]).kept[0].answer == "b"


# ---- shapes --------------------------------------------------------------------------------------------------------


def test_regions_go_to_qupath_and_come_back(store: CorrectionStore, tmp_path: Path) -> None:
    drawn = Region(points=[(10, 10), (60, 10), (60, 40.5), (10, 40.5)])
    said = correction(statements=[
        correction().statements[0], correction().statements[1].model_copy(update={"regions": [drawn]})
    ])  # fmt: skip
    assert drawn.area == pytest.approx(50 * 30.5) and drawn.bounds == (10, 10, 60, 40.5)
    shapes = shapes_of(reading(), said)
    assert [(s.name, s.kind) for s in shapes] == [
        ("s1: Mitoses are frequent.", "Evidence kept"), ("s2: Stroma is pale.", "Evidence kept")
    ]  # fmt: skip
    assert np.array(shapes[0].parts[0][0]).tolist() == [[0, 0], [100, 0], [100, 100], [0, 100], [0, 0]]
    write_geojson(tmp_path / "a.geojson", shapes)
    text = (tmp_path / "a.geojson").read_text().replace("s2: Stroma is pale.", "Necrosis")
    (tmp_path / "a.geojson").write_text(text)
    made, aside = with_shapes(said, read_geojson(tmp_path / "a.geojson").kept, "k" * 9)
    assert not aside and not made.is_signed and made.key == "k" * 9
    assert made.statements[0].regions and made.statements[0].regions[0].area == pytest.approx(10_000)
    new = made.statements[-1]
    assert (new.id, new.text, new.state) == ("a1", "Necrosis", "added")
    assert new.regions and new.regions[0].area == pytest.approx(50 * 30.5)


def test_label_studio_tasks_are_in_percent_of_the_slide(store: CorrectionStore) -> None:
    id = keep(store, correction(rating=4))
    task = label_studio(reading(), store.versions(id), (400, 200))
    [own] = task["annotations"]
    shapes = [r for r in own["result"] if r["type"] == "polygonlabels"]
    assert [r["value"]["points"] for r in shapes] == [[[0, 0], [25, 0], [25, 50], [0, 50]]]
    assert {"rating", "textarea", "polygonlabels"} == {r["type"] for r in own["result"]}
    json.dumps(task, allow_nan=False)


def test_label_studio_has_a_task_for_each_slide_of_a_case(store: CorrectionStore) -> None:
    both = [{"key": "a" * 16, "name": "a"}, {"key": "b" * 16, "name": "b"}]
    told = reading(slides=both)
    told["statements"][1]["evidence"] = {"boxes": [{"um": [0, 0, 1, 1], "px": [10, 20, 30, 40], "slide": "b" * 16}]}
    store.add_reading(told, SlideBag(path="/f/a.h5", slide="/s/a.svs").model_dump_json())
    store.add(told["id"], correction())
    sizes = {"a" * 16: (400, 200), "b" * 16: (100, 80)}
    tasks = json.loads(files_of(store, size_of=sizes.get)["labelstudio.json"])
    assert [t["data"]["slide"] for t in tasks] == ["a", "b"]
    points = [
        [r["value"]["points"][0] for r in t["annotations"][0]["result"] if r["type"] == "polygonlabels"] for t in tasks
    ]
    assert points == [[[0, 0]], [[10, 25]]]


@pytest.mark.parametrize(
    "change",
    [
        {"key": "../../etc"}, {"reader": "a/b"}, {"reader": ""}, {"rating": 6}, {"answer": "x" * 4001},
        {"statements": [{"id": "s1", "block": "findings", "text": "a"}] * 2},
        {"statements": [{"id": "s1", "block": "findings", "text": "a", "regions": [{"points": [[0, 0], [1, 1]]}]}]},
        {"statements": [{"id": "../s", "block": "findings", "text": "a"}]}, {"path": "/etc/passwd"},
    ],
)  # fmt: skip
def test_odd_corrections_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Correction.model_validate({"key": "k" * 12, "reader": "AB", **change})


def test_a_database_that_fails_is_told_with_a_reason(tmp_path: Path) -> None:
    slides, made = write_slides(tmp_path / "slides", "a.tif"), scripted_room(tmp_path / "c.sqlite", knowledge=False)
    with serving(scripted_engine(), made, slides=slides) as (url, _):
        assert made.store is not None
        id = keep(made.store)
        with made.store.engine.begin() as connection:
            connection.exec_driver_sql("drop table corrections")
        body = correction().model_dump_json().encode()
        asked = urllib.request.Request(f"{url}/readings/{id}/corrections", body, {"Content-Type": "application/json"})
        for what in (f"{url}/readings/{id}/corrections", asked):
            with pytest.raises(HTTPError) as told:
                urllib.request.urlopen(what)
            assert told.value.code == 503
            assert "does not answer" in (said := told.value.read().decode()) and str(tmp_path) not in said


def test_a_password_is_in_no_message() -> None:
    assert (
        without_password("postgresql+psycopg://me:secret@host/db?password=secret") == "postgresql+psycopg://...@host/db"
    )
    assert without_password("postgresql:///db?password=secret") == "postgresql:///db"
    assert without_password("/a/c.sqlite") == "/a/c.sqlite"
