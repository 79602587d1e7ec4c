"""A blinded study of two models: a reader knows them as Model A and Model B, in an order drawn for each question."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

LABELS = ("Model A", "Model B")
FAILED = "This model gave no reply; the server's log says why."
LOOKING = "looking at the slide"


@dataclass(frozen=True)
class Labels:
    """Which model is called what.

    Attributes:
        names: of the two models. secret: of this store; without it the order cannot be foreseen.
    """

    names: tuple[str, str]
    secret: bytes

    def by_label(self, asked: str, slide: str) -> dict[str, str]:
        """Names by label for one question about one slide: the first bit of HMAC-SHA256(secret, question and slide)
        says whether they change places. So it is the same when the question is opened again, and another question
        tells nothing of it."""
        drawn = hmac.new(self.secret, f"{asked} {slide}".encode(), hashlib.sha256).digest()
        names = self.names if drawn[0] < 128 else self.names[::-1]
        return dict(zip(LABELS, names, strict=True))

    def label_of(self, reading: dict[str, Any]) -> str:
        """What the model of a reading is called: as it was recorded, or, of a reading that was made before the study,
        as it is drawn now."""
        if reading.get("label"):
            return str(reading["label"])
        drawn = self.by_label(str(reading.get("asked") or reading["id"]), str(reading["slide"]))
        return next((label for label, name in drawn.items() if name == reading.get("model")), "Another model")

    def may_be_named(
        self, reading: dict[str, Any], of_slide: Sequence[dict[str, Any]], signed: Collection[str]
    ) -> bool:
        """Whether a reader may know whose reply it is: once the reader has signed what both models said to the
        question, and all of it. Else the name of one would tell that of the other.

        Args:
            of_slide: readings of this slide. signed: ids of readings that the reader has signed.
        """
        asked = reading.get("asked")
        if asked is None:
            return False
        same = [r for r in of_slide if r.get("asked") == asked and r["slide"] == reading["slide"]]
        return {r.get("model") for r in same} >= set(self.names) and all(r["id"] in signed for r in same)

    def facts(self, seats: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """What the page may know of both: what each of them can do, and nothing that one has before the other."""
        both = {"calibrated": None, "sees_slides": all(s.get("sees_slides") for s in seats),
                "sees_regions": all(s.get("sees_regions") for s in seats),
                "max_slides": min(int(s.get("max_slides", 1)) for s in seats)}  # fmt: skip
        return [{"name": label, **both} for label in LABELS]
