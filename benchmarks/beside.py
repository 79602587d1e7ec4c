"""A server of a benchmark in a process of its own: started, its address read, ended."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def serving(file: str, *arguments: str) -> Iterator[str]:
    """The address of `python FILE --serve ARGUMENTS`, which prints its port in its first line."""
    command = [sys.executable, file, "--serve", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}/v1"
    finally:
        process.terminate()
        process.wait()
