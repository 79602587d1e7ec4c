"""CLIP as a function, by transformers or open_clip: (image, sentences) -> one cosine a sentence."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eosin.core.errors import EosinError, MissingExtraError
from eosin.core.foreign_code import NO_CODE, no_foreign_code
from eosin.scoring.resources.encoder import found_at, loading, need_torch, short_name

OPEN_CLIP = "open_clip:"


class ClipCosine:
    """Cosines of an image with sentences. Loaded when it is first used.

    Args:
        name: a folder that a `clip` stage wrote, or any in open_clip's form; a folder or a name on the hub for
            transformers (CLIP, SigLIP); or "open_clip:MODEL@WEIGHTS", where WEIGHTS is a tag of open_clip or a file;
            "open_clip:hf-hub:ORG/NAME" needs no @.

    Raises:
        MissingExtraError: open_clip is asked for and not installed.
        EosinError: a folder that is not there, or a model of open_clip without weights.
    """

    def __init__(self, name: str) -> None:
        self.label = short_name(name)
        if (Path(name) / "open_clip_config.json").is_file():
            name = f"{OPEN_CLIP}local-dir:{name}"
        if name.startswith(OPEN_CLIP):
            _check_open_clip(name)
        else:
            found_at(name)
        self.name = name
        self._towers: Any = None

    def load(self) -> None:
        """Load both towers, unless that is done.

        Raises:
            MissingExtraError: the packages are not installed.
            EosinError: there is no such model, or it has no two towers.
        """
        if self._towers is None:
            need_torch()
            make = _OpenClip if self.name.startswith(OPEN_CLIP) else _Transformers
            with loading("CLIP model", "scoring.clip", self.name):
                self._towers = make(self.name)

    def __call__(self, image: Any, texts: Sequence[str]) -> list[float]:
        self.load()
        import torch

        with torch.inference_mode():
            seen, said = self._towers.image(image.convert("RGB")).float(), self._towers.texts(list(texts)).float()
        cosines = torch.nn.functional.normalize(said, dim=-1) @ torch.nn.functional.normalize(seen, dim=-1)[0]
        return [float(c) for c in cosines.cpu()]


class _Transformers:
    def __init__(self, name: str) -> None:
        import torch
        from transformers import AutoModel, AutoProcessor

        source = found_at(name)
        with no_foreign_code(source):
            self._processor = AutoProcessor.from_pretrained(source, **NO_CODE)
            model = AutoModel.from_pretrained(source, dtype=torch.float32, **NO_CODE)
        if not (hasattr(model, "get_image_features") and hasattr(model, "get_text_features")):
            raise EosinError("This model has no tower for images beside one for texts.", found=type(model).__name__,
                             where=name, expected="CLIP or SigLIP")  # fmt: skip
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model = model.to(device).eval().requires_grad_(False)

    def image(self, image: Any) -> Any:
        inputs = self._processor(images=image, return_tensors="pt").to(self._model.device)
        return _vectors(self._model.get_image_features(**inputs))

    def texts(self, texts: list[str]) -> Any:
        # SigLIP was trained on texts padded to its full length; for CLIP the length makes no difference.
        inputs = self._processor(text=texts, padding="max_length", truncation=True, return_tensors="pt")
        return _vectors(self._model.get_text_features(**inputs.to(self._model.device)))


def _vectors(output: Any) -> Any:
    """(n, D) of either form in which transformers gives features."""
    return getattr(output, "pooler_output", output)


def _check_open_clip(name: str) -> None:
    if importlib.util.find_spec("open_clip") is None:
        raise MissingExtraError("open_clip", "encoders")
    model, _, weights = name.removeprefix(OPEN_CLIP).partition("@")
    if not weights and not model.startswith(("hf-hub:", "local-dir:")):
        raise EosinError("CLIP without weights says nothing.", expected="open_clip:MODEL@WEIGHTS", found=name)


class _OpenClip:
    def __init__(self, name: str) -> None:
        import open_clip
        import torch

        model, _, weights = name.removeprefix(OPEN_CLIP).partition("@")
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        options: dict[str, Any] = {"pretrained": weights} if weights else {}
        if weights and not Path(weights).is_file():  # OpenAI's were trained with QuickGELU; open_clip only warns
            options["force_quick_gelu"] = bool((open_clip.get_pretrained_cfg(model, weights) or {}).get("quick_gelu"))
        self._model, self._prepare = open_clip.create_model_from_pretrained(model, device=self._device, **options)
        self._model.eval().requires_grad_(False)
        self._tokenize = open_clip.get_tokenizer(model)

    def image(self, image: Any) -> Any:
        return self._model.encode_image(self._prepare(image)[None].to(self._device))

    def texts(self, texts: list[str]) -> Any:
        return self._model.encode_text(self._tokenize(texts).to(self._device))
