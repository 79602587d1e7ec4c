"""An exam of one model on one set of samples: greedy decoding, strict scores, probes, one artifact."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from eosin.core.draw import subset
from eosin.core.errors import EosinError, disk_errors
from eosin.core.images import RegionReader
from eosin.core.nouns.classes import Classes
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import Sample
from eosin.core.settings.exam import ExamSettings
from eosin.core.store import artifacts as store
from eosin.core.store.lock import lock_beside, locked
from eosin.engines.base import Decoding, Engine
from eosin.evaluate.baselines.baselines import Results
from eosin.evaluate.baselines.verdict import against_baselines
from eosin.evaluate.evidence.tests import Attributor
from eosin.evaluate.exam.evaluator import NO_REPLY, Evaluator, Instance, Progress
from eosin.evaluate.exam.items import check_samples
from eosin.evaluate.exam.open_answers import open_figures
from eosin.evaluate.exam.option_probabilities import option_calibration, option_rows
from eosin.evaluate.exam.scores import chance, class_figures, further_figures, matching, sampled_figures, score_rows
from eosin.evaluate.exam.terms import score_terms
from eosin.evaluate.exam.work import EVIDENCE, Work, exam_key, remove_work
from eosin.evaluate.probes.probes import looks_at_image, run_probes
from eosin.evaluate.probes.reasoning import entailment
from eosin.evaluate.statistics.entity_scores import entity_figures
from eosin.scoring.sets.compose import RewardSet

Rows = list[dict[str, Any]]


def run_exam(
    engine: Engine,
    samples: Sequence[Sample],
    grammar: Grammar,
    settings: ExamSettings,
    out: Path,
    *,
    record: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    parents: Sequence[store.Artifact] = (),
    instruction: bool = True,
    read_region: RegionReader | None = None,
    evidence: Attributor | None = None,
    baselines: Results | None = None,
    rewards: RewardSet | None = None,
) -> dict[str, Any]:
    """Examine a model and write the artifact `out` (kind "eval"); return its summary.json.

    A finished exam at `out` is returned without work. An interrupted one goes on: rows are kept, batch by
    batch, in a work folder beside `out` whose name is a digest of samples, settings, grammar, engine name
    and `parents`. The samples are examined as given; `settings.split` is for the caller who chooses them.

    Args:
        record: fields for the artifact's record (recipe, stage, ...).
        progress: called with phase, instances done, instances in all.
        parents: the checkpoint (and samples) examined. Without the checkpoint here, rows of another
            checkpoint under the same engine name would be taken for finished ones.
        instruction: whether the prompt states the reply's form, as in training.
        read_region: reads slide regions and bags.
        evidence: says where the model looked (`evidence.ModelEvidence`), for `settings.evidence`. Without it the
            summary says that no evidence was measured.
        baselines: what the baselines of this exam came to (`BaselineRunner.of`); the summary then says whether the
            model beats the best of them.
        rewards: what the greedy replies are also scored by, for `settings.terms` (`exam.terms`).

    Raises:
        EosinError: no samples, an id twice, samples without an answer, no usable image at all, another
        exam at `out`.
    """
    check_samples(samples)
    asked = subset(samples, settings.max_samples, settings.seed)
    terms = _terms(engine, grammar, settings, parents, instruction)
    key = exam_key(asked, terms)
    with locked(lock_beside(out)):
        finished = _finished(out, key)
        if finished is not None:
            return finished
        work = Work(out, key)
        decoding = Decoding(settings.max_new_tokens, batch_size=settings.batch_size, seed=settings.seed)
        evaluator = Evaluator(engine, grammar, Classes.of(asked), decoding, work, instruction, read_region, progress,
                              settings.input)  # fmt: skip
        summary, files = _examine(evaluator, asked, settings, evidence, rewards)
        if baselines is not None:
            rows = files["predictions.jsonl"]
            summary["against_baselines"] = against_baselines(rows, baselines, evaluator.classes, settings)
        _write(out, work, summary, files, key, parents, {"seed": settings.seed, **(record or {})})
        remove_work(out)
    return summary


def _write(
    out: Path, work: Work, summary: dict[str, Any], files: dict[str, Rows], key: str,
    parents: Sequence[store.Artifact], told: Mapping[str, Any],
) -> None:  # fmt: skip
    """The exam as one artifact."""
    with store.writing(out, "eval", parents=parents, record=told) as writer:
        for name, rows in files.items():
            (writer.dir / name).write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="ascii")
        if (maps := work.dir / EVIDENCE).is_dir():
            shutil.copytree(maps, writer.dir / EVIDENCE)
        store.write_json(writer.dir / "summary.json", summary)
        writer.counts = {"scored": summary["n"], "set_aside": summary["num_set_aside"]}
        writer.facts = {"exam_key": key}


def _terms(
    engine: Engine,
    grammar: Grammar,
    settings: ExamSettings,
    parents: Sequence[store.Artifact],
    instruction: bool,
) -> dict[str, Any]:
    # "transformers:PATH": where the checkpoint's digest is known, the spelling of its path does not matter.
    return {
        "engine": engine.name.split(":", 1)[0] if parents else engine.name,
        "parents": [p.digest for p in parents],
        # Exams of before a way of thinking could be asked for keep their key.
        "grammar": [grammar.name, grammar.numbered_steps, *grammar.further().values()],
        "instruction": instruction,
        # Exams of before a setting was there keep their key while it stands at its default.
        "settings": settings.model_dump(exclude=_new_at_default(settings)),
    }


def _new_at_default(settings: ExamSettings) -> set[str]:
    """Settings on which this exam does not depend."""
    new = (
        "evidence", "baselines", "baseline_train", "terms", "scoring", "same_judge", "max_unscored", "prompt", "input",
        "questions", "earlier_turns", "option_probabilities",
    )  # fmt: skip
    found = {name for name in new if getattr(settings, name) == ExamSettings.model_fields[name].default} | {"shifts"}
    return found if settings.terms is not None else found | {"terms", "scoring", "same_judge", "max_unscored"}


def _finished(out: Path, key: str) -> dict[str, Any] | None:
    """The summary of this very exam if it stands at `out`; refuse a place where something else stands."""
    if not out.exists():
        return None
    if not store.exists(out):
        if out.is_dir() and not any(out.iterdir()):
            with disk_errors(out):
                out.rmdir()
            return None
        raise EosinError(
            "There is something else at the place of this exam.",
            expected="nothing, or a finished exam",
            where=out,
            next_step="choose another --out, or move it away",
        )
    artifact = store.open_artifact(out, "eval")
    if artifact.manifest.get("exam_key") != key:
        raise EosinError(
            "Another exam stands at this place: its samples, settings or checkpoint differ.",
            where=out,
            next_step="choose another --out, or move the old folder away",
        )
    remove_work(out)
    summary: dict[str, Any] = store.read_object(out / "summary.json")
    return summary


def _examine(
    evaluator: Evaluator, asked: Sequence[Sample], settings: ExamSettings, attributor: Attributor | None,
    rewards: RewardSet | None,
) -> tuple[dict[str, Any], dict[str, Rows]]:  # fmt: skip
    """All phases of an exam: its summary and the rows of each file."""
    everything = evaluator.run("predictions", [Instance.plain(s, scores=settings.option_probabilities) for s in asked])
    rows = [r for r in everything if "set_aside" not in r]
    aside = [r for r in everything if "set_aside" in r]
    if not rows:
        raise _nothing_scored(aside)
    normal = {r["id"]: r for r in rows}
    usable = [s for s in asked if s.id in normal]
    draws = _sampled(evaluator, usable, settings)
    probes, probe_rows, skipped = run_probes(evaluator, usable, normal, settings)
    summary = _summary(evaluator, rows, aside, usable, settings)
    summary["probes"] = probes
    summary["probes_skipped"] = skipped
    summary["entailment"] = entailment(rows, evaluator.grammar, settings)
    summary["looks_at_image"], summary["looks_at_image_reason"] = looks_at_image(probes)
    summary["sampled"] = sampled_figures(draws, settings) if draws else None
    files = {"predictions.jsonl": rows, **{f"probe-{name}.jsonl": r for name, r in probe_rows.items()}}
    if aside:
        files["set_aside.jsonl"] = aside
    if rewards is not None:
        summary["scored"], files["terms.jsonl"] = score_terms(rewards, usable, normal, settings, evaluator.read_region)
        summary["scored"]["same_judge"] = settings.same_judge
    if settings.option_probabilities:
        options, found_by = option_rows(evaluator, usable, normal, draws, settings)
        summary["calibration"] = option_calibration(options, found_by, rows, settings)
        if options:
            files["options.jsonl"] = options
    summary["evidence"], measured = _evidence(evaluator, attributor, usable, normal, settings)
    if measured:
        files["evidence.jsonl"] = measured
    if draws:
        files["sampled.jsonl"] = [{**r, "draw": k} for k, drawn in enumerate(draws) for r in drawn]
    return summary, files


def _evidence(
    evaluator: Evaluator,
    attributor: Attributor | None,
    usable: Sequence[Sample],
    normal: Mapping[str, Mapping[str, Any]],
    settings: ExamSettings,
) -> tuple[dict[str, Any] | None, Rows]:
    """Deletion and pointing tests, where the settings ask for them."""
    if settings.evidence is None:
        return None, []
    if attributor is None:
        return {"n": 0, "reason": "the weights of this engine's model are not at hand"}, []
    from eosin.evaluate.evidence.run import measure  # maps are drawn with the packages that read slides

    return measure(evaluator, attributor, usable, normal, settings)


def _sampled(evaluator: Evaluator, usable: Sequence[Sample], settings: ExamSettings) -> list[Rows]:
    instances = [Instance.plain(s) for s in usable]
    decoding = Decoding(
        settings.max_new_tokens, settings.temperature, settings.top_p, settings.batch_size, settings.seed
    )
    draws = [evaluator.run(f"sampled-{k}", instances, decoding) for k in range(settings.num_sampled)]
    return [[r for r in rows if "set_aside" not in r] for rows in draws]


def _summary(
    evaluator: Evaluator, rows: Rows, aside: Rows, usable: Sequence[Sample], settings: ExamSettings
) -> dict[str, Any]:
    return {
        **score_rows(rows, evaluator.classes, settings),
        **class_figures(rows, evaluator.classes),
        **further_figures(rows, evaluator.classes, settings),
        "entities": entity_figures(rows, settings),
        "open": open_figures(usable, {r["id"]: r for r in rows}, evaluator.grammar, settings),
        "num_set_aside": len(aside),
        "set_aside_reasons": dict(Counter(r["set_aside"] for r in aside).most_common()),
        "chance": chance(usable),
        "match": matching(usable),
        "mean_num_tokens": _mean([r["num_tokens"] for r in rows if r["num_tokens"] is not None]),
        "grammar": evaluator.grammar.name,
        "instruction": evaluator.instruction,
        "engine": evaluator.engine.name,
        "input": settings.input.described(),
        "prompt": settings.prompt or "grammar",
        "decoding": asdict(evaluator.decoding),
        "bootstrap": settings.bootstrap,
        "seed": settings.seed,
        "note": "Research use only, not for diagnosis.",
    }


def _mean(values: Sequence[int]) -> float | None:
    return sum(values) / len(values) if values else None


def _nothing_scored(aside: Rows) -> EosinError:
    unanswered = all(r["set_aside"].startswith(NO_REPLY) for r in aside)
    return EosinError(
        f"None of the {len(aside)} items of this exam has a {'reply' if unanswered else 'usable image'}.",
        found=", ".join(sorted({r["set_aside"] for r in aside})),
        where=aside[0]["detail"] or None,
        next_step="see to the server" if unanswered else "see that the image files are where the samples say",
    )
