"""Several processes of one training, as torchrun or accelerate start them: who is the first, and how many there are."""

from __future__ import annotations

import os
import sys


def rank() -> int:
    """Number of this process; 0 where there is one alone."""
    return int(os.environ.get("RANK", "0"))


def num_ranks() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def leave_processes() -> None:
    """Close what joins the processes of a torchrun start, where it was opened. Call it last.

    Threads of an open group that are alive when the interpreter ends may abort the process after its work is done.
    """
    torch = sys.modules.get("torch")  # this room imports no torch
    if torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
