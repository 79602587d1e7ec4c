"""What all readers share: rows become samples or Dropped; ids stand once; files are written whole."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from pydantic import ValidationError

from eosin.core.errors import EosinError, ImageError, disk_errors
from eosin.core.nouns.outcome import Dropped, Kept
from eosin.core.nouns.sample import ImageBytes, Sample
from eosin.core.store.names import unfinished

STEP = "read"
Outcome = Kept[Sample] | Dropped

# Words of the validator's messages -> the reason that is counted.
_REASONS = (
    ("is not among the choices", "answer not among the choices"),
    ("choices must be lettered", "choices not lettered A, B, C"),
    ("two choices have the same text", "two choices with the same text"),
    ("but the sample has", "message shows a missing image"),
    ("must be the user's question", "no question at the end"),
    ("not a JSON value", "extra is not JSON"),
    ("unknown split", "unknown split"),
    ("unicode string", "text is no Unicode"),
)


class BadRowError(Exception):
    """A row that cannot become a sample. Arguments: reason, detail."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


def row_id(row: Any, place: str) -> str:
    """The id that a row carries, as text: 0 is one. Its place in the file where it has none."""
    value = row.get("id") if isinstance(row, Mapping) else None
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) and value != "" else place


def read_row(read: Callable[[], Outcome], row: Any, place: str, step: str = STEP) -> Outcome:
    """The outcome of reading one row: the one place where what goes wrong inside a row becomes Dropped."""
    try:
        return read()
    except BadRowError as exc:
        return Dropped(row_id(row, place), exc.reason, exc.detail, step)
    except ValidationError as exc:
        return Dropped(row_id(row, place), *reason_of(exc), step)
    except ImageError as exc:
        return Dropped(row_id(row, place), exc.message, "; ".join(t for t in (exc.where, exc.found) if t), step)
    except MemoryError:
        raise
    except Exception as exc:  # rows of strangers hold anything; a bad row never stops a reading
        return Dropped(row_id(row, place), "row damaged", f"{type(exc).__name__}: {exc}"[:200], step)


@contextmanager
def file_errors(path: Path, what: str) -> Iterator[None]:
    """Turn what a library throws about a file as a whole into an EosinError that names the file."""
    try:
        yield
    except (EosinError, MemoryError):
        raise
    except Exception as exc:  # readers of damaged files throw many kinds of error
        raise EosinError(
            f"This {what} cannot be opened.", found=f"{type(exc).__name__}: {exc}"[:200], where=path,
            next_step="copy or make it again; it is damaged, cut off, or of another kind",
        ) from None  # fmt: skip


def reason_of(exc: ValidationError) -> tuple[str, str]:
    """A countable reason and the details of a row that is not a valid sample."""
    errors = exc.errors(include_url=False, include_input=False)
    detail = "; ".join(f"{'.'.join(str(x) for x in e['loc']) or 'sample'}: {e['msg']}" for e in errors[:4])
    for words, reason in _REASONS:
        if words in detail:
            return reason, detail
    first = errors[0]["loc"] if errors else ()
    if first and first[0] == "choices" and first[-1] == "text":
        return "empty choice", detail
    if any(e["type"] == "missing" for e in errors):
        return "field missing", detail
    return "not a valid sample", detail


def make_sample(fields: Mapping[str, Any], fallback_id: str) -> Outcome:
    """A sample of these fields, or why not."""
    try:
        return Kept(Sample.model_validate(fields))
    except ValidationError as exc:
        reason, detail = reason_of(exc)
        return Dropped(row_id(fields, fallback_id), reason, detail, STEP)


def unique(outcomes: Iterable[Outcome]) -> Iterator[Outcome]:
    """Let each id pass once; a later one is Dropped.

    The reason is "exact duplicate" where the whole sample is the same, else "duplicate id".
    """
    seen: dict[str, Sample] = {}
    for outcome in outcomes:
        if isinstance(outcome, Dropped):
            yield outcome
            continue
        sample = outcome.value
        first = seen.get(sample.id)
        if first is None:
            seen[sample.id] = sample
            yield outcome
        elif first == sample:
            yield Dropped(sample.id, "exact duplicate", "the same sample stands earlier", STEP)
        else:
            differing = [k for k in Sample.model_fields if getattr(first, k) != getattr(sample, k)]
            yield Dropped(sample.id, "duplicate id", f"differs from the earlier in {', '.join(differing)}", STEP)


def dump_without_bytes(sample: Sample, exclude: Iterable[str] = ()) -> dict[str, Any]:
    """A sample as JSON values; an image held as bytes leaves only its place: {"kind": "bytes"}."""
    fields = sample.model_dump(mode="json", exclude={"images", *exclude})
    fields["images"] = [
        {"kind": "bytes"} if isinstance(ref, ImageBytes) else ref.model_dump(mode="json") for ref in sample.images
    ]
    return fields


def json_without_bytes(sample: Sample, exclude: Iterable[str] = ()) -> str:
    """The JSON text of `dump_without_bytes`, made quicker."""
    text = sample.model_dump_json(exclude={"images", *exclude})
    images = ",".join(
        '{"kind":"bytes"}' if isinstance(ref, ImageBytes) else ref.model_dump_json() for ref in sample.images
    )
    return f'{text[:-1]},"images":[{images}]}}'


def put_bytes_back(fields: dict[str, Any], blobs: Sequence[bytes | None]) -> dict[str, Any]:
    """The inverse of `dump_without_bytes`: `blobs[i]` is the encoded image number i, where it had bytes.

    Raises:
        ValueError: an image has no bytes.
    """
    images = []
    for i, ref in enumerate(fields.get("images", ())):
        if ref.get("kind") == "bytes":
            data = blobs[i] if i < len(blobs) else None
            if data is None:
                raise ValueError(f"image {i} has no bytes")
            ref = {"kind": "bytes", "data": data}
        images.append(ref)
    return {**fields, "images": images}


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that appears at `path` only when the block ends without an exception."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = unfinished(path)
        try:
            with temporary.open("wb") as handle:
                yield handle
                handle.flush()
                os.fsync(handle.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
