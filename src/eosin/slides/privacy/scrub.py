"""Clean copies of slides: names, dates and label images are left out, pixels of the tissue stay bit for bit.

A copy is written under a temporary name, looked through again, and kept only when nothing is found. Formats of which
not every place is known (NDPI, MRXS, CZI, VSI ...) are set aside with that reason, never copied half clean.
"""

from __future__ import annotations

import re
import shutil
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from eosin.core.errors import EosinError
from eosin.core.nouns.outcome import Dropped, Kept
from eosin.core.store.artifacts import discard, sha256_file
from eosin.core.store.names import unfinished
from eosin.slides.privacy.find import (
    APERIO_KEPT,
    DICOM_BLANK,
    NEUTRAL_DATE,
    OME_PRIVATE,
    TEXT_TAGS,
    associated,
    is_label,
    ome_free_text,
    traces,
)

__all__ = ["scrub"]

STEP = "scrub"
_TIFF_SUFFIXES = (".svs", ".tif", ".tiff", ".btf")


def scrub(slide: Path, out: Path) -> Kept[Path] | Dropped:
    """A clean copy of one slide below `out`, named by its own content (`s-` and 12 hex digits).

    Args:
        slide: a file; of a DICOM slide any of its files: all of the series beside it are copied.

    Raises:
        EosinError: `out` is the folder of the slide itself.
    """
    if out.resolve() == slide.resolve().parent:
        raise EosinError(
            "Clean copies never stand beside their originals.", where=out, next_step="choose another --scrub"
        )
    out.mkdir(parents=True, exist_ok=True)
    temporary = unfinished(out / "scrub")
    temporary.mkdir()
    try:
        if slide.suffix.lower() == ".dcm":
            return _dicom(slide, temporary, out)
        if slide.suffix.lower() in _TIFF_SUFFIXES:
            return _tiff(slide, temporary, out)
        return Dropped(str(slide), "no clean copy can be made of this format", slide.suffix, STEP)
    except EosinError:
        raise
    except Exception as exc:  # a damaged file is set aside, as everywhere
        return Dropped(str(slide), "the file cannot be read", f"{type(exc).__name__}: {exc}"[:200], STEP)
    finally:
        discard(temporary)


def _tiff(slide: Path, temporary: Path, out: Path) -> Kept[Path] | Dropped:
    import tifffile

    copy = temporary / f"000{slide.suffix.lower()}"
    shutil.copyfile(slide, copy)
    with tifffile.TiffFile(copy) as tiff:
        if not len(tiff.pages):
            return Dropped(str(slide), "the file cannot be read", "a TIFF without pages", STEP)
        if tiff.is_ome and any(s.name and re.search("label|macro|overview", s.name, re.I) for s in tiff.series):
            return Dropped(str(slide), "an OME-TIFF with a label image", "its description counts on every page", STEP)
        edits = [edit for page in tiff.pages for edit in _edits(page)]
        unlinked = _unlinked(tiff)
    with copy.open("r+b") as handle:
        for offset, data in [*edits, *unlinked]:
            handle.seek(offset)
            handle.write(data)
    return _kept(slide, [copy], out / f"s-{sha256_file(copy)[:12]}{copy.suffix}")


def _edits(page: Any) -> Iterator[tuple[int, bytes]]:
    """What is written where: (offset in the file, bytes of the same length as before)."""
    for tag in page.tags:
        raw = _raw(page, tag)
        if tag.code == 270:
            yield tag.valueoffset, _clean_description(raw)
        elif tag.code == 306:
            yield tag.valueoffset, b"2000:01:01 00:00:00"[: len(raw)].ljust(len(raw), b"\0")
        elif tag.code in TEXT_TAGS:
            yield tag.valueoffset, (b" " if tag.code == 700 else b"\0") * len(raw)
    if associated(_raw(page, page.tags.get(270))) is not None:
        for offset, size in zip(page.dataoffsets, page.databytecounts, strict=True):
            yield offset, b"\0" * size


def _raw(page: Any, tag: Any) -> bytes:
    if tag is None:
        return b""
    handle = page.parent.filehandle
    handle.seek(tag.valueoffset)
    return bytes(handle.read(tag.count * {3: 2, 4: 4, 13: 4, 16: 8}.get(int(tag.dtype), 1)))


