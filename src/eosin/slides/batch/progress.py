"""What a long run over slides shows: slides done, tiles a second, time left."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as RichProgress

from eosin.core.nouns.outcome import Dropped

_LINES = 40
_WINDOW_S = 30.0


class Progress:
    """A bar on a terminal, a line a slide elsewhere, nothing without a console. Use it in a `with` block."""

    def __init__(self, console: Console | None, total: int, resumed: int = 0) -> None:
        self._console = console
        self._total, self._done, self._lost, self._resumed = total, 0, 0, resumed
        self._tiles: dict[str, list[int]] = {}  # of slides in work: tiles done, tiles in all
        self._finished_tiles = 0
        self._begun = time.monotonic()
        self._recent: deque[tuple[float, int]] = deque()
        self._bar: RichProgress | None = None
        self._task: Any = None

    def __enter__(self) -> Progress:
        if self._console is not None and self._resumed:
            self._console.print(f"{self._resumed} slides have their features already")
        if self._console is not None and self._console.is_terminal and self._total:
            columns = (BarColumn(), TextColumn("{task.description}"))
            self._bar = RichProgress(*columns, console=self._console, transient=True)
            self._bar.start()
            self._task = self._bar.add_task("opening slides", total=self._total)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begun(self, name: str, num_tiles: int) -> None:
        """A slide was opened and cut into tiles."""
        self._tiles[name] = [0, num_tiles]
        self._show()

    def advanced(self, name: str, num_tiles: int) -> None:
        """Tiles of a slide were encoded, or found to be unreadable."""
        self._tiles.setdefault(name, [0, num_tiles])[0] += num_tiles
        self._recent.append((time.monotonic(), num_tiles))
        self._show()

    def finished(self, outcome: Any) -> None:
        """A slide ended."""
        name = outcome.id if isinstance(outcome, Dropped) else outcome.name
        tiles = self._tiles.pop(name, [0, 0])[0] if isinstance(outcome, Dropped) else outcome.num_tiles
        self._tiles.pop(name, None)
        self._finished_tiles += tiles
        self._done += 1
        self._lost += isinstance(outcome, Dropped)
        if self._console is not None and self._bar is None and self._is_told(outcome):
            said = f"dropped: {outcome.reason}" if isinstance(outcome, Dropped) else f"{outcome.num_tiles} tiles"
            speed = f"{self.rate():.0f} tiles/s  {self._left()}"
            self._console.print(f"{self._done}/{self._total}  {name}  {said}  {speed}")
        self._show()

    def _is_told(self, outcome: Any) -> bool:
        """Whether a log gets a line about this slide: every one of a few, some of many, and all that were dropped."""
        every = max(1, self._total // _LINES)
        return isinstance(outcome, Dropped) or self._done % every == 0 or self._done in (1, self._total)

    def rate(self) -> float:
        """Tiles a second over the last half minute."""
        now = time.monotonic()
        while self._recent and now - self._recent[0][0] > _WINDOW_S:
            self._recent.popleft()
        span = min(now - self._begun, _WINDOW_S)
        return sum(n for _, n in self._recent) / max(span, 1e-3)

    def seconds_left(self) -> float | None:
        """From the slides done so far and the share of those in work; None before the first tile."""
        share = sum(d / max(n, 1) for d, n in self._tiles.values())
        worked = self._done + share
        if worked <= 0:
            return None
        return (time.monotonic() - self._begun) * (self._total - worked) / worked

    def _left(self) -> str:
        left = self.seconds_left()
        if left is None:
            return ""
        hours, rest = divmod(round(left), 3600)
        return f"{hours}:{rest // 60:02d}:{rest % 60:02d} left"

    def _show(self) -> None:
        if self._bar is None:
            return
        share = sum(d / max(n, 1) for d, n in self._tiles.values())
        lost = f", {self._lost} dropped" if self._lost else ""
        minutes = max(time.monotonic() - self._begun, 1e-3) / 60
        speed = f"{self._done / minutes:.1f} slides a minute  {self.rate():.0f} tiles/s  {self._left()}"
        text = f"{self._done}/{self._total} slides{lost}  {speed}"
        self._bar.update(self._task, completed=self._done + share, description=text)
