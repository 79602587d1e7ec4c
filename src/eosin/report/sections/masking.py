"""What masking made of the samples of each stage, in words: trajectories, pseudo-bags, length caps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eosin.report.drawing.numbers import count, num, percent
from eosin.report.records.load import Run, StageRun

_MOST_LOST = 12


def mask_sections(run: Run) -> list[dict[str, Any]]:
    """One entry a stage that masks or whose length cap was measured."""
    found = []
    for stage in run.stages:
        facts = [*_trajectory(stage), *_pseudo_bags(stage), *_lengths(stage)]
        if facts:
            found.append({"name": stage.name, "facts": facts, "chains": _chains(stage), "lost": _lost(stage)})
    return found


def _part(stage: StageRun, name: str) -> Mapping[str, Any]:
    part = stage.info.get(name)
    return part if isinstance(part, Mapping) else {}


def _whole(part: Mapping[str, Any], key: str) -> str:
    value = num(part.get(key))
    return "not recorded" if value is None else count(round(value))


def _trajectory(stage: StageRun) -> list[tuple[str, str]]:
    part = _part(stage, "trajectory")
    if not part:
        return []
    shown = f"{_whole(part, 'num_rows')} of {_whole(part, 'num_samples')} samples"
    return [("rows of trajectories", f"{shown}; {_whole(part, 'num_whole')} with the loss on the whole reply")]


def _pseudo_bags(stage: StageRun) -> list[tuple[str, str]]:
    part = _part(stage, "pseudo_bags")
    if not part:
        return []
    settings = part.get("settings")
    mode = settings.get("mode") if isinstance(settings, Mapping) else None
    clusters = "random clusters (control)" if mode == "random" else "k-means clusters"
    return [
        ("slides measured", f"{_whole(part, 'num_measured')}, {clusters}, {_whole(part, 'num_replies')} replies"),
        ("masked copies", f"{_whole(part, 'num_copies')} of {_whole(part, 'num_chosen')} chosen samples"),
        ("copies with findings that became not assessable", _whole(part, "num_changed")),
        ("copies whose diagnosis lost its evidence", _whole(part, "num_diagnosis_lost")),
        *((f"set aside: {reason}", str(n)) for reason, n in _counts(part.get("set_aside"))),
    ]


def _lengths(stage: StageRun) -> list[tuple[str, str]]:
    part = _part(stage, "lengths")
    share = num(part.get("cut_share"))
    if share is None:
        return []
    told = f"{percent(share)} of {_whole(part, 'num')} are longer than {_whole(part, 'cap')} tokens"
    longest = f"{part.get('counts')}; longest {_whole(part, 'longest')}"
    return [("gold replies against the length cap", f"{told} ({longest})")]


def _counts(value: Any) -> list[tuple[str, int]]:
    if not isinstance(value, Mapping):
        return []
    return [(str(k), round(n)) for k, n in ((k, num(v)) for k, v in value.items()) if n is not None]


def _chains(stage: StageRun) -> list[dict[str, str]]:
    """Samples and rows by chain length."""
    part = _part(stage, "trajectory")
    samples, rows = dict(_counts(part.get("samples_by_chain_length"))), dict(_counts(part.get("rows_by_chain_length")))
    return [{"steps": k, "samples": count(samples[k]), "rows": count(rows.get(k, 0))} for k in samples]


def _lost(stage: StageRun) -> list[tuple[str, int]]:
    """Findings that became not assessable, the most frequent first."""
    return _counts(_part(stage, "pseudo_bags").get("lost"))[:_MOST_LOST]