def _clean_description(raw: bytes) -> bytes:
    """The same length, with x in the place of what can name somebody."""
    if raw.startswith(b"Aperio"):
        head, *parts = raw.split(b"|")
        return b"|".join([head, *map(_clean_part, parts)])
    if b"<OME" in raw[:2000]:
        return _clean_ome(raw)
    return b"x" * (len(raw) - 1) + b"\0" if raw.strip(b"\0") and not raw.startswith(b'{"shape"') else raw


def _clean_part(part: bytes) -> bytes:
    key, sign, value = part.partition(b"=")
    if not sign or key.strip().decode("latin-1").casefold() in APERIO_KEPT:
        return part
    return key + sign + re.sub(rb"[^\s\0]", b"x", value)


def _clean_ome(raw: bytes) -> bytes:
    text = bytearray(raw)
    for name in OME_PRIVATE:
        for found in re.finditer(rb"\s%s=\"([^\"]*)\"" % name.encode(), raw):
            text[found.start(1) : found.end(1)] = b"x" * len(found[1])
    for found in re.finditer(rb"<(?:\w+:)?AcquisitionDate>([^<]*)<", raw):
        text[found.start(1) : found.end(1)] = _date_of_length(len(found[1]))
    for block in ome_free_text(raw):
        for begin, end, old in block:
            text[begin:end] = re.sub(rb"[^\s]", b"x", old)
    return bytes(text)


def _date_of_length(length: int) -> bytes:
    """A neutral xsd:dateTime of this length: cut, or with Z, or with a fraction of a second."""
    more = length - len(NEUTRAL_DATE)
    return (
        (NEUTRAL_DATE + (b"Z" if more == 1 else b"." + b"0" * (more - 1)))[:length]
        if more > 0
        else NEUTRAL_DATE[:length]
    )


def _unlinked(tiff: Any) -> list[tuple[int, bytes]]:
    """Pointers from each page to the next, past the pages of label and macro."""
    pages = list(tiff.pages)
    keep = [p for p in pages if associated(_raw(p, p.tags.get(270))) is None]
    if len(keep) == len(pages) or not keep or keep[0] is not pages[0]:
        return []
    big, order = tiff.is_bigtiff, tiff.byteorder
    edits = []
    for page, following in zip(keep, [*keep[1:], None], strict=True):
        handle = tiff.filehandle
        handle.seek(page.offset)
        (count,) = struct.unpack(order + ("Q" if big else "H"), handle.read(8 if big else 2))
        place = page.offset + (8 + 20 * count if big else 2 + 12 * count)
        edits.append((place, struct.pack(order + ("Q" if big else "I"), following.offset if following else 0)))
    return edits


def _dicom(slide: Path, temporary: Path, out: Path) -> Kept[Path] | Dropped:
    import pydicom

    from eosin.slides.open.find import series_of

    series = series_of(slide)
    files = [p for p in sorted(slide.parent.glob("*.dcm")) if p == slide or (series and series_of(p) == series)]
    copies: list[Path] = []
    for file in files:
        data = pydicom.dcmread(file)
        if is_label(data) or str(data.get("BurnedInAnnotation", "NO")) == "YES":
            continue
        data.remove_private_tags()
        for element in data.iterall():
            if element.keyword in DICOM_BLANK and element.value:
                element.value = DICOM_BLANK[element.keyword]
        copies.append(temporary / f"{len(copies):03d}.dcm")
        data.save_as(copies[-1])
    if not copies:
        return Dropped(str(slide), "only label images", f"{len(files)} files", STEP)
    if len(copies) == 1:
        return _kept(slide, copies, out / f"s-{sha256_file(copies[0])[:12]}.dcm")
    return _kept(slide, copies, out / f"s-{sha256_file(copies[0])[:12]}")


def _kept(slide: Path, copies: Sequence[Path], target: Path) -> Kept[Path] | Dropped:
    """Put clean copies in their place; set them aside where anything is still found in them."""
    left = [str(t) for copy in copies for t in traces(copy)]
    if left:
        return Dropped(str(slide), "could not be cleaned whole", "; ".join(left[:6]), STEP)
    if target.exists():
        return Kept(target)  # the same content was written before
    if len(copies) == 1 and target.suffix:
        copies[0].rename(target)
    else:
        copies[0].parent.rename(target)
    return Kept(target)
