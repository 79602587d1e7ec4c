"""A checkpoint on the Hugging Face hub, with its model card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from eosin.core.errors import EosinError, MissingExtraError
from eosin.core.store import artifacts as store
from eosin.core.store.cards import CARD, card_text

LEFT_HERE = ("manifest.json",)
"""The record names this machine and its folders: what others need of it stands in the card."""


def model_card(folder: Path) -> str:
    """The card that a checkpoint was written with (`core.store.cards`); one of before there were cards gets its own.

    Raises:
        EosinError: the folder is no checkpoint of Eosin.
    """
    manifest = store.open_artifact(folder, "checkpoint").manifest
    if (folder / CARD).is_file():
        return (folder / CARD).read_text("utf-8")
    return card_text(folder, "checkpoint", manifest.get("counts") or {}, manifest.get("facts") or manifest)


def _config(folder: Path) -> dict[str, Any]:
    for name in ("adapter_config.json", "config.json"):
        if (folder / name).is_file():
            found: dict[str, Any] = json.loads((folder / name).read_text("utf-8"))
            return found
    return {}


def push(folder: Path, name: str, *, private: bool = True, message: str = "Checkpoint from Eosin") -> str:
    """Create the repository where it is missing, upload the checkpoint with its card, and return its address.

    Raises:
        EosinError: no checkpoint, an adapter whose base is only here, no token, or the hub says no.
    """
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    except ImportError:
        raise MissingExtraError("huggingface_hub", "train") from None
    card = model_card(folder)
    store.open_artifact(folder, "checkpoint", verify=True)
    base = _config(folder).get("base_model_name_or_path")
    if base and (folder / str(base)).exists():
        raise EosinError(
            "This adapter's base model lies only on this machine: nobody else could load it.", found=str(base),
            where=folder, next_step="push the base first, and give its name as base_model_name_or_path",
        )  # fmt: skip
    api = HfApi()
    try:
        address = api.create_repo(name, private=private, exist_ok=True, repo_type="model")
        api.upload_file(path_or_fileobj=card.encode("utf-8"), path_in_repo="README.md", repo_id=name,
                        commit_message=message)  # fmt: skip
        api.upload_folder(folder_path=folder, repo_id=name, commit_message=message, ignore_patterns=[*LEFT_HERE, CARD])
    except (HfHubHTTPError, HFValidationError, OSError) as exc:
        told = (str(exc).splitlines() or [""])[0][:200]
        raise EosinError(
            "The hub did not take the checkpoint.", found=f"{type(exc).__name__}: {told}", where=name,
            next_step="see that the name is OWNER/NAME, and that `hf auth login` was given a token that writes",
        ) from None  # fmt: skip
    return str(address)
