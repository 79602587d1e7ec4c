"""One reading of a whole slide as a page: question, reply, where the model looked, and the patches there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from eosin.core.images import decode, read_regular_file
from eosin.core.store.artifacts import write_text_atomic
from eosin.report.drawing.numbers import count, figure, percent
from eosin.report.drawing.pictures import data_uri
from eosin.report.pages.frame import clean, stylesheet, templates

MAP_PX = 1400
PATCH_PX = 176


def write_evidence_page(
    path: Path,
    told: Mapping[str, Any],
    picture: Path | None,
    patches: Sequence[Image.Image | None],
    has_geojson: bool,
) -> None:
    """Write the page, whole or not at all.

    Args:
        told: what stands in reply.json.
        picture: the map, or None. patches: pixels of told["evidence"]["top"], None where they are not at hand.
        has_geojson: whether evidence.geojson stands beside the page.
    """
    evidence = told["evidence"]
    page = (
        templates()
        .get_template("evidence.html.j2")
        .render(
            css=stylesheet(),
            told=told,
            evidence=evidence,
            blocks=list(told["blocks"].items()),
            options=[{"text": o, "chosen": o == told["answer_text"]} for o in told.get("options") or ()],
            facts=_facts(told),
            map=None if picture is None else data_uri(decode(read_regular_file(picture), str(picture)), MAP_PX),
            has_geojson=has_geojson,
            patches=_patches(evidence.get("top") or (), patches),
        )
    )
    write_text_atomic(path, clean(page))


def _facts(told: Mapping[str, Any]) -> list[tuple[str, str]]:
    slide, evidence = told["slide"], told["evidence"]
    rows = [
        ("slide", str(slide["file"])),
        ("patches", f"{count(slide['num_patches'])} of {figure(slide['tile_um'])} µm at {figure(slide['mpp'])} µm/px"),
        ("slide tokens", count(slide["num_tokens"])),
        ("encoder", str(slide["encoder"] or "not recorded")),
        ("checkpoint", str(told["checkpoint"])),
        ("reply", f"{count(told['num_tokens'])} tokens" + (", cut at the length cap" if told["truncated"] else "")),
    ]
    if "method" in evidence:
        rows.append(("evidence of", f"the {evidence['of']}, log p {evidence['logprob']:.3f}"))
        rows.append(("method", str(evidence["method"])))
        rows += [(f"note on {k}", str(v)) for k, v in evidence["notes"].items()]
    return rows


def _patches(top: Sequence[Mapping[str, Any]], pictures: Sequence[Image.Image | None]) -> list[dict[str, Any]]:
    return [
        {
            "uri": None if picture is None else data_uri(picture, PATCH_PX),
            "number": row["patch"],
            "place": f"x {row['x_um'] / 1000:.3f}, y {row['y_um'] / 1000:.3f}\u00a0mm",
            "share": percent(row["share"]),
        }
        for row, picture in zip(top, pictures, strict=True)
    ]
