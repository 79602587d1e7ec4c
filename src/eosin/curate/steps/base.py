"""What a step of a curation is: samples in shards go in, each is kept, changed, made into others, or dropped.

A step works in three parts, and only the last one must be written:

1. `measure(samples)`: what of a shard the decision needs (hashes, ids, groups), as a small table. Shard by shard.
2. `decide(inputs)`: once, over the tables of all shards; whatever it finds out goes into files in `self.state`.
3. `run(shard, samples)`: an outcome for each sample of a shard.

`begin(inputs)` comes before all of them, once, for what `measure` itself needs.

The engine calls them shard by shard, keeps what is done on disk, and after a kill calls only what is not. So a part
may be called again with the same arguments, in another process, or on another machine: `measure` and `run` use nothing
but their arguments, the settings, and files in `self.state`. `begin` and `decide` write their files whole or not at all
(core/store), and may be called again where they were cut off. A step that pays for its answers keeps a journal in
`self.state` and looks there first.

A new step is one file beside this one with a subclass of `Step`, one class of settings in `core/settings/curation/`
that is named in its `steps.py`, and one line in `registry.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import pyarrow as pa

from eosin.core.nouns.outcome import Dropped, Kept
from eosin.core.nouns.sample import Sample
from eosin.core.settings.curation.step import StepSettings

__all__ = ["Again", "Context", "Inputs", "Made", "SettingsT", "Step", "StepOutcome", "read_nothing"]

SettingsT = TypeVar("SettingsT", bound=StepSettings)


@dataclass(frozen=True)
class Made:
    """One sample became others, such as a caption that became questions. It counts as kept; they count as made.

    Attributes:
        samples: at least one. Each names the sample that it was made from in `origin.parents`.
        rejected: what was tried and not taken, such as a question whose distractor is right too. These are no inputs:
            they stand in the ledger beside the sum, and in `dropped/` with the rest.
    """

    samples: tuple[Sample, ...]
    rejected: tuple[Dropped, ...] = ()


@dataclass(frozen=True)
class Again:
    """A sample that comes once more, under another id: a mixture may repeat what is scarce. It is no input."""

    sample: Sample


StepOutcome = Kept[Sample] | Dropped | Made | Again
"""`Kept` may hold a changed sample. `Dropped.step` may be left empty: the engine puts the step's name there."""


def read_nothing(name: Any) -> Iterator[Sample]:
    """Where no reader of exams was given."""
    raise LookupError(str(name))


@dataclass(frozen=True)
class Context:
    """What a step gets beside its settings.

    Attributes:
        seed: of the recipe.
        tools: what the caller hands in, by name: "clip" (image, texts) -> cosines; "answerer", "teacher", ... A step
            that needs one and finds none makes it from its settings, or raises an EosinError. Tools cannot be sent to
            other processes: a step that takes them says `in_main = True`.
        read_exam: samples of a listed exam or of another data set, as `DecontaminateStep.against` names it.
        report: prints a line for the user.
    """

    seed: int = 0
    tools: Mapping[str, Any] = field(default_factory=dict)
    read_exam: Callable[[Any], Iterator[Sample]] = read_nothing
    report: Callable[[str], None] = print


class Inputs(Protocol):
    """The shards that a step is given."""

    def __len__(self) -> int:
        """How many shards there are."""
        ...

    @property
    def num_samples(self) -> int:
        """How many samples they hold together."""
        ...

    @property
    def splits(self) -> dict[str, int]:
        """How many samples stand in each split; "none" for those without one."""
        ...

    def read(self, shard: int) -> list[Sample]:
        """The samples of a shard."""
        ...

    def samples(self) -> Iterator[Sample]:
        """All samples, a shard in memory at a time."""
        ...

    def measured(self) -> Iterator[pa.Table]:
        """What `measure` gave, a table a shard, in order: row i is of sample i."""
        ...


class Step(Generic[SettingsT]):
    """A step. Subclasses write `run`, and of the rest what they need.

    Attributes:
        in_main: True for a step that holds something which cannot be sent to other processes, or that limits by itself
            how much it does at a time (calls to a server): its shards are run one after the other in the main process.
        state: a folder of its own, kept until the curation is whole.
    """

    in_main: ClassVar[bool] = False

    def __init__(self, settings: SettingsT, context: Context, state: Path) -> None:
        self.settings = settings
        self.context = context
        self.state = state

    def begin(self, inputs: Inputs) -> None:
        """Write what `measure` needs into files of `self.state`, such as an index of exams."""

    def measure(self, samples: Sequence[Sample]) -> pa.Table | None:
        """What of a shard the decision needs, a row a sample. None, and no subclass: nothing is measured."""
        return None

    def decide(self, inputs: Inputs) -> None:
        """Look at all that was measured, and write what `run` needs into files of `self.state`."""

    def run(self, shard: int, samples: Sequence[Sample]) -> Iterable[StepOutcome]:
        """One outcome for each sample of a shard, in order."""
        raise NotImplementedError

    def num_outputs(self, inputs: Inputs) -> int:
        """How many shards come out. Only a step that puts samples into another order says another number."""
        return len(inputs)

    def make(self, shard: int, inputs: Inputs) -> Iterable[StepOutcome]:
        """Outcomes of output shard number `shard`. Only a step that changes the order overrides this."""
        return self.run(shard, inputs.read(shard))

    def preview(self, samples: Sequence[Sample], num_samples: int, folder: Path) -> list[str]:
        """Lines that `--dry-run` prints for this step, made without asking or paying anybody.

        Args:
            samples: the first ones of the source (they have not gone through the steps before).
            num_samples: how many samples there are, where known, else 0.
            folder: where files to look at may be written, such as the prompts of these samples.
        """
        return []

    def facts(self) -> dict[str, Any]:
        """What the ledger and the card say of this step beside its counts, as JSON: agreement, tokens, cost, ..."""
        return {}
