"""The downloader against a server of our own: latest version, licences, resume, checksums, retries, foreign links."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from eosin.cli.main import app
from eosin.core.errors import EosinError
from eosin.documents.fetch.http import Fetcher, Politeness
from eosin.documents.fetch.pmc import fetch_articles

FAST = Politeness(requests_per_s=1000, tries=4, timeout_s=5)
PICTURE = bytes(range(256)) * 400


class Service(ThreadingHTTPServer):
    """Holds files by key, and notes what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.cut: dict[str, int] = {}
        self.wrong: set[str] = set()
        self.nonsense: dict[str, bool] = {}
        self.address = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        service: Service = self.server  # type: ignore[assignment]
        key = self.path.lstrip("/")
        service.asked.append((key, self.headers.get("Range")))
        if service.nonsense.pop(key, None):
            self.wfile.write(b"no answer of HTTP\r\n\r\n")
            self.close_connection = True
            return
        if key.startswith("?list-type=2&prefix="):
            prefix = key.partition("prefix=")[2]
            keys = "".join(f"<Contents><Key>{k}</Key></Contents>" for k in service.files if k.startswith(prefix))
            self._send(200, f"<ListBucketResult>{keys}</ListBucketResult>".encode(), {})
        elif key in service.files:
            self._file(service, key)
        else:
            self._send(404, b"", {})

    def _file(self, service: Service, key: str) -> None:
        data = service.files[key]
        etag = hashlib.md5(b"other" if key in service.wrong else data).hexdigest()
        asked = self.headers.get("Range")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if asked and start >= len(data):  # as the service answers
            self._send(416, b"", {})
            return
        body = data[start:]
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{etag}"')
        self.end_headers()
        self.wfile.write(body[: service.cut.pop(key, len(body))])
        self.close_connection = True

    def _send(self, code: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    threading.Thread(target=made.serve_forever, daemon=True).start()
    for name, code, retracted in (("PMC1.1", "CC BY", False), ("PMC1.2", "CC BY", False), ("PMC2.1", "CC BY-NC", False),
                                  ("PMC3.1", "CC0", True)):  # fmt: skip
        links = [f"s3://pmc-oa-opendata/{name}/g1.jpg", f"{name}/table.xlsx"]
        told = {"license_code": code, "is_retracted": retracted, "xml_url": f"{made.address}/{name}/{name}.xml",
                "pdf_url": f"{made.address}/{name}/{name}.pdf", "media_urls": links}  # fmt: skip
        made.files |= {f"metadata/{name}.json": json.dumps(told).encode(), f"{name}/{name}.xml": b"<article/>",
                       f"{name}/g1.jpg": PICTURE, f"{name}/{name}.pdf": b"%PDF-1.4"}  # fmt: skip
    yield made
    made.shutdown()
    made.server_close()


def _names(out: Path) -> list[str]:
    return sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file())


def test_the_latest_version_with_its_pictures(service: Service, tmp_path: Path) -> None:
    done = fetch_articles(["PMC1"], tmp_path, address=service.address, politeness=FAST)
    assert done.articles == ["PMC1.2"] and not done.dropped
    assert _names(tmp_path) == ["PMC1.2/PMC1.2.xml", "PMC1.2/g1.jpg", "metadata/PMC1.2.json"]
    again = fetch_articles(["PMC1"], tmp_path, address=service.address, politeness=FAST)
    assert again.files == 0 and again.articles == ["PMC1.2"]


def test_licences_and_retraction_are_looked_at_before_anything_is_fetched(service: Service, tmp_path: Path) -> None:
    done = fetch_articles(
        ["PMC2", "PMC3", "PMC9", "glands"],
        tmp_path,
        address=service.address,
        licences=["CC-BY", "CC0"],
        politeness=FAST,
    )
    assert [(d.id, d.reason) for d in done.dropped] == [
        ("PMC2", "licence not asked for"), ("PMC3", "article retracted"), ("PMC9", "not at the service"),
        ("glands", "not an id of PMC"),
    ]  # fmt: skip
    assert not [k for k, _ in service.asked if k.endswith((".jpg", ".xml"))]


def test_a_file_that_was_cut_off_is_gone_on_with(service: Service, tmp_path: Path) -> None:
    service.cut["PMC1.2/g1.jpg"] = 5000
    fetch_articles(["PMC1.2"], tmp_path, address=service.address, politeness=FAST)
    assert (tmp_path / "PMC1.2" / "g1.jpg").read_bytes() == PICTURE
    assert [r for k, r in service.asked if k.endswith("g1.jpg")] == [None, "bytes=5000-"]


