"""Several processes of one training, as torchrun or accelerate start them: who is the first, and how many there are."""

from __future__ import annotations

import os


def rank() -> int:
    """Number of this process; 0 where there is one alone."""
    return int(os.environ.get("RANK", "0"))


def num_ranks() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))
