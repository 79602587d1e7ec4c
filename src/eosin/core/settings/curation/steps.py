"""The union of all steps: what may stand in the list `steps` of a curation recipe, and in `curate` of a run's data."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from eosin.core.settings.curation.parting import MixtureStep, SplitStep
from eosin.core.settings.curation.sifting import DecontaminateStep, DedupeStep, FilterStep
from eosin.core.settings.curation.step import spelled_out
from eosin.core.settings.curation.writing import GroundStep, QuestionsStep, ReasonStep, RlSetStep

AnyStep = Annotated[
    FilterStep
    | DedupeStep
    | DecontaminateStep
    | SplitStep
    | MixtureStep
    | ReasonStep
    | QuestionsStep
    | RlSetStep
    | GroundStep,
    Field(discriminator="step"),
]
CurationStep = Annotated[AnyStep, BeforeValidator(spelled_out)]