@pytest.mark.parametrize("more", [0, 7])
def test_a_part_that_is_whole_or_longer_is_fetched_anew(service: Service, tmp_path: Path, more: int) -> None:
    """A download killed before its last step could never be gone on with: the service has no bytes behind the end."""
    service.files["a.jpg"] = PICTURE
    (tmp_path / "a.jpg.part").write_bytes(PICTURE + bytes(more))
    assert Fetcher(service.address, FAST).file("a.jpg", tmp_path / "a.jpg")
    assert (tmp_path / "a.jpg").read_bytes() == PICTURE and [a for _, a in service.asked][-1] is None


def test_an_answer_that_is_none_or_cut_is_asked_for_again(service: Service, tmp_path: Path) -> None:
    name = "metadata/PMC1.2.json"
    service.nonsense, service.cut = {name: True}, {}
    done = fetch_articles(["PMC1.2"], tmp_path / "a", address=service.address, politeness=FAST)
    assert done.articles == ["PMC1.2"] and not done.dropped
    service.cut = {name: 10}
    done = fetch_articles(["PMC1.2"], tmp_path / "b", address=service.address, politeness=FAST)
    assert done.articles == ["PMC1.2"] and not done.dropped


def test_a_wrong_checksum_is_never_kept(service: Service, tmp_path: Path) -> None:
    service.wrong.add("PMC1.2/g1.jpg")
    done = fetch_articles(["PMC1.2"], tmp_path, address=service.address, politeness=FAST)
    assert [d.reason for d in done.dropped] == ["file could not be fetched whole"]
    assert not (tmp_path / "PMC1.2" / "g1.jpg").exists() and not (tmp_path / "metadata").exists()


@pytest.mark.parametrize(
    ("link", "reason"),
    [("https://elsewhere.example/PMC1.2/x.jpg", "link to another service"),
     ("../secret.jpg", "link out of the article's folder"), ("PMC7.1/x.jpg", "link out of the article's folder")],
)  # fmt: skip
def test_links_that_lead_elsewhere_are_refused(service: Service, tmp_path: Path, link: str, reason: str) -> None:
    told = json.loads(service.files["metadata/PMC1.2.json"])
    service.files["metadata/PMC1.2.json"] = json.dumps({**told, "media_urls": [link]}).encode()
    done = fetch_articles(["PMC1.2"], tmp_path, address=service.address, politeness=FAST)
    assert [d.reason for d in done.dropped] == [reason]


def test_the_rate_is_kept(service: Service) -> None:
    import time

    fetcher = Fetcher(service.address, Politeness(requests_per_s=20, tries=1))
    begun = time.monotonic()
    for _ in range(5):
        fetcher.text("metadata/PMC1.1.json")
    assert time.monotonic() - begun >= 4 / 20


def test_what_is_no_address_is_refused() -> None:
    with pytest.raises(EosinError, match="no address"):
        Fetcher("ftp://host")


def test_a_service_that_is_away_is_not_waited_for_article_by_article(service: Service, tmp_path: Path) -> None:
    service.shutdown()
    service.server_close()
    once = Politeness(requests_per_s=1000, tries=1, timeout_s=1)
    with pytest.raises(EosinError, match="does not answer") as caught:
        fetch_articles([f"PMC{n}.1" for n in range(1, 500)], tmp_path, address=service.address, politeness=once)
    assert "3 articles" in str(caught.value.found)


def test_all_that_was_set_aside_is_written_down(service: Service, tmp_path: Path) -> None:
    """The terminal shows forty; the others were told nowhere."""
    (tmp_path / "ids.txt").write_text("\n".join(["PMC1.2", *(f"none{n}" for n in range(60))]))
    words = [
        "pmc",
        str(tmp_path / "ids.txt"),
        "--out",
        str(tmp_path / "out"),
        "--address",
        service.address,
        "--rate",
        "999",
    ]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0 and "all 60 in" in result.output
    rows = [json.loads(line) for line in (tmp_path / "out" / "dropped.jsonl").read_text("utf-8").splitlines()]
    assert len(rows) == 60 and {r["reason"] for r in rows} == {"not an id of PMC"}
    assert CliRunner().invoke(app, [*words[:-1], "0"]).exit_code == 2
