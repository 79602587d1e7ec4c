"""Reinforcement learning as a recipe states it: algorithms as plain data, rewards, the collapse stop, difficulty."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from eosin.core.settings.base import PositiveInt, Settings

AlgorithmName = Literal["grpo", "dapo", "dr_grpo", "gspo", "custom"]


# DeepSeekMath (arXiv 2402.03300), section 4.2: G = 64, one update an exploration stage, KL coefficient 0.04, outcome
# rewards divided by their group's standard deviation. The paper does not print its clip range; 0.2 is PPO's, and what
# every later paper here gives as GRPO's.
_GRPO: dict[str, Any] = {
    "epsilon": 0.2,
    "epsilon_high": 0.2,
    "beta": 0.04,
    "unbiased_kl": False,
    "loss_type": "grpo",
    "scale_rewards": "group",
    "importance_sampling_level": "token",
    "num_iterations": 1,
    # DAPO filters overlong replies from the loss; the other papers are silent. Eosin masks them everywhere: the cap
    # says nothing about the reply (docs/rl.md, rule 6 of the rewards).
    "mask_truncated": True,
    "dynamic_sampling": False,
    "max_generation_batches": 10,
    "min_group_std": 0.01,
    "overlong_buffer": 0.0,
    "overlong_penalty": 1.0,
}

PAPERS: dict[str, dict[str, Any]] = {
    "grpo": _GRPO,
    # DAPO (arXiv 2503.14476), section 4.1: clip 0.2 / 0.28, no KL, token-level loss, groups without variance sampled
    # again, a punishment that grows over the last 4,096 of 20,480 tokens. At most 10 generation batches a step are in
    # the authors' code (`max_num_gen_batches`), not in the paper.
    "dapo": _GRPO
    | {
        "epsilon_high": 0.28,
        "beta": 0.0,
        "loss_type": "dapo",
        "dynamic_sampling": True,
        "overlong_buffer": 0.2,
    },
    # Dr. GRPO (arXiv 2503.20783), section 3.2: neither the group's standard deviation nor the reply's own length
    # divides anything; the sum over tokens is divided by a constant. No KL.
    "dr_grpo": _GRPO | {"beta": 0.0, "loss_type": "dr_grpo", "scale_rewards": "none"},
    # GSPO (arXiv 2507.18071), eq. 5 and section 5.1: one ratio a reply, clip 3e-4 / 4e-4. The KL term is left out of
    # the paper's formulas, and its authors train without one.
    "gspo": _GRPO | {"epsilon": 3e-4, "epsilon_high": 4e-4, "beta": 0.0, "importance_sampling_level": "sequence"},
}
TITLES = {"grpo": "GRPO", "dapo": "DAPO", "dr_grpo": "Dr. GRPO", "gspo": "GSPO", "custom": "custom"}


class Vllm(Settings):
    """Replies of an RL stage drawn by vLLM, in TRL's two modes; new weights go there before each generation.

    Attributes:
        mode: "colocate" runs vLLM on the GPUs that train; "server" asks one that `trl vllm-serve` started.
        url: of the server.
        memory_share: of each GPU that a colocated vLLM takes.
        tensor_parallel: GPUs over which a colocated vLLM spreads one copy.
        sleep: a colocated vLLM gives its memory back while the loss is computed.
        max_length: tokens of prompt and reply that it makes room for; by default the model's own.
        correction: replies are weighed by how far vLLM's probabilities lie from the trainer's (TRL's sequence mask).
        timeout_s: how long a start waits for the server.
    """

    mode: Literal["colocate", "server"] = "colocate"
    url: str | None = None
    memory_share: float = Field(default=0.3, gt=0, lt=1)
    tensor_parallel: PositiveInt = 1
    sleep: bool = False
    max_length: PositiveInt | None = None
    correction: bool = True
    timeout_s: float = Field(default=240.0, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _by_word(cls, values: Any) -> Any:
        return {"mode": values} if isinstance(values, str) else values

    @model_validator(mode="after")
    def _server_has_an_address(self) -> Vllm:
        if (self.mode == "server") != (self.url is not None):
            raise ValueError("mode: server needs url, such as http://host:8000, and mode: colocate has none")
        return self


class Algorithm(Settings):
    """A policy-gradient algorithm as data. Its name tells the truth: a changed field is printed with it.

    `grpo`, `dapo`, `dr_grpo` and `gspo` are the papers' settings; any field can be given another value. `custom`
    states everything itself. docs/rl.md has the equations.

    Attributes:
        name: the paper's algorithm whose settings hold wherever no other value is given.
        epsilon, epsilon_high: lower and upper clip bound of the probability ratio. Where the paper has one bound for
            both, giving `epsilon` alone moves both.
        beta: weight of the KL penalty to the starting policy (k3 estimator); 0 loads no reference.
        unbiased_kl: multiply the KL term by the ratio, so that its gradient is that of the reverse KL (DeepSeek-V3.2,
            arXiv 2512.02556). None of the papers here does; TRL does unless told otherwise.
        loss_type: how token losses become one number. "grpo": mean over the tokens of a reply, then over replies.
            "dapo": mean over all tokens of the optimiser step. "bnpo": the same over each local batch. "dr_grpo": sum
            over tokens divided by replies x max_new_tokens.
        scale_rewards: what the advantage is divided by: the standard deviation of its "group" or of the "batch", or
            "none".
        importance_sampling_level: one ratio a "token", or one a "sequence" (the geometric mean of its tokens').
        num_iterations: passes over each batch of completions.
        mask_truncated: completions cut off by the length cap carry no loss.
        dynamic_sampling: groups without variance are replaced by fresh prompts.
        max_generation_batches: batches generated at most for one optimiser batch, the first included; the batch is
            then used as it is, with a warning.
        min_group_std: a group whose scored totals have a standard deviation (n - 1) of at most this has no variance.
            Not exact zero: sums of floating-point terms differ in the last digits. Not "mean at 0 or 1": rewards are
            rarely 0 or 1.
        overlong_buffer: the part of max_new_tokens, at its end, over which the soft overlong punishment grows from 0
            to -1 (DAPO, eq. 13); 0 switches it off.
        overlong_penalty: weight of that punishment in the reward.
    """

    PAPER: ClassVar[dict[str, dict[str, Any]]] = PAPERS
    # A custom algorithm may leave these out where what they belong to is off.
    NEEDED_WITH: ClassVar[dict[str, str]] = {
        "max_generation_batches": "dynamic_sampling",
        "min_group_std": "dynamic_sampling",
        "overlong_penalty": "overlong_buffer",
        "unbiased_kl": "beta",
    }

    name: AlgorithmName = "grpo"
    epsilon: float = Field(gt=0, default=_GRPO["epsilon"])
    epsilon_high: float = Field(gt=0, default=_GRPO["epsilon_high"])
    beta: float = Field(ge=0, default=_GRPO["beta"])
    unbiased_kl: bool = _GRPO["unbiased_kl"]
    loss_type: Literal["grpo", "bnpo", "dr_grpo", "dapo"] = _GRPO["loss_type"]
    scale_rewards: Literal["group", "batch", "none"] = _GRPO["scale_rewards"]
    importance_sampling_level: Literal["token", "sequence"] = _GRPO["importance_sampling_level"]
    num_iterations: PositiveInt = _GRPO["num_iterations"]
    mask_truncated: bool = _GRPO["mask_truncated"]
    dynamic_sampling: bool = _GRPO["dynamic_sampling"]
    max_generation_batches: PositiveInt = _GRPO["max_generation_batches"]
    min_group_std: float = Field(ge=0, default=_GRPO["min_group_std"])
    overlong_buffer: float = Field(ge=0, le=1, default=_GRPO["overlong_buffer"])
    overlong_penalty: float = Field(ge=0, default=_GRPO["overlong_penalty"])

    @model_validator(mode="before")
    @classmethod
    def _from_paper(cls, raw: Any) -> Any:
        if isinstance(raw, str):
            raw = {"name": raw}
        if not isinstance(raw, Mapping):
            return raw
        name = raw.get("name", "grpo")
        if name == "custom":
            cls._states_all(raw)
            return raw
        if not isinstance(name, str) or name not in PAPERS:
            raise ValueError(_unknown(str(name)))
        paper = dict(PAPERS[name])
        if "epsilon" in raw and paper["epsilon"] == paper["epsilon_high"]:
            paper["epsilon_high"] = raw["epsilon"]
        return {**paper, **raw}

    @classmethod
    def _states_all(cls, raw: Mapping[str, Any]) -> None:
        missing = [
            key for key in _GRPO if key not in raw and (key not in cls.NEEDED_WITH or raw.get(cls.NEEDED_WITH[key]))
        ]
        unknown = [key for key in raw if key not in cls.model_fields]
        if missing:
            tail = f"; there is no such setting: {', '.join(unknown)}" if unknown else ""
            raise ValueError(f"a custom algorithm states all of its settings; missing: {', '.join(missing)}{tail}")

    @model_validator(mode="after")
    def _sequence_losses(self) -> Algorithm:
        if self.importance_sampling_level == "sequence" and self.loss_type != "grpo":
            raise ValueError(
                "importance_sampling_level: sequence goes with loss_type: grpo (mean of a reply, then of replies); "
                "the other losses would weigh a reply's one ratio by its length"
            )
        return self

    @property
    def true_name(self) -> str:
        """ "GRPO" for the paper's settings, else "GRPO+{beta=0.0}" with every changed field.

        A custom algorithm prints all of its fields: "custom{epsilon=0.2, ...}".
        """
        title = TITLES[self.name]
        if self.name == "custom":
            return f"{title}{{{', '.join(f'{k}={getattr(self, k)}' for k in _GRPO)}}}"
        changed = [f"{k}={getattr(self, k)}" for k, v in PAPERS[self.name].items() if getattr(self, k) != v]
        return f"{title}+{{{', '.join(changed)}}}" if changed else title

    def overlong_tokens(self, max_new_tokens: int) -> int:
        """Tokens at the end of a completion over which the soft overlong punishment grows; 0 where it is off."""
        return max(1, round(self.overlong_buffer * max_new_tokens)) if self.overlong_buffer > 0 else 0


def _unknown(name: str) -> str:
    known = [*PAPERS, "custom"]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"known are: {', '.join(known)}"
    return f"there is no algorithm {name!r}; {hint}"


class RewardSpec(BaseModel):
    """One reward term: its name, its weight, and options of that reward.

    Attributes:
        name: of a term ("accuracy"), of a set, or of your own code ("my_reward.py:function").
        weight: by which its score is multiplied before the terms are added.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str
    weight: float = 1.0

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, raw: Any) -> Any:
        return {"name": raw} if isinstance(raw, str) else raw


REWARD_FORMS = ("set", "terms", "sources")
"""Tags of the forms in which rewards may be written; no part of a recipe."""


def _kind_of_rewards(value: Any) -> str | None:
    if isinstance(value, str):
        return "set"
    if isinstance(value, list | tuple):
        return "terms"
    return "sources" if isinstance(value, Mapping) else None


RewardTerms = Annotated[
    Annotated[str, Tag("set")] | Annotated[list[RewardSpec], Tag("terms")], Discriminator(_kind_of_rewards)
]
Rewards = Annotated[
    Annotated[str, Tag("set")]
    | Annotated[list[RewardSpec], Tag("terms")]
    | Annotated[dict[str, RewardTerms], Tag("sources")],
    Discriminator(_kind_of_rewards),
]


def plain_rewards(rewards: Any) -> Any:
    """A recipe's `rewards` as plain data, as `eosin.scoring.load_rewards` and `load_source_rewards` take them."""
    if isinstance(rewards, Mapping):
        return {source: plain_rewards(one) for source, one in rewards.items()}
    return rewards if isinstance(rewards, str) else [r.model_dump() for r in rewards]


def code_in(rewards: Any) -> list[str]:
    """The code of its own that a recipe's `rewards` name: "file.py:function" or "module:function"."""
    if isinstance(rewards, Mapping):
        return [name for one in rewards.values() for name in code_in(one)]
    names = [rewards] if isinstance(rewards, str) else [r.name for r in rewards]
    return [name for name in names if ":" in name]


def without_code(rewards: Any) -> Any:
    """The same rewards without what would run code of the recipe's own; empty where nothing is left."""
    if isinstance(rewards, Mapping):
        left = {source: without_code(one) for source, one in rewards.items()}
        return {source: one for source, one in left.items() if one}
    if isinstance(rewards, str):
        return [] if ":" in rewards else rewards
    return [r for r in rewards if ":" not in r.name]


class CollapseStop(Settings):
    """When training stops because the policy has collapsed. Each bound must be broken `steps` steps in a row.

    Attributes:
        steps: optimiser steps in a row.
        min_entropy: mean entropy of the next token, in nats, at or below which the policy says one thing only.
        min_reward_std: mean standard deviation of rewards within groups at or below which there is nothing to learn.
        max_unparsed: share of completions above which the form of the reply is lost.
    """

    steps: PositiveInt = 5
    min_entropy: float = Field(default=1e-3, ge=0)
    min_reward_std: float = Field(default=1e-4, ge=0)
    max_unparsed: float = Field(default=0.9, ge=0, le=1)


class AnchorSettings(Settings):
    """Cross-entropy of gold replies beside the policy loss, so that RL does not unlearn what SFT taught (docs/rl.md).

    Attributes:
        weight: by which the mean cross-entropy per token (nats) is multiplied.
        batch_size: gold replies of a micro-batch of one process, from the stage's own samples.
    """

    weight: float = Field(default=0.1, gt=0)
    batch_size: PositiveInt = 16

    @model_validator(mode="before")
    @classmethod
    def _by_weight(cls, raw: Any) -> Any:
        return {"weight": raw} if isinstance(raw, int | float) and not isinstance(raw, bool) else raw


class Difficulty(Settings):
    """Which prompts train, by a pass rate that `eosin rl-data` measured.

    Attributes:
        file: the folder that `eosin rl-data` wrote, or the table in it (rates.parquet or rates.jsonl).
        keep: lowest and highest pass rate that stay, both included.
    """

    file: str
    keep: tuple[float, float] = (0.1, 0.9)

    @model_validator(mode="before")
    @classmethod
    def _by_file(cls, raw: Any) -> Any:
        return {"file": raw} if isinstance(raw, str) else raw

    @field_validator("keep")
    @classmethod
    def _band(cls, value: tuple[float, float]) -> tuple[float, float]:
        low, high = value
        if not 0 <= low <= high <= 1:
            raise ValueError("keep is [lowest, highest] pass rate, with 0 <= lowest <= highest <= 1")
        return value
