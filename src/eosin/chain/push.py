"""A checkpoint on the Hugging Face hub, with a model card made from its record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from eosin.core.errors import EosinError, MissingExtraError
from eosin.core.store import artifacts as store

LEFT_HERE = ("manifest.json", "README.md")
"""The record names this machine and its folders: what others need of it stands in the card."""


def model_card(folder: Path, name: str) -> str:
    """The card of a checkpoint: what it is, what it was made from and how, and what it is not for.

    Raises:
        EosinError: the folder is no checkpoint of Eosin.
    """
    manifest = store.open_artifact(folder, "checkpoint").manifest
    record = manifest.get("record") or {}
    facts = manifest.get("facts") or manifest
    config = _config(folder)
    rows = {
        "architecture": ", ".join(config.get("architectures") or []) or config.get("peft_type"),
        "parameters": (manifest.get("counts") or {}).get("parameters"),
        "stage": facts.get("stage"), "optimiser steps": facts.get("step"),
        "commit of Eosin": (record.get("code") or {}).get("commit"),
        "seed": record.get("seed"),
    }  # fmt: skip
    packages = record.get("packages") or {}
    shown = "\n".join(f"| {key} | {value} |" for key, value in rows.items() if value not in (None, ""))
    made = ", ".join(f"{key} {packages[key]}" for key in ("torch", "transformers", "trl", "peft") if key in packages)
    base = config.get("base_model_name_or_path")
    head = ["---", "library_name: " + ("peft" if base else "transformers"), "pipeline_tag: image-text-to-text",
            *([f"base_model: {base}"] if base else []), "tags: [pathology, eosin]", "---"]  # fmt: skip
    grammar = facts.get("grammar")
    tags = "/".join(grammar.get("tags", [])) if isinstance(grammar, dict) else None
    asked = f"\nIt replies in the blocks {tags}.\n" if tags else ""
    return (
        "\n".join(head)
        + f"\n\n# {name.rpartition('/')[2]}\n\nTrained with Eosin. **Research use only, not for diagnosis.**\n{asked}\n"
        + f"| | |\n|---|---|\n{shown}\n\nMade with {made or 'versions that are not recorded'}.\n\n"
        + "What it was trained and examined on, with its licences, is for whoever publishes it to say here.\n"
    )


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
    card = model_card(folder, name)
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
        api.upload_folder(folder_path=folder, repo_id=name, commit_message=message, ignore_patterns=list(LEFT_HERE))
    except (HfHubHTTPError, HFValidationError, OSError) as exc:
        told = (str(exc).splitlines() or [""])[0][:200]
        raise EosinError(
            "The hub did not take the checkpoint.", found=f"{type(exc).__name__}: {told}", where=name,
            next_step="see that the name is OWNER/NAME, and that `hf auth login` was given a token that writes",
        ) from None  # fmt: skip
    return str(address)
