"""Words for classes: several wordings in several templates become one vector a class (prompt ensemble, CLIP 3.1.4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eosin.core.errors import EosinError
from eosin.core.store.yaml_text import parse_yaml
from eosin.evaluate.clip.embed import F32

if TYPE_CHECKING:
    from eosin.models.clip.clip import Clip

TEMPLATES = ("{}.", "an image of {}.", "tissue with {}.", "a histology image that shows {}.")


@dataclass(frozen=True)
class ClassPrompts:
    """Wordings of each class, and templates with {} in the place of a wording."""

    words: Mapping[str, tuple[str, ...]]
    templates: tuple[str, ...] = TEMPLATES

    @classmethod
    def of(
        cls, labels: Sequence[str], *, file: Path | None = None, words: Mapping[str, Sequence[str]] | None = None,
        templates: Sequence[str] | None = None,
    ) -> ClassPrompts:  # fmt: skip
        """Prompts for labels: from a file, from `words`, else the label's own words.

        With a file or `words`, every label must have wordings there; classes that only stand there are choices, too.

        Raises:
            EosinError: a class without prompts; a file of another form.
        """
        told: dict[str, tuple[str, ...]] = {}
        if file is not None:
            told, own = read_prompts(file)
            templates = templates or own
        told |= {k: tuple(v) for k, v in (words or {}).items()}
        missing = [label for label in labels if told and not told.get(label)]
        if missing:
            raise EosinError(
                "Some classes have no prompts.", expected="wordings for every class of the samples",
                found=", ".join(missing[:8]), where=file,
                next_step="add them to the file: classes: {" + missing[0] + ": [words, other words]}",
            )  # fmt: skip
        chosen = {label: told.get(label) or (label.replace("_", " "),) for label in (*labels, *told)}
        return cls(chosen, tuple(templates or TEMPLATES))

    def vectors(self, clip: Clip) -> tuple[F32, int]:
        """One vector a class (K, D), the normalised mean of its sentences' vectors; and how many sentences were cut."""
        rows, num_cut = [], 0
        for wordings in self.words.values():
            texts = [t.replace("{}", w) for t in self.templates for w in wordings]
            num_cut += clip.tokens(texts).num_cut
            mean = clip.embed_texts(texts).mean(axis=0)
            rows.append(mean / max(float(np.linalg.norm(mean)), 1e-12))
        return np.stack(rows).astype(np.float32), num_cut

    def as_json(self) -> dict[str, Any]:
        return {"templates": list(self.templates), "classes": {k: list(v) for k, v in self.words.items()}}


def read_prompts(file: Path) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...] | None]:
    """A prompts file: `classes: {label: [wordings]}` and, if it likes, `templates: [...]`.

    Raises:
        EosinError: there is no such file, or it has another form.
    """
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise EosinError("The prompts cannot be read.", found=str(exc)[:160], where=file) from None
    found = parse_yaml(text, file)
    classes = found.get("classes") if isinstance(found, dict) else None
    templates = found.get("templates") if isinstance(found, dict) else None
    if not isinstance(classes, dict) or not all(_are_texts(v) for v in classes.values()):
        raise EosinError("This is no file of prompts.", expected="classes: {label: [wording, ...]}", where=file)
    if templates is not None and not (_are_texts(templates) and all(t.count("{}") == 1 for t in templates)):
        raise EosinError("A template has {} once, in the place of the class.", found=str(templates)[:120], where=file)
    return {str(k): tuple(v) for k, v in classes.items()}, tuple(templates) if templates else None


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, str) and v.strip() for v in value)
