"""Peak memory of this process alone. Standard library only: interpreters without Eosin read it too."""

from __future__ import annotations

import resource
import sys
from pathlib import Path


def peak_bytes() -> int:
    """The most resident memory this process has held, in bytes.

    Linux: VmHWM, which starts anew when a program starts. `ru_maxrss` does not: a child begins with the peak of the
    process that started it, so that every contender shows at least the parent's. It is the fall-back elsewhere.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
