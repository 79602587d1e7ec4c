"""What several benchmarks of trainers and large models share: a timer of steps, and models made where they run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


def step_timer(seconds: list[float], settle: Callable[[], None] = lambda: None) -> Any:
    """A trainer's callback that appends the seconds of every optimiser step.

    Args:
        settle: waits for work that is under way on the device, before each reading of the clock.
    """
    from transformers import TrainerCallback

    class Timer(TrainerCallback):  # type: ignore[misc]
        begin = 0.0

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            settle()
            self.begin = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            settle()
            seconds.append(time.perf_counter() - self.begin)

    return Timer()


@contextmanager
def made_in(dtype: Any, device: str) -> Iterator[None]:
    """While entered, new weights are made in this type on this device: the host never holds them in fp32."""
    import torch

    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            yield
    finally:
        torch.set_default_dtype(torch.float32)
