"""`eosin run`: a recipe from data to report. Every step is a whole artifact on disk; none is done twice."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from eosin.chain.parts import training_part
from eosin.chain.recipe import data as chain_data
from eosin.chain.recipe.follow import follow
from eosin.chain.recipe.layout import Layout
from eosin.chain.recipe.state import RunState
from eosin.chain.recipe.streaming import stage_part, streams
from eosin.chain.recipe.tools import exam_rewards, try_all
from eosin.core.errors import EosinError
from eosin.core.nouns.prompt import asked_otherwise
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import Sample
from eosin.core.ranks import rank
from eosin.core.settings.clip import ClipStage
from eosin.core.settings.exam import ExamSettings
from eosin.core.settings.recipe import Recipe, Resolved
from eosin.core.stopping import StopRequested
from eosin.core.store import artifacts as store
from eosin.core.store.lock import locked
from eosin.core.store.record import differences
from eosin.core.store.yaml_text import parse_yaml
from eosin.curate.engine.run import content_of
from eosin.evaluate.exam import work as exam_work
from eosin.evaluate.exams.prompts import OWN, preset_named

if TYPE_CHECKING:
    from eosin.evaluate.baselines.baselines import BaselineRunner, Results

console = Console(stderr=True, highlight=False, soft_wrap=True)


def run_recipe(resolved: Resolved, out: Path, *, must_resume: bool = False) -> dict[str, Any]:
    """Run what is not yet done of a recipe in folder `out`; return summary.json.

    Args:
        must_resume: refuse to start a new run.

    Raises:
        EosinError: the folder holds something else, or a run of another recipe, or no run where one must be.
    """
    layout = Layout(out)
    if rank() > 0:
        return follow(resolved, layout, _is_finished)
    _refuse_other(layout, resolved, must_resume)
    if not _is_finished(layout) or layout.lock.exists():  # a lock that stands: somebody is here, or was killed here
        with locked(layout.lock):
            _claim(layout, resolved, must_resume)
            store.remove_leftovers(out)
            if not _is_finished(layout):
                return Run(resolved, layout).go()
    console.print(f"This run is complete: {out}. Nothing to do.")
    summary: dict[str, Any] = store.read_object(layout.summary)
    return summary


def _is_finished(layout: Layout) -> bool:
    """Whether a run is complete and all that it says of itself is there."""
    if not layout.summary.exists() or store.read_object(layout.summary).get("state") != "complete":
        return False
    return all(path.exists() for path in (layout.metrics, layout.rollouts, layout.report))


def _with_new_defaults(old: Any) -> Any:
    """A stored recipe with the defaults of settings that are newer than it: a run of an older version goes on."""
    try:
        return Recipe.model_validate(old).model_dump(mode="json")
    except ValueError:
        return old


def _refuse_other(layout: Layout, resolved: Resolved, must_resume: bool) -> None:
    """See that the folder is free, or holds a run of this very recipe.

    A folder with nothing but what a start leaves that was killed before recipe.yaml stood there is free.
    """
    new = resolved.recipe.model_dump(mode="json")
    if layout.recipe.exists():
        old = _with_new_defaults(parse_yaml(layout.recipe.read_text("utf-8"), layout.recipe))
        for one in (old, new):  # the same run may go on with other processes, and be watched elsewhere
            if isinstance(one, dict):
                one.pop("launch", None)
                one.pop("track", None)
                if isinstance(data := one.get("data"), dict) and isinstance(data.get("curate"), dict):
                    data["curate"] = content_of(data["curate"])
        if old != new:
            raise EosinError(
                "This folder holds a run of another recipe.",
                expected="the same settings",
                found="; ".join(differences(old, new)[:6]),
                where=layout.out,
                next_step="choose another --out (nothing is overwritten)",
            )
        return
    if must_resume:
        raise EosinError("There is no run to resume.", where=layout.out, next_step="leave out --resume")
    if layout.out.exists() and any(not _of_a_start(layout, p) for p in layout.out.iterdir()):
        raise EosinError(
            "This folder is not empty and holds no run.", where=layout.out, next_step="choose another --out"
        )


def _of_a_start(layout: Layout, path: Path) -> bool:
    """Whether a run makes this file before its recipe stands in the folder."""
    return path in (layout.lock, layout.provenance) or store.is_leftover(path)


def _claim(layout: Layout, resolved: Resolved, must_resume: bool) -> None:
    """Make the folder one of this run, where it is not yet. The recipe comes last: with it the folder holds a run."""
    _refuse_other(layout, resolved, must_resume)  # again, now that nobody else can claim it
    if not layout.recipe.exists():
        store.write_json(layout.provenance, list(resolved.provenance))
        store.write_text_atomic(layout.recipe, resolved.to_yaml())


class Run(RunState):
    """One run in progress."""

    def __init__(self, resolved: Resolved, layout: Layout) -> None:
        super().__init__(resolved, layout)
        self._baselines: BaselineRunner | None = None

    def go(self) -> dict[str, Any]:
        console.print(f"[bold]{self.recipe.name}[/bold]  ->  {self.at.out}   (research use only, not for diagnosis)")
        self.print_settings()
        try:
            self.splits = chain_data.prepare(self.recipe, self.at, self.read_region)
            for name in self.recipe.stages:  # what a later stage lacks is said before the first is trained
                self._check_part(name)
            try_all(self)
            if self.recipe.has_language:
                self.baselines()
                self.base_model()
                if self.recipe.base_exam:
                    self.exams("base")
            for name in self.recipe.stages:
                self.stage(name)
            shutil.rmtree(self.at.cache, ignore_errors=True)
        except StopRequested:  # there is little time left: the next start sums up
            raise
        except BaseException:
            # What stands so far is still summed up, but a second fault must not hide the first.
            with contextlib.suppress(Exception):
                self.write_summary()
            raise
        return self.write_summary()

    def _check_part(self, name: str) -> None:
        if streams(self.recipe):
            stage_part(self.recipe, self.index, name)
        else:
            training_part(self.recipe, name, self.splits["train"])

    def print_settings(self) -> None:
        """What every stage was given: settings that differ from the defaults, and where they come from."""
        table = Table("stage", "setting", "value", "from", box=None, padding=(0, 2, 0, 0), show_header=False)
        for row in self.resolved.provenance:
            path = row["field"].split(".")
            if path[0] == "stages" and row["from"] != "default" and path[-1] != "kind":
                table.add_row(path[1], ".".join(path[2:]), str(row["value"]), f"[dim]{row['from']}")
        if table.row_count:
            console.print(table)

    def baselines(self) -> None:
        """What each exam can be passed with without the model; fitted on the train split, once for all exams."""
        if not self.at.baselines.exists():
            found = {name: self.baselines_of(name).figures for name in self.recipe.exams}
            store.write_json(self.at.baselines, found)

    def baselines_of(self, exam: str) -> Results:
        """The baselines of one exam: from the run's folder, else computed."""
        from eosin.evaluate.baselines.baselines import BaselineRunner

        if self._baselines is None:
            self._baselines = BaselineRunner(
                self.splits["train"], self.splits["valid"], read_region=self.read_region,
                cache=self.at.baseline_results, tell=console.print,
            )  # fmt: skip
        settings = self.recipe.exams[exam]
        return self._baselines.of(self.splits[settings.split], settings)

    def base_model(self) -> None:
        """Build the first model where the recipe asks for one. A hub model is loaded by its name when needed."""
        from eosin.core.settings.model import HubModel

        if isinstance(self.recipe.model, HubModel) or store.exists(self.at.base):
            return
        from eosin.chain.base.build import build_base
        from eosin.models import checkpoint

        model, processor = build_base(self.recipe, self.splits["train"], self.read_region)
        grammar = self.recipe.reply_grammar
        facts = {
            "stage": "base",
            "step": 0,
            "grammar": grammar.as_facts(),
            "instruction": self.recipe.prompt.instruction,
        }
        checkpoint.save(model, processor, self.at.base, parents=(self.samples_artifact(),), facts=facts)
        millions = sum(p.numel() for p in model.parameters()) / 1e6
        console.print(f"base: {type(model).__name__} with {millions:.1f} M parameters")

    def stage(self, name: str) -> None:
        """Train one stage from the checkpoint it starts from, unless it is done; then examine it."""
        settings = self.recipe.stages[name]
        if self.at.stage_record(name).exists():
            store.discard(self.at.stage_work(name))  # a kill may have come after the record
        else:
            from eosin.chain.recipe.stages import run_stage  # loads torch

            run_stage(self, name)
        if settings.exam and isinstance(settings, ClipStage):
            from eosin.chain.clip_stage import examine_stage

            examine_stage(self, name)
        elif settings.exam:
            self.exams(name)

    def exams(self, stage: str) -> None:
        """Run every exam of the recipe on a stage's checkpoint. Finished exams are not run again."""
        todo = {n: s for n, s in self.recipe.exams.items() if not store.exists(self.at.exam(stage, n))}
        for name in self.recipe.exams.keys() - todo.keys():
            exam_work.clear(self.at.exam(stage, name))
        if not todo:
            return
        from eosin.chain.exam import evidence_of
        from eosin.engines.transformers_engine import TransformersEngine
        from eosin.evaluate.exam.exam import run_exam
        from eosin.models.vision_cache import cache_vision

        loaded = self.load(stage)
        engine = TransformersEngine(loaded)
        limit = max((getattr(s, "vision_cache_gib", 0.0) for s in self.recipe.stages.values()), default=0.0)
        with cache_vision(loaded.model, self.at.cache, limit, trains=False):
            for exam, settings in todo.items():
                grammar, instruction = self.form_of(settings)
                result = run_exam(
                    engine,
                    self.asked(settings),
                    grammar,
                    settings,
                    self.at.exam(stage, exam),
                    record={"recipe": self.recipe.name, "stage": stage, "seed": settings.seed},
                    parents=self.parents(stage),
                    instruction=instruction,
                    read_region=self.read_region,
                    evidence=evidence_of(loaded, settings),
                    baselines=self.baselines_of(exam),
                    rewards=exam_rewards(settings, grammar, self.at.verdicts),
                )
                console.print(f"{stage}: {in_words(result)}")

    def asked(self, settings: ExamSettings) -> list[Sample]:
        """The samples of an exam, in the words in which it asks them."""
        samples = self.splits[settings.split]
        if settings.questions or settings.earlier_turns:
            samples = [asked_otherwise(s, settings.questions, settings.earlier_turns, settings.seed) for s in samples]
        preset = preset_named(settings.prompt or OWN)
        return [preset.applied(s) for s in samples]

    def form_of(self, settings: ExamSettings) -> tuple[Grammar, bool]:
        """The reply grammar of an exam, and whether its prompt states it: as `eosin evaluate --prompt` has it."""
        return preset_named(settings.prompt or OWN).form(self.recipe.reply_grammar, self.recipe.prompt.instruction)

    def write_summary(self) -> dict[str, Any]:
        """The joined metrics and rollouts, the report, and last summary.json, also of a run that was cut off.

        summary.json is the mark of completion: what it speaks of stands before it does.
        """
        from eosin.chain.recipe.previews import preview_run
        from eosin.chain.recipe.summary import build_summary
        from eosin.report import build

        summary = build_summary(self.recipe, self.at, time.perf_counter() - self.started)
        for name, target in (("metrics.jsonl", self.at.metrics), ("rollouts.jsonl", self.at.rollouts)):
            files = [self.at.stage(s) / name for s in self.recipe.stages]
            store.write_text_atomic(target, "".join(f.read_text("utf-8") for f in files if f.exists()))
        preview_run(self.at.out, self.splits, self.read_region)
        build(self.at.out, summary=summary)
        store.write_json(self.at.summary, summary)
        return summary


def in_words(exam: dict[str, Any]) -> str:
    """One line: balanced accuracy where there are classes, else accuracy; interval, entity F1, n, unparsed."""
    balanced = exam.get("balanced_accuracy") is not None
    name, key = ("balanced accuracy", "balanced_accuracy") if balanced else ("accuracy", "accuracy")
    interval = exam["balanced_ci95" if balanced else "ci95"]
    shown = f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else " (no interval)"
    found = exam.get("entities")
    entities = f", entity F1 {found['f1']:.3f}" if found else ""
    return f"{name} {exam[key]:.3f}{shown}{entities}, n {exam['n']}, unparsed {exam['unparsed_rate']:.3f}"


def shipped_recipes() -> dict[str, Path]:
    """Recipes that come with Eosin, by name."""
    here = Path(__file__).resolve()
    folders: Sequence[Path] = (here.parents[2] / "_recipes", here.parents[4] / "recipes")
    folder = next((f for f in folders if f.is_dir()), None)
    return {p.stem: p for p in sorted(folder.glob("*.yaml"))} if folder else {}
