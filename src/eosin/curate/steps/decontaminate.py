"""Decontaminate: training samples that an exam or another data set asks about are set aside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from eosin.core.errors import EosinError
from eosin.core.nouns.outcome import Dropped, Kept
from eosin.core.nouns.sample import Sample
from eosin.core.settings.curation.sifting import DecontaminateStep
from eosin.core.store.artifacts import read_object, write_json
from eosin.curate.copies.questions import QuestionIndex
from eosin.curate.steps.base import Inputs, Step
from eosin.curate.steps.verdicts import Verdict, judged, write_verdicts

GROUP, IMAGE, NEAR, TEXT = "same patient or case", "same image", "nearly the same image", "same text"
OWN = "own valid and test"
_EXAMS, _PICTURES, _FACTS = "exams.json", "pictures", "facts.json"


class DecontaminateSamples(Step[DecontaminateStep]):
    """Exams become an index first; then samples are looked up in it. Samples of valid and test are never touched."""

    def begin(self, inputs: Inputs) -> None:
        """Index all that is to be protected.

        Raises:
            EosinError: an exam or data set that cannot be read, or holds no question.
        """
        counts: Counter[str] = Counter()
        chosen = self.settings
        QuestionIndex.write(
            self._folder, self._protected(inputs, counts), words=chosen.words, min_words=chosen.min_words,
            common=chosen.common,
        )  # fmt: skip
        if chosen.near_images:
            from eosin.curate.copies.pictures import write_pictures

            questions = (sample for _, sample in self._protected(inputs, Counter()))
            write_pictures(self.state / _PICTURES, questions, crops=chosen.crops)
        write_json(self.state / _EXAMS, dict(counts))

    @property
    def _folder(self) -> Path:
        return self.state / "questions"

    @cached_property
    def _index(self) -> QuestionIndex:
        return QuestionIndex(self._folder)

    def _protected(self, inputs: Inputs, counts: Counter[str]) -> Iterator[tuple[str, Sample]]:
        for against in self.settings.against:
            for sample in self.context.read_exam(against):
                counts[against.label] += 1
                yield against.label, sample
            if not counts[against.label]:
                raise EosinError("There is no question to protect in this data set.", where=against.label,
                                 expected="an exam with its root, or a path of samples")  # fmt: skip
        if self.settings.own_splits and any(inputs.splits.get(s) for s in ("valid", "test")):
            for sample in inputs.samples():
                if sample.split in ("valid", "test"):
                    counts[OWN] += 1
                    yield OWN, sample

    def measure(self, samples: Sequence[Sample]) -> pa.Table:
        """What of each training sample stands in the index: runs, a picture, a group. Nothing for valid and test."""
        chosen, training = self.settings, [s.split not in ("valid", "test") for s in samples]
        found: list[list[int]] = [[] for _ in samples]
        if chosen.text:
            found = self._index.runs_in(samples, chosen.words, chosen.min_words)
        columns: dict[str, Any] = {
            "runs": pa.array([r if t else [] for r, t in zip(found, training, strict=True)], pa.list_(pa.int64())),
            "image": self._looked_up(self._index.picture, chosen.images, samples, training),
            "group": self._looked_up(self._index.group, chosen.groups, samples, training),
        }
        if chosen.near_images:
            from eosin.curate.copies.pictures import measure_pictures

            columns |= measure_pictures(samples, crops=chosen.crops, only=training)
        return pa.table(columns)

    def _looked_up(self, look: Any, wanted: bool, samples: Sequence[Sample], training: Sequence[bool]) -> pa.Array:
        return pa.array([look(s) if wanted and t else -1 for s, t in zip(samples, training, strict=True)], pa.int32())

    def decide(self, inputs: Inputs) -> None:
        """One reason a sample: group before image before near image before text.

        Runs that more training samples hold than `common` (or than 1 %) are wording there, and count for nothing.
        """
        held: Counter[int] = Counter()
        sizes: list[int] = []
        for table in inputs.measured():
            sizes.append(table.num_rows)
            held.update(r for row in table["runs"].to_pylist() for r in row)
        most = max(self.settings.common, sum(sizes) // 100)
        verdicts = dict(self._near(inputs))
        start = 0
        for table in inputs.measured():
            part = table.select(["runs", "image", "group"]).to_pydict()
            for i, runs in enumerate(part["runs"]):
                telling = [r for r in runs if held[r] <= most]
                for reason, number in ((GROUP, part["group"][i]), (IMAGE, part["image"][i])):
                    if number >= 0:
                        verdicts[start + i] = (reason, self._as(number))
                        break
                else:
                    if telling and start + i not in verdicts:
                        detail = f"{self._as(self._index.question_of_run(telling[0]))}, {len(telling)} runs of words"
                        verdicts[start + i] = (TEXT, detail)
            start += table.num_rows
        write_verdicts(self.state, sizes, verdicts)
        write_json(
            self.state / _FACTS, {"by_exam": dict(Counter(_exam_of(v) for v in verdicts.values()).most_common())}
        )

    def _near(self, inputs: Inputs) -> Iterator[tuple[int, Verdict]]:
        if not self.settings.near_images:
            return
        from eosin.curate.copies.pictures import pictures_near

        for number, question, like in pictures_near(inputs, self.state / _PICTURES, crops=self.settings.crops):
            yield number, (NEAR, f"{self._as(question)}, {like:.2f} alike")

    def _as(self, number: int) -> str:
        question = self._index.question(number)
        return f"as {question.where}: {question.id}"

    def run(self, shard: int, samples: Sequence[Sample]) -> Iterable[Kept[Sample] | Dropped]:
        """Kept or dropped as was decided."""
        return judged(self.state, shard, samples, "decontaminate")

    def facts(self) -> dict[str, Any]:
        """How many questions were protected, and how many samples each exam set aside."""
        return {"questions": read_object(self.state / _EXAMS), **read_object(self.state / _FACTS)}

    def preview(self, samples: Sequence[Sample], num_samples: int, folder: Path) -> list[str]:
        """Which exams and data sets are protected."""
        return [f"protects {a.label}" for a in self.settings.against]


def _exam_of(verdict: Verdict) -> str:
    return verdict[1].removeprefix("as ").split(": ")[0]
