"""Webdataset tars as open_clip takes them: KEY.jpg or KEY.png, KEY.txt with the caption, KEY.json with the rest."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path

from eosin.core.errors import ImageError
from eosin.core.formats.dialogue import OUR_KEY
from eosin.core.formats.rows import dump_without_bytes, whole_file
from eosin.core.formats.sharegpt import image_suffix
from eosin.core.images import read_bytes
from eosin.core.nouns.outcome import Dropped
from eosin.core.nouns.sample import ImageBytes, ImageFile, Sample

STEP = "convert"


def write_webdataset(samples: Iterable[Sample], path: Path) -> tuple[int, list[Dropped]]:
    """Write pictures with captions into one tar; how many, and what has no caption or no picture that can be read.

    Keys are numbers in order. Times and owners are left out: the same samples give the same bytes.
    """
    count, dropped = 0, []
    with whole_file(path) as handle, tarfile.open(fileobj=handle, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for sample in samples:
            pictures = _pictures(sample)
            if isinstance(pictures, Dropped):
                dropped.append(pictures)
                continue
            key = f"{count:09d}"
            names = [f"{'' if i == 0 else f'.{i}'}{image_suffix(data)}" for i, data in enumerate(pictures)]
            for name, data in zip(names, pictures, strict=True):
                _add(tar, key + name, data)
            _add(tar, f"{key}.txt", str(sample.caption).encode("utf-8"))
            own = {"id": sample.id, OUR_KEY: {"sample": dump_without_bytes(sample), "files": names}}
            _add(tar, f"{key}.json", json.dumps(own, ensure_ascii=False).encode("utf-8"))
            count += 1
    return count, dropped


def _pictures(sample: Sample) -> list[bytes] | Dropped:
    if not (sample.caption or "").strip():
        return Dropped(sample.id, "no caption", "", STEP)
    if not sample.images or not all(isinstance(r, ImageBytes | ImageFile) for r in sample.images):
        return Dropped(sample.id, "no picture", "", STEP)
    try:
        return [read_bytes(ref) for ref in sample.images if isinstance(ref, ImageBytes | ImageFile)]
    except ImageError as exc:
        return Dropped(sample.id, exc.message, exc.where or "", STEP)


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))
