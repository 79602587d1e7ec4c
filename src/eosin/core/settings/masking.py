"""What a recipe may say about masking in SFT: trajectories and pseudo-bags (PathReasoner-R1, arXiv 2601.21617)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from eosin.core.settings.base import PositiveInt, Settings


class Trajectory(Settings):
    """Trajectory-masked SFT (arXiv 2601.21617, section on trajectory masking; docs/masking.md has the equation).

    A chain of L steps gives variants m = 1..L: findings and steps 1..m-1 are context without loss; steps m..L and the
    answer carry loss. m = 1 is the whole reply. The paper neither caps nor balances; both are Eosin's.

    Attributes:
        max_variants: most variants of one sample; null for all L of them.
        include_whole: m = 1 is always among them. It cannot be switched off: nothing else teaches the findings.
        balance: every sample gives the same number of rows, so that a chain length weighs among the rows what it
            weighs among the samples. Without it a chain of eight steps counts eight times as much as one of one step.
        seed: of the drawn cuts.
    """

    max_variants: PositiveInt | None = 4
    include_whole: Literal[True] = True
    balance: bool = True
    seed: int = 0


class PseudoBags(Settings):
    """Pseudo-bag masking (arXiv 2601.21617; docs/masking.md has the equations).

    Published: k-means of a slide's patches into K clusters; delta[c] = entity reward with the whole bag minus that
    without cluster c; eligible are clusters of at least max(1, floor(0.02 N)) patches;
    p = 0.7 softmax(delta / tau) + 0.3 uniform over the eligible; the patches of one drawn cluster are taken out.
    Not published: K, tau, the share of samples. What follows is Eosin's: findings whose evidence was taken out become
    "not assessable" in the target. The paper's setting is `{reward: published, targets: as they are, trajectories:
    whole}`.

    Attributes:
        num_clusters: clusters of a slide (K).
        tau: temperature of the softmax over delta, which lies in -1..1.
        uniform: weight of the uniform part (published 0.3).
        min_share: smallest cluster, as a share of the patches (published 0.02).
        share: masked copies, as a share of the samples that can be masked. They stand beside the whole ones.
        mode: "entity" clusters patches by k-means; "random" is the control: patches are dealt at random into clusters
            of the same sizes, and everything else is the same.
        reward: what delta is measured by: "hardened" is Eosin's entity reward; "published" is the paper's soft Dice, as
            the set pathreasoner-r1 has it.
        encoder: with "published", the sentence encoder of the similarity of two names, as `scoring.encoder`; by
            default that of the recipe's scoring block. Without any the similarity is that of the names' letters.
        targets: "rewritten" makes findings that lost their evidence "not assessable"; "as they are" leaves every target
            unchanged, as published.
        trajectories: with `trajectory` in the stage, whether masked copies give all variants or, as published, their
            whole reply alone.
        evidence: how a finding is known to have lost its evidence: "measured" (named by the model with the whole bag
            and not without the cluster), "truth" (its patches are known and were taken out), or "auto": truth where
            the data has it, else measured.
        lost_share: with truth, the share of a finding's patches that must be gone.
        lost_answer: what becomes of the answer where the diagnosis has lost its evidence: "keep" leaves it;
            "not assessable" makes it so. A closed question then has this as one more option in every row of the
            stage, masked or not, so that the option itself tells nothing.
        max_slides: most slides that are measured; null for all.
        max_new_tokens: length cap of the replies that are measured.
        batch_size: replies generated together.
        seed: of the clusters and the draws.
    """

    num_clusters: Annotated[int, Field(ge=2)] = 8
    tau: float = Field(default=0.1, gt=0)
    uniform: float = Field(default=0.3, ge=0, le=1)
    min_share: float = Field(default=0.02, ge=0, lt=1)
    share: float = Field(default=0.5, gt=0, le=1)
    mode: Literal["entity", "random"] = "entity"
    reward: Literal["hardened", "published"] = "hardened"
    encoder: str | None = None
    targets: Literal["rewritten", "as they are"] = "rewritten"
    trajectories: Literal["all", "whole"] = "all"
    evidence: Literal["auto", "measured", "truth"] = "auto"
    lost_share: float = Field(default=0.75, gt=0, le=1)
    lost_answer: Literal["keep", "not assessable"] = "keep"
    max_slides: PositiveInt | None = None
    max_new_tokens: PositiveInt = 256
    batch_size: PositiveInt = 8
    seed: int = 0

    @model_validator(mode="after")
    def _one_target(self) -> PseudoBags:
        if self.targets == "as they are" and self.lost_answer != "keep":
            raise ValueError('targets: "as they are" leaves every target unchanged; leave lost_answer out')
        if self.encoder is not None and self.reward != "published":
            raise ValueError('encoder is for reward: published; "hardened" compares no names')
        return self
