"""Articles of PubMed Central from its cloud service, as it stands since 2026.

`metadata/PMC<id>.<version>.json` says licence, retraction, and where XML, PDF and media lie; the files of an article
lie in `PMC<id>.<version>/`. What is fetched is laid the same way, so that `eosin documents` reads it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from eosin.core.errors import EosinError
from eosin.core.nouns.outcome import Dropped
from eosin.core.store.artifacts import write_bytes_atomic
from eosin.core.store.names import file_name
from eosin.documents.fetch.http import NO_ANSWER, Fetcher, Politeness
from eosin.documents.jats.licences import allowed, licence_name
from eosin.documents.jats.xml import own_text, parsed

ADDRESS = "https://pmc-oa-opendata.s3.amazonaws.com"
STEP = "fetch"
MAX_SILENT = 3
"""Articles in a row for which the service gives no answer after all tries, before nothing more is asked."""
_ID = re.compile(r"^(?:PMC)?(\d{1,12})(?:\.(\d{1,3}))?$", re.I)
_PICTURES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".gif")


@dataclass
class Fetched:
    """Articles that stand whole in the folder, and those that were set aside."""

    articles: list[str] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    files: int = 0


def fetch_articles(
    ids: Sequence[str], out: Path, *, address: str = ADDRESS, licences: Sequence[str] = (), pdf: bool = False,
    keep_retracted: bool = False, politeness: Politeness | None = None, report: Callable[[str], None] | None = None,
) -> Fetched:  # fmt: skip
    """Fetch articles with their pictures. What is there already is not fetched again.

    Args:
        ids: PMC123, PMC123.1 or 123; without a version the latest. licences: fetch only such. pdf: the PDF too.

    Raises:
        EosinError: the service gave no answer for several articles in a row. What was fetched is there; the same call
            goes on.
    """
    fetcher = Fetcher(address, politeness)
    done = Fetched()
    silent = 0
    for one in ids:
        try:
            name = _version(one, fetcher)
            _article(name, fetcher, out, done, licences, pdf, keep_retracted)
            silent = 0
        except EosinError as exc:
            silent = silent + 1 if exc.message == NO_ANSWER else 0
            if silent >= MAX_SILENT:
                raise EosinError(
                    "The service does not answer.", found=f"no answer for {silent} articles in a row", where=address,
                    next_step=f"see to the network; the same command goes on, with {len(done.articles)} articles here",
                ) from None  # fmt: skip
            done.dropped.append(Dropped(one, exc.message, "; ".join(t for t in (exc.where, exc.found) if t), STEP))
        if report is not None:
            report(one)
    return done


def _version(one: str, fetcher: Fetcher) -> str:
    """PMC<id>.<version>; the highest version that the service lists where none is given."""
    found = _ID.match(one.strip())
    if found is None:
        raise EosinError("not an id of PMC", expected="PMC123 or PMC123.1", found=one[:60])
    if found[2]:
        return f"PMC{found[1]}.{found[2]}"
    root = parsed(fetcher.text(f"?list-type=2&prefix=metadata/PMC{found[1]}."), "list")
    keys = [own_text(e) for e in root.iter("Key")]
    versions = [int(m[1]) for k in keys if (m := re.fullmatch(rf"metadata/PMC{found[1]}\.(\d+)\.json", k))]
    if not versions:
        raise EosinError("not at the service", where=one)
    return f"PMC{found[1]}.{max(versions)}"


def _article(
    name: str, fetcher: Fetcher, out: Path, done: Fetched, licences: Sequence[str], pdf: bool, keep_retracted: bool
) -> None:
    data = fetcher.text(f"metadata/{name}.json")
    try:
        told = json.loads(data)
    except (ValueError, RecursionError):
        raise EosinError("metadata are not JSON", where=name) from None
    if not isinstance(told, dict):
        raise EosinError("metadata are no record", where=name)
    licence = licence_name(str(told.get("license_code") or "")) or str(told.get("license_code") or "unknown")
    if not allowed(licence, licences):
        raise EosinError("licence not asked for", found=licence, where=name)
    if told.get("is_retracted") in (True, "true", "True", 1) and not keep_retracted:
        raise EosinError("article retracted", where=name)
    for key in _keys(told, name, fetcher.address, pdf):
        done.files += fetcher.file(quote(key), out / name / file_name(key.removeprefix(f"{name}/")))
    place = out / "metadata" / f"{name}.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomic(place, data)
    done.articles.append(name)


def _keys(told: Mapping[str, Any], name: str, address: str, pdf: bool) -> list[str]:
    """Keys of the files to fetch: the XML, the pictures, the PDF where it is asked for; all of the article's folder."""
    media = told.get("media_urls")
    links = [told.get("xml_url"), *(media if isinstance(media, list) else [])]
    if pdf:
        links.append(told.get("pdf_url"))
    keys = [_key(link, name, address) for link in links if isinstance(link, str) and link]
    if not any(k.lower().endswith((".xml", ".nxml")) for k in keys):
        raise EosinError("article without XML", where=name)
    wanted = (".xml", ".nxml", *_PICTURES, *((".pdf",) if pdf else ()))
    return [k for k in dict.fromkeys(keys) if k.lower().endswith(wanted)]


def _key(link: str, name: str, address: str) -> str:
    """The key of a link: s3://bucket/KEY, https://host/KEY, or KEY. It must lie in the article's own folder."""
    parts = urlsplit(link)
    if parts.scheme in ("http", "https") and parts.netloc != urlsplit(address).netloc:
        raise EosinError("link to another service", found=parts.netloc[:80], where=name)
    key = unquote(parts.path).lstrip("/") if parts.scheme else unquote(link.partition("?")[0]).lstrip("/")
    if not key.startswith(f"{name}/") or ".." in key.split("/"):
        raise EosinError("link out of the article's folder", found=link[:120], where=name)
    return key
