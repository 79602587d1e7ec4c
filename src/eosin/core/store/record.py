"""The record that stands beside every result: code, packages, machine, seeds."""

from __future__ import annotations

import datetime as dt
import functools
import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

from eosin import __version__

_PACKAGES = (
    "torch", "torchvision", "transformers", "trl", "peft", "accelerate", "datasets", "timm",
    "open_clip_torch", "h5py", "numpy",
    "pillow", "pydantic", "pyarrow", "pypdfium2", "scikit-learn", "openslide-python", "tifffile",
)  # fmt: skip


@functools.cache
def package_versions() -> dict[str, str]:
    """Installed versions of the packages that can move a number."""
    versions = {"eosin": __version__}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


@functools.cache
def code_state() -> dict[str, Any]:
    """Commit and dirty flag of the source tree; None where Eosin is not run from a checkout."""
    here = Path(__file__).resolve().parents[4]
    if not (here / ".git").exists():
        return {"commit": None, "dirty": None}

    def git(*args: str) -> str:
        return subprocess.run(
            ["git", "-C", str(here), *args], capture_output=True, text=True, timeout=20, check=True
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}


def hardware() -> dict[str, Any]:
    """Cores, memory and accelerator names. Asks torch only if it is loaded already."""
    facts: dict[str, Any] = {
        "machine": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "threads": _threads(sys.modules.get("torch")),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "accelerators": [],
    }
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        facts["accelerators"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return facts


def _threads(torch: Any) -> dict[str, Any]:
    """What decides how sums are split, and so their last digits: threads of torch, where it is loaded, and settings."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "ATEN_CPU_CAPABILITY")
    return {
        "torch": torch.get_num_threads() if torch is not None else None,
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        **{name: os.environ[name] for name in names if name in os.environ},
    }


def make_record(**extra: Any) -> dict[str, Any]:
    """A record of now. `extra` adds fields such as seed or recipe."""
    return {
        "created": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "code": code_state(),
        "packages": package_versions(),
        "hardware": hardware(),
        "note": "Research use only, not for diagnosis.",
        **extra,
    }


def differences(old: Any, new: Any, where: str = "") -> list[str]:
    """Where two settings as JSON differ, a line each."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(k for k in new if k not in old)]
        return [d for k in keys for d in differences(old.get(k), new.get(k), f"{where}.{k}" if where else str(k))]
    return [] if old == new else [f"{where}: there {old!r}, here {new!r}"]
