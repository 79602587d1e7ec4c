"""Several processes of one training, as torchrun or accelerate start them: who is the first, and how many there are."""

from __future__ import annotations

import os
import sys

LOST_A_PROCESS = 75
"""Exit code of a process that ends because another one of its run has."""
_LOST = ("connection closed by peer", "connection reset by peer", "timed out waiting", "remote process exited")


def lost_a_process(exc: BaseException) -> bool:
    """Whether an error says no more than that another process of the run is gone."""
    return num_ranks() > 1 and any(words in str(exc).lower() for words in _LOST)


def rank() -> int:
    """Number of this process; 0 where there is one alone."""
    return int(os.environ.get("RANK", "0"))


def is_joined() -> bool:
    """Whether this process was started as one of a run's, be it the only one."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


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
