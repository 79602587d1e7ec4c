"""`eosin push`: a checkpoint to the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def push(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint of a run: runs/x/stages/sft/checkpoint.")],
    name: Annotated[str, typer.Argument(help="OWNER/NAME on the hub.")],
    public: Annotated[bool, typer.Option("--public", help="Everybody may see it; by default only its owner.")] = False,
    card: Annotated[bool, typer.Option("--card", help="Only show the model card.")] = False,
) -> None:
    """Upload weights, processor and a model card. The record of the machine stays here.

    Example: eosin push runs/crc/stages/rl/checkpoint my-lab/crc-reader
    """
    from eosin.chain.push import model_card
    from eosin.chain.push import push as upload

    if card:
        print(model_card(checkpoint))
        return
    print(upload(checkpoint, name, private=not public))
