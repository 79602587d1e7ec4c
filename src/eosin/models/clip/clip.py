"""Two towers in one space: pictures and texts become unit vectors whose products are cosines (arXiv 2103.00020)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from eosin.core.errors import EosinError
from eosin.core.extras import need
from eosin.models.clip.network import OPENAI_MEAN, OPENAI_STD

_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


@dataclass(frozen=True)
class Tokens:
    """Texts as a text tower reads them.

    Attributes:
        ids: int64 (N, L).
        num_cut: texts that are longer than the tower reads; their ends are left out.
        num_empty: texts without any word.
    """

    ids: Tensor
    num_cut: int
    num_empty: int


class Clip:
    """A CLIP model with what prepares its pictures and its texts.

    Args:
        network: of open_clip.
        tokenize: texts to ids (N, L), as open_clip's tokenizers do.
        model_cfg: open_clip's settings of the network; they are saved with it.
        preprocess_cfg: mean, std, interpolation, resize_mode.
        source: where it came from.
    """

    def __init__(
        self, network: Any, tokenize: Any, model_cfg: Mapping[str, Any], preprocess_cfg: Mapping[str, Any], source: str
    ) -> None:
        self.network, self.tokenize, self.source = network, tokenize, source
        self.model_cfg = dict(model_cfg)
        self.preprocess_cfg: dict[str, Any] = {
            "mean": list(preprocess_cfg.get("mean") or OPENAI_MEAN),
            "std": list(preprocess_cfg.get("std") or OPENAI_STD),
            "interpolation": preprocess_cfg.get("interpolation") or "bicubic",
            "resize_mode": preprocess_cfg.get("resize_mode") or "shortest",
        }
        _check_preparation(self.preprocess_cfg, source)
        self._scale: tuple[Tensor, Tensor] | None = None

    @property
    def image_px(self) -> int:
        """Side of the square pictures that the image tower takes."""
        size = self.network.visual.image_size
        return int(size[0] if isinstance(size, (tuple, list)) else size)

    @property
    def dim(self) -> int:
        return int(self.model_cfg["embed_dim"])

    @property
    def context_length(self) -> int:
        return int(self.network.context_length)

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    def to(self, device: torch.device | str) -> Clip:
        self.network.to(device)
        self._scale = None
        return self

    # ---- preparation ------------------------------------------------------------------------------------------------

    def pixels(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Pictures as the tower sees them, before normalisation: uint8 (N, px, px, 3) on the CPU."""
        if not pictures:
            return torch.empty(0, self.image_px, self.image_px, 3, dtype=torch.uint8)
        fit = _squash if self.preprocess_cfg["resize_mode"] == "squash" else _centre
        kind = _FILTERS[self.preprocess_cfg["interpolation"]]
        return torch.from_numpy(np.stack([np.asarray(fit(p.convert("RGB"), self.image_px, kind)) for p in pictures]))

    def normalised(self, pixels: Tensor) -> Tensor:
        """uint8 (N, px, px, 3) as the tower's input: float32 (N, 3, px, px) on its device."""
        if self._scale is None:
            self._scale = (
                torch.tensor(self.preprocess_cfg["mean"], device=self.device).view(1, 3, 1, 1),
                torch.tensor(self.preprocess_cfg["std"], device=self.device).view(1, 3, 1, 1),
            )
        mean, std = self._scale
        return (pixels.to(self.device).permute(0, 3, 1, 2).float() / 255 - mean) / std

    def tokens(self, texts: Sequence[str]) -> Tokens:
        """Texts as ids; those that are too long are cut, and counted."""
        ids = self.tokenize(list(texts)) if texts else torch.empty(0, self.context_length, dtype=torch.long)
        return Tokens(
            ids, sum(self.num_tokens(t) > self.context_length for t in texts), sum(not t.strip() for t in texts)
        )

    def num_tokens(self, text: str) -> int:
        """Tokens of a whole text, its begin and end included."""
        if hasattr(self.tokenize, "encode"):
            return len(self.tokenize.encode(text)) + 2
        return len(self.tokenize.tokenizer(text)["input_ids"])

    # ---- embeddings -------------------------------------------------------------------------------------------------

    def images(self, pixels: Tensor) -> Tensor:
        """Unit vectors (N, D) of uint8 pictures (N, px, px, 3)."""
        return F.normalize(self.network.encode_image(self.normalised(pixels)).float(), dim=-1)

    def texts(self, ids: Tensor) -> Tensor:
        """Unit vectors (N, D) of ids (N, L)."""
        return F.normalize(self.network.encode_text(ids.to(self.device)).float(), dim=-1)

    def embed_images(self, pictures: Sequence[Image.Image], batch_size: int = 64) -> np.ndarray:
        """Unit vectors (N, D) float32 of pictures."""
        return self._batched(pictures, batch_size, lambda part: self.images(self.pixels(part)))

    def embed_texts(self, texts: Sequence[str], batch_size: int = 256) -> np.ndarray:
        """Unit vectors (N, D) float32 of texts."""
        return self._batched(texts, batch_size, lambda part: self.texts(self.tokens(part).ids))

    def _batched(self, items: Sequence[Any], batch_size: int, embed: Any) -> np.ndarray:
        was_training = self.network.training
        self.network.eval()
        try:
            with torch.inference_mode():
                parts = [embed(items[i : i + batch_size]).cpu().numpy() for i in range(0, len(items), batch_size)]
        finally:
            self.network.train(was_training)
        return np.concatenate(parts) if parts else np.empty((0, self.dim), np.float32)


def tokenizer_of(model_cfg: Mapping[str, Any], folder: str | None = None) -> Any:
    """What turns texts into ids for these settings: CLIP's byte pairs, or a tokenizer of Hugging Face.

    Args:
        folder: where a tokenizer of Hugging Face stands; by default it is loaded by its name.
    """
    open_clip = need("open_clip", "encoders")
    text = model_cfg.get("text_cfg") or {}
    length, options = int(text.get("context_length", 77)), dict(text.get("tokenizer_kwargs") or {})
    name = text.get("hf_tokenizer_name")
    if name is None:
        return open_clip.tokenizer.SimpleTokenizer(context_length=length, **options)
    return open_clip.tokenizer.HFTokenizer(
        folder or name, context_length=length, tokenizer_mode=text.get("tokenizer_mode"), **options
    )


def _check_preparation(cfg: Mapping[str, Any], source: str) -> None:
    if cfg["resize_mode"] not in ("shortest", "squash") or cfg["interpolation"] not in _FILTERS:
        raise EosinError(
            "This CLIP model prepares its pictures in a way that Eosin does not know.",
            expected="resize_mode shortest or squash, interpolation bicubic or bilinear",
            found=f"{cfg['resize_mode']}, {cfg['interpolation']}", where=source,
        )  # fmt: skip


def _centre(picture: Image.Image, px: int, kind: Image.Resampling) -> Image.Image:
    """The shorter side becomes `px`, then the middle is cut out, as torchvision does."""
    width, height = picture.size
    if width <= height:
        size = (px, int(px * height / width))
    else:
        size = (int(px * width / height), px)
    if size != picture.size:
        picture = picture.resize(size, kind)
    left, top = round((picture.width - px) / 2.0), round((picture.height - px) / 2.0)
    return picture.crop((left, top, left + px, top + px)) if picture.size != (px, px) else picture


def _squash(picture: Image.Image, px: int, kind: Image.Resampling) -> Image.Image:
    return picture if picture.size == (px, px) else picture.resize((px, px), kind)
