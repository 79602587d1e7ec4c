"""What a vision-language model behind a server says of a figure, beside what the rules found.

Its reading is kept with every figure under `second`, with a list of where it disagrees; only where the user asks for it
does it change kind and panels. Without a server the rules stand alone.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

from PIL import Image

from eosin.clients.chat import ChatClient, ChatRequest, Message
from eosin.core.errors import EosinError
from eosin.core.images import decode, read_regular_file
from eosin.core.nouns.outcome import Parsed, Unparsed
from eosin.core.settings.base import FigureKind
from eosin.core.store.artifacts import read_object, write_json
from eosin.documents.page.boxes import Box

SIDE_PX = 1024
SAME_IOU = 0.5
_NO_ANSWER = ("no connection", "timed out")
_KINDS = list(get_args(FigureKind))
_SCHEMA = {
    "type": "object", "additionalProperties": False, "required": ["belongs", "kind", "panels"],
    "properties": {
        "belongs": {"type": "boolean"},
        "kind": {"type": "string", "enum": _KINDS},
        "panels": {"type": "array", "items": {
            "type": "object", "additionalProperties": False, "required": ["letter", "box", "caption"],
            "properties": {"letter": {"type": "string"}, "caption": {"type": "string"},
                           "box": {"type": "array", "items": {"type": "number"}, "minItems": 4, "maxItems": 4}}}},
    },
}  # fmt: skip
_ASKS = (
    "Here is a figure of a document and the caption that was found for it. Say whether the caption belongs to the "
    "figure; what kind of picture it mostly is, one of: {kinds}; and its panels, each with its letter (empty if it has "
    "none), its box as shares of the picture's width and height [left, top, right, bottom] from 0 to 1, and its own "
    "part of the caption word for word. A figure of one picture has no panels.\n\nCaption: {caption}"
)


def read_again(
    folder: Path, client: ChatClient, *, refine: bool = False, report: Callable[[str], None] | None = None
) -> int:
    """Ask of every figure of a document that was not asked of yet; its record is written again. Returns how many.

    Args:
        folder: of a document that was read. refine: let the second reader's kind and panels stand.

    Raises:
        EosinError: the server does not answer any more; what it has read is kept.
    """
    file = folder / "document.json"
    record = read_object(file)
    asked = 0
    for figure in record["figures"]:
        if figure["image"] is None or "second" in figure:
            continue
        answer = ask(decode(read_regular_file(folder / figure["image"])), figure, client)
        if isinstance(answer, Unparsed) and answer.reason.startswith(_NO_ANSWER):
            refuse_silent(client)
        figure["second"] = {"failed": answer.reason} if isinstance(answer, Unparsed) else compared(figure, answer.value)
        if refine and isinstance(answer, Parsed):
            refined(figure)
        asked += 1
        write_json(file, record)
        if report is not None:
            report(
                f"{folder.name} {figure['label']}: {', '.join(figure['second'].get('disagrees', [])) or 'as the rules'}"
            )
    return asked


def refuse_silent(client: ChatClient) -> None:
    """Refuse a server that does not answer, before anybody waits for it figure by figure.

    Raises:
        EosinError: with the reason. A server that answers, whatever it says, is taken as it is.
    """
    found = client.models_now()
    if isinstance(found, Unparsed) and found.reason.startswith(_NO_ANSWER):
        raise EosinError("The second reader's server does not answer.", found=found.reason,
                         where=client.settings.base_url,
                         next_step="start that server, or mend its address; then give the same command")  # fmt: skip


def ask(image: Image.Image, figure: Mapping[str, Any], client: ChatClient) -> Parsed[dict[str, Any]] | Unparsed:
    """The second reader's words of a figure, or why there are none."""
    shown = image.copy()
    shown.thumbnail((SIDE_PX, SIDE_PX))
    buffer = io.BytesIO()
    shown.save(buffer, "JPEG", quality=88)
    text = _ASKS.format(kinds=", ".join(_KINDS), caption=figure["caption"])
    request = ChatRequest((Message("user", (buffer.getvalue(), text)),), ("figure", _SCHEMA))
    answer: Parsed[str] | Unparsed = client.complete_now(request)
    if isinstance(answer, Unparsed):
        return answer
    try:
        told = json.loads(answer.value)
        boxes = [[float(v) for v in p["box"]] for p in told["panels"]]
        good = isinstance(told["belongs"], bool) and told["kind"] in _KINDS and all(_is_box(b) for b in boxes)
        names = all(isinstance(p["letter"], str) and isinstance(p["caption"], str) for p in told["panels"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return Unparsed("answer is not of the form that was asked for")
    return Parsed(told) if good and names else Unparsed("answer is not of the form that was asked for")


def _is_box(box: list[float]) -> bool:
    return len(box) == 4 and 0 <= box[0] < box[2] <= 1.001 and 0 <= box[1] < box[3] <= 1.001


def compared(figure: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    """The second reading with boxes in pixels, and in what it disagrees with the rules."""
    wide, high = figure["px"]
    panels = [{"letter": p["letter"].strip().lower(), "caption": " ".join(p["caption"].split()),
               "box_px": [round(p["box"][0] * wide), round(p["box"][1] * high),
                          min(wide, round(p["box"][2] * wide)), min(high, round(p["box"][3] * high))]}
              for p in told["panels"]]  # fmt: skip
    differs = []
    if not told["belongs"]:
        differs.append("caption")
    if told["kind"] != (figure.get("kind") or {}).get("name"):
        differs.append("kind")
    if not _same_panels(figure.get("panels") or [], panels):
        differs.append("panels")
    return {"belongs": told["belongs"], "kind": told["kind"], "panels": panels, "disagrees": differs}


def _same_panels(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> bool:
    if len(ours) != len(theirs):
        return False
    return all(
        any(p["letter"] in (q["letter"], "") and Box(*p["box_px"]).iou(Box(*q["box_px"])) > SAME_IOU for q in ours)
        for p in theirs
    )


def refined(figure: dict[str, Any]) -> None:
    """Let the second reader's kind and panels stand in a figure, and note it; the caption of the rules stays."""
    second = figure["second"]
    changed = [w for w in ("kind", "panels") if w in second["disagrees"]]
    if "kind" in changed:
        figure["kind"] = {"name": second["kind"], "score": 1.0, "by": "second reader"}
    if "panels" in changed:
        figure["panels"] = [{**p, "how": "second reader"} for p in second["panels"]]
    figure["notes"] += [f"{w} by the second reader" for w in changed]
