"""Everything that was corrected, in one folder or one archive, without a path of this machine."""

from __future__ import annotations

import io
import json
import zipfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import Sample
from eosin.core.store.names import file_name
from eosin.serve.corrections.samples import grammar_of, preference_rows, samples_of
from eosin.serve.corrections.shapes import label_studio, shapes_of, slides_of
from eosin.serve.corrections.store import CorrectionStore, Version
from eosin.slides.annotations.geojson import collection

NOTE = "Corrections by experts. Research use only, not for diagnosis."
SizeOf = Callable[[str], tuple[int, int] | None]


def files_of(
    store: CorrectionStore, grammar: Grammar | None = None, size_of: SizeOf = lambda slide: None,
    readers: Sequence[str] | None = None,
) -> dict[str, str]:  # fmt: skip
    """Text by name of file: versions.jsonl (all of them), pairs.jsonl, labelstudio.json, annotations/SLIDE.geojson.

    Args:
        grammar: form of the replies in pairs; None is that of the reply which was put right.
        readers: whose corrections alone, in every file; None is everybody's.
        size_of: width and height of a slide by its key, for Label Studio's polygons; None where it is not at hand.
    """
    versions = [v for v in store.versions() if readers is None or v.correction.reader in readers]
    readings = {r["id"]: r for r in store.readings()}
    by_reading: dict[str, list[Version]] = defaultdict(list)
    for version in store.signed(readers):
        by_reading[version.reading].append(version)
    shapes: dict[str, list[Any]] = defaultdict(list)
    tasks = []
    for id, signed in sorted(by_reading.items()):
        reading = readings[id]
        for slide in slides_of(reading):
            tasks.append(label_studio(reading, signed, size_of(slide["key"]), slide))
            shapes[slide["name"]] += [s for v in signed for s in shapes_of(reading, v.correction, slide["key"])]

    def form(sample: Sample) -> Grammar:
        return grammar or grammar_of(readings[str(sample.extra["reading"])], "think/answer")

    pairs = preference_rows(samples_of(store, readers).kept, form)
    files = {
        "versions.jsonl": _lines([v.record() | {"model": readings[v.reading].get("model")} for v in versions]),
        "readings.jsonl": _lines([readings[i] for i in sorted({v.reading for v in versions})]),
        "pairs.jsonl": _lines(pairs),
        "labelstudio.json": json.dumps(tasks, ensure_ascii=False, indent=1) + "\n",
    }
    for name, own in shapes.items():
        told = collection(own, {"note": NOTE, "slide": name})
        files[f"annotations/{file_name(name.replace('/', '_'))}.geojson"] = json.dumps(told, ensure_ascii=False) + "\n"
    return files


def _lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows)


def zipped(files: dict[str, str]) -> bytes:
    """The files as a zip archive."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return out.getvalue()
