"""The result of a curation: a samples artifact with shards, `ledger.json`, `dropped/` by reason, and `card.md`."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eosin.core.settings.curation.recipe import CurationRecipe
from eosin.core.store import artifacts as store
from eosin.core.store.names import file_name
from eosin.curate.engine.card import card_text
from eosin.curate.engine.shards import Place, Shards

LEDGER = "ledger.json"
CARD = "card.md"
SCHEMA_VERSION = 1


def write_result(recipe: CurationRecipe, told: Mapping[str, Any], places: Sequence[Place], out: Path) -> store.Artifact:
    """Put what the last step wrote in its place."""
    ledger = ledger_of(recipe, places)
    last = Shards.of(places[-1])
    with store.writing(out, "samples", record={"curation": dict(told), "seed": recipe.seed}) as writer:
        whole = [s for s in range(len(last)) if last.sizes[s]]
        for number, shard in enumerate(whole):
            _link(places[-1].kept(shard), writer.dir / f"part-{number:05d}.parquet")
        for place in places:
            _write_dropped(place, writer.dir / "dropped")
        store.write_json(writer.dir / LEDGER, ledger)
        (writer.dir / CARD).write_text(card_text(recipe, ledger), encoding="utf-8")
        writer.counts |= {"samples": last.num_samples, "dropped": ledger["total"]["dropped"]}
        writer.facts["splits"] = ledger["steps"][-1]["splits"]
        writer.facts["drop_reasons"] = ledger["total"]["reasons"]
        writer.facts["seconds"] = {p.folder.name: p.done()["seconds"] for p in places}  # no part: parts have digests
        writer.facts["ledger"] = [{k: s[k] for k in ("step", "num_in", "num_kept", "num_out")} for s in ledger["steps"]]
    return store.open_artifact(out, "samples")


def ledger_of(recipe: CurationRecipe, places: Sequence[Place]) -> dict[str, Any]:
    """What each step was given, kept, set aside and made. A step is given what the one before it gave out."""
    steps = []
    for place in places:
        done = place.done()
        steps.append({"step": place.step, **done["counts"], "facts": done["facts"]})
    reasons: Counter[str] = Counter()
    for step in steps:
        reasons.update({f"{step['step']}: {reason}": n for reason, n in step["dropped"].items()})
    return {
        "schema_version": SCHEMA_VERSION,
        "name": recipe.name,
        "sum": "num_in = num_kept + sum(dropped); num_out = num_kept - parents + made + again; "
        "num_in of a step is num_out of the step before it",
        "steps": steps,
        "total": {
            "in": steps[0]["num_in"], "out": steps[-1]["num_out"], "dropped": reasons.total(),
            "made": sum(s["made"] + s["again"] - s["parents"] for s in steps),
            "reasons": dict(reasons.most_common()),
        },
    }  # fmt: skip


def _link(source: Path, target: Path) -> None:
    """The same file under another name where the disk can, else a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _write_dropped(place: Place, folder: Path) -> None:
    """What a step set aside, a file a reason, in the order of the samples."""
    files: dict[str, Any] = {}
    try:
        for part in sorted((place.folder / "dropped").glob("*.jsonl")):
            with part.open(encoding="utf-8", newline="\n") as lines:
                for line in lines:
                    reason = json.loads(line)["reason"]
                    if reason not in files:
                        folder.mkdir(exist_ok=True)
                        name = file_name(f"{place.folder.name}-{reason.replace('/', ' ')}.jsonl")
                        files[reason] = (folder / name).open("w", encoding="utf-8", newline="\n")
                    files[reason].write(line)
    finally:
        for handle in files.values():
            handle.close()
