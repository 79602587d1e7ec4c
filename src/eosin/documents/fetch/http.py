"""Files over HTTP, politely: a rate, retries that wait, resume, sizes and checksums; no redirect to another host."""

from __future__ import annotations

import hashlib
import http.client
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from eosin.core.errors import EosinError, disk_errors

RETRY = frozenset({408, 425, 429, 500, 502, 503, 504})
_BEYOND = 416
"""The range asked for begins at the file's end or behind it: the part here is whole already, or of another file."""
_FAILS = (urllib.error.URLError, OSError, http.client.HTTPException)
MAX_WAIT_S = 60.0
NO_ANSWER = "service gave no answer"


@dataclass(frozen=True)
class Politeness:
    """requests_per_s: at most. tries: of each file. timeout_s: without a byte. max_bytes: of one file."""

    requests_per_s: float = 3.0
    tries: int = 5
    timeout_s: float = 60.0
    max_bytes: int = 2**30


class _SameHost(urllib.request.HTTPRedirectHandler):
    """Follows a redirect only where it stays on the host that was asked."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        if urlsplit(newurl).netloc != urlsplit(req.full_url).netloc:
            raise urllib.error.HTTPError(req.full_url, code, "redirect to another host", headers, fp)  # type: ignore[arg-type]
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


class Fetcher:
    """Gets files from one service.

    Args:
        address: "https://host" or "http://host:port", without a path.
    """

    def __init__(self, address: str, politeness: Politeness | None = None) -> None:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise EosinError("This is no address of a service.", expected="https://host", found=address[:120])
        self.address = address.rstrip("/")
        self._polite = politeness or Politeness()
        self._opener = urllib.request.build_opener(_SameHost())
        self._next = 0.0

    def text(self, key: str, limit: int = 2**24) -> bytes:
        """The bytes of a small file.

        Raises:
            EosinError: not there, or not after all tries.
        """
        for wait in self._tries(key):
            try:
                with self._open(key, 0) as answer:
                    data: bytes = answer.read(limit + 1)
                    length = int(answer.headers.get("Content-Length") or 0)
                if len(data) > limit:
                    raise EosinError("file too large", expected=f"at most {limit:,} bytes", where=key)
                if len(data) < length:
                    raise OSError(f"cut off after {len(data)} of {length} bytes")
                return data
            except _FAILS as exc:
                self._wait(exc, wait, key)
        raise EosinError(NO_ANSWER, where=key)

    def file(self, key: str, place: Path) -> bool:
        """Fetch a file; what is there already and whole is not fetched again, and a part of it is gone on with.

        Returns:
            Whether anything was fetched.

        Raises:
            EosinError: not there, not after all tries, too large, or with another checksum than the service states.
        """
        if place.exists():
            return False
        part = place.with_name(f"{place.name}.part")
        with disk_errors(place):
            place.parent.mkdir(parents=True, exist_ok=True)
        for wait in self._tries(key):
            try:
                etag = self._more(key, part)
            except _FAILS as exc:
                if getattr(exc, "code", None) == _BEYOND and part.exists():
                    part.unlink()  # fetched anew, so that it is compared with the service's checksum
                    continue
                self._wait(exc, wait, key)
                continue
            if etag is not None and _md5(part) != etag:
                part.unlink()
                continue
            part.rename(place)
            return True
        raise EosinError("file could not be fetched whole", where=key)

    def _more(self, key: str, part: Path) -> str | None:
        """Append what is missing of a file; returns its MD5 where the service states one."""
        have = part.stat().st_size if part.exists() else 0
        with self._open(key, have) as answer:
            if have and answer.status != 206:
                have = 0
                part.unlink()
            length = int(answer.headers.get("Content-Length") or 0)
            if have + length > self._polite.max_bytes:
                raise EosinError("file too large", expected=f"at most {self._polite.max_bytes:,} bytes", where=key)
            got = 0
            with part.open("ab") as out:
                while piece := answer.read(2**16):
                    out.write(piece)
                    got += len(piece)
                    if have + got > self._polite.max_bytes:
                        raise EosinError("file too large", where=key)
            if length and got < length:
                raise OSError(f"cut off after {have + got} of {have + length} bytes")
            etag = (answer.headers.get("ETag") or "").strip('"')
        return etag if len(etag) == 32 and all(c in "0123456789abcdef" for c in etag) else None

    def _open(self, key: str, start: int) -> Any:
        now = time.monotonic()
        time.sleep(max(0.0, self._next - now))
        self._next = max(now, self._next) + 1 / self._polite.requests_per_s
        headers = {"User-Agent": "eosin (research use)"}
        if start:
            headers["Range"] = f"bytes={start}-"
        request = urllib.request.Request(f"{self.address}/{key}", headers=headers)
        return self._opener.open(request, timeout=self._polite.timeout_s)

    def _tries(self, key: str) -> list[float]:
        """Seconds to wait after each failed try: 1, 2, 4, ..."""
        return [min(MAX_WAIT_S, 2.0**i) for i in range(self._polite.tries)]

    def _wait(self, exc: Exception, wait: float, key: str) -> None:
        code = getattr(exc, "code", None)
        if code == 404 or code == 403:
            raise EosinError("not at the service", found=f"status {code}", where=key) from None
        if isinstance(exc, urllib.error.HTTPError) and code not in RETRY:
            raise EosinError("service refused", found=f"status {code}: {exc.reason}", where=key) from None
        told = getattr(exc, "headers", None)
        after = str(told.get("Retry-After", "")) if told is not None else ""
        time.sleep(min(MAX_WAIT_S, float(after)) if after.isdigit() else wait)


def _md5(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
