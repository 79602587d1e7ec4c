"""The table of what ran: stages with their time, memory, parameters and settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eosin.report import words
from eosin.report.drawing.numbers import count, duration, num, percent
from eosin.report.records.load import Run, StageRun
from eosin.report.sections.overview import as_text
from eosin.report.sections.replies import clipped


def stage_rows(run: Run) -> list[dict[str, Any]]:
    """The table of what ran, with the settings of each stage."""
    return [
        {
            "name": s.name,
            "kind": s.kind,
            "kind_words": words.KINDS.get(s.kind, ""),
            "algorithm": clipped(s.info.get("algorithm") or "", 200),
            "state": s.state,
            "start": run.start_of(s.name),
            "seconds": duration(s.info.get("seconds")),
            "steps": count(s.info.get("num_steps")),
            "memory": _gib(s.info.get("peak_rss_gib")),
            "parameters": _parameters(s.info),
            "slides": _slides(s.info),
            "checkpoint": s.checkpoint,
            "settings": _settings(run, s),
        }
        for s in run.stages
    ]


def _gib(value: Any) -> str:
    number = num(value)
    return "not recorded" if number is None else f"{number:.2f}\u00a0GiB"


def _parameters(info: Mapping[str, Any]) -> str:
    trainable, total = num(info.get("num_trainable")), num(info.get("num_parameters"))
    if trainable is None or total is None:
        return "not recorded"
    share = f" ({percent(trainable / total, 0)})" if total > 0 else ""
    return f"{count(trainable)} of {count(total)}{share}"


def _slides(info: Mapping[str, Any]) -> str:
    """What a slide was to the model: patches and tokens, on average over the slides that a stage was shown."""
    found = info.get("slides_shown")
    if not isinstance(found, Mapping) or not (shown := num(found.get("slides"))):
        return ""
    patches, tokens = (num(found.get(k)) or 0.0 for k in ("patches", "tokens"))
    pooled = count(found.get("pooled_slides")) if num(found.get("pooled_slides")) else "none"
    return f"{patches / shown:,.0f} patches, {tokens / shown:,.0f} tokens a slide; {pooled} pooled"


def _settings(run: Run, stage: StageRun) -> list[dict[str, Any]]:
    settings, inherited = stage.info.get("settings"), stage.info.get("inherited")
    if not isinstance(settings, Mapping):
        return []
    rows: list[dict[str, Any]] = []
    origin = {str(p.get("field")): str(p.get("from")) for p in run.provenance}
    for key, value in settings.items():
        field = f"stages.{stage.name}.{key}"
        nested = {v for k, v in origin.items() if k.startswith(field + ".") and v != "default"}
        came = origin.get(field) or ", ".join(sorted(nested)) or ("default" if origin else "")
        if isinstance(inherited, Mapping) and key in inherited:
            came = "inherited"
        rows.append({"field": str(key), "value": as_text(value), "from": came, "is_default": came == "default"})
    return sorted(rows, key=lambda r: bool(r["is_default"]))
