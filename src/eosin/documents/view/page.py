"""The pages to look at: each page of a document with its boxes, captions joined to figures by colour, and what was set
aside with its reason. One HTML file a document, no script, nothing from elsewhere."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from eosin.core.images import decode, read_regular_file
from eosin.core.nouns.outcome import Dropped
from eosin.core.store.names import file_name

if TYPE_CHECKING:
    from eosin.documents.work.all import Read

COLOURS = ("#523f94", "#c5397b", "#1f7a8c", "#9a6b32", "#3d7d2e", "#7a4ca0", "#b3472c", "#2b5fa8")
MAX_DOCUMENTS = 500
_THUMB_PX = 420


def write_pages(read: Read, place: Path, summary: Mapping[str, Any], dropped: Sequence[Dropped]) -> None:
    """Write `index.html` and a page for each document into `place`, previews held in the pages."""
    environment = _templates()
    rows = []
    (place / "pages").mkdir()
    for k, (folder, record) in enumerate(read.records()):
        row = {"title": record["about"]["title"] or record["about"]["file"], "file": record["about"]["file"],
               "licence": record["about"]["licence"], "figures": len(record["figures"]), "page": "",
               "aside": len(record["dropped"]), "retracted": record["about"]["retracted"]}  # fmt: skip
        if k < MAX_DOCUMENTS:
            name = file_name(f"{folder.name}.html")
            html = environment.get_template("document.html.j2").render(**document_view(folder, record))
            (place / "pages" / name).write_text(html, encoding="utf-8", errors="replace")
            row["page"] = f"pages/{name}"
        rows.append(row)
    whole = [d for d in dropped if d.step != "choose"][:500]
    html = environment.get_template("index.html.j2").render(rows=rows, summary=summary, dropped=whole)
    (place / "index.html").write_text(html, encoding="utf-8", errors="replace")


def document_view(folder: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """What the page of a document shows."""
    figures = [_figure(folder, figure, COLOURS[i % len(COLOURS)]) for i, figure in enumerate(record["figures"])]
    pages = [_page(folder, drawn, record, figures) for drawn in record.get("previews", [])]
    return {"about": record["about"], "figures": figures, "pages": pages, "dropped": record["dropped"],
            "tables": record["tables"]}  # fmt: skip


def _figure(folder: Path, figure: Mapping[str, Any], colour: str) -> dict[str, Any]:
    view = {**figure, "colour": colour, "thumb": "", "boxes": []}
    if figure["image"] is None:
        return view
    image = decode(read_regular_file(folder / figure["image"]))
    width, height = image.size
    image.thumbnail((_THUMB_PX, _THUMB_PX))
    view["thumb"] = _inline(image)
    view["view_px"] = image.size
    for panel in figure.get("panels") or []:
        view["boxes"].append({"letter": panel["letter"], **_shares(panel["box_px"], width, height)})
    return view


def _page(
    folder: Path, drawn: Mapping[str, Any], record: Mapping[str, Any], figures: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    number = drawn["number"]
    size = next((p["width"], p["height"]) for p in record["about"]["pages"] if p["number"] == number)
    boxes = list(_boxes(number, size, record, figures))
    data = read_regular_file(folder / drawn["file"])
    return {"number": number, "image": "data:image/jpeg;base64," + base64.b64encode(data).decode("ascii"),
            "px": drawn["px"], "boxes": boxes}  # fmt: skip


def _boxes(
    number: int, size: tuple[float, float], record: Mapping[str, Any], figures: Sequence[Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    for figure in figures:
        place = figure["place"]
        name = figure["label"] or figure["number"]
        if place.get("page") == number and "box_pt" in place:
            yield {"kind": "figure", "colour": figure["colour"], "name": name, **_shares(place["box_pt"], *size)}
            for part in place.get("parts_pt", []) if len(place.get("parts_pt", [])) > 1 else []:
                yield {"kind": "part", "colour": figure["colour"], "name": "", **_shares(part, *size)}
        if place.get("caption_page") == number:
            box = _shares(place["caption_box_pt"], *size)
            yield {"kind": "caption", "colour": figure["colour"], "name": f"caption of {name}", **box}
        more = place.get("caption_goes_on")
        if more and more["page"] == number:
            box = _shares(more["box_pt"], *size)
            yield {"kind": "caption", "colour": figure["colour"], "name": f"caption of {name} goes on", **box}
    for aside in record["aside"]:
        if aside["page"] == number:
            yield {"kind": "aside", "colour": "#777", "name": aside["reason"], **_shares(aside["box"], *size)}


def _shares(box: Sequence[float], width: float, height: float) -> dict[str, float]:
    """A box in percent of its page or picture."""
    x0, y0, x1, y1 = box
    return {"left": round(100 * x0 / width, 2), "top": round(100 * y0 / height, 2),
            "width": round(100 * (x1 - x0) / width, 2), "height": round(100 * (y1 - y0) / height, 2)}  # fmt: skip


def _inline(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("eosin.documents.view"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.globals["css"] = (Path(__file__).parent / "templates" / "view.css").read_text("utf-8")
    return environment
