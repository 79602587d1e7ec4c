"""`eosin doctor`: what this machine can run, what is missing, and the command that mends it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import sys
from pathlib import Path
from typing import Annotated

import psutil
import typer
from rich.console import Console
from rich.table import Column, Table

from eosin.cli.start.needs import needs_of, verdict
from eosin.cli.start.servers import server_state
from eosin.core.settings.recipe import load_recipe

# What a user wants to do -> (the extra that brings it, its packages).
ABILITIES: dict[str, tuple[str | None, tuple[str, ...]]] = {
    "data, scoring, reports": (None, ("pydantic", "numpy", "PIL", "pyarrow", "sklearn", "matplotlib", "jinja2")),
    "training and exams": (
        "train",
        ("torch", "torchvision", "transformers", "trl", "peft", "accelerate", "datasets", "safetensors"),
    ),
    "whole-slide images": (
        "slides",
        ("openslide", "openslide_bin", "tifffile", "imagecodecs", "cv2", "wsidicom", "h5py"),
    ),
    "patch encoders": ("encoders", ("timm", "open_clip")),
    "features over a cluster": ("cluster", ("ray",)),
    "PDFs and articles": ("documents", ("pypdfium2", "reportlab")),
    "layout by docling": ("docling", ("docling",)),
    "scanned pages": ("ocr", ("rapidocr", "onnxruntime")),
    "a judge behind a server": ("clients", ("openai",)),
    "the reading room": ("serve", ("fastapi", "uvicorn", "sqlalchemy")),
    "corrections in PostgreSQL": ("postgres", ("psycopg",)),
    "open answers, spreadsheets": ("exams", ("sacrebleu", "rouge_score", "openpyxl")),
    "search in large indexes": ("search", ("usearch",)),
}
_NAMES = {"PIL": "pillow", "sklearn": "scikit-learn", "openslide": "openslide-python", "openslide_bin": "openslide-bin",
          "cv2": "opencv-python-headless", "open_clip": "open-clip-torch",
          "rouge_score": "rouge-score"}  # fmt: skip


def doctor(
    out: Annotated[Path, typer.Option(help="Folder whose disk is looked at.")] = Path("."),
    server: Annotated[
        list[str] | None,
        typer.Option(help="Base URL of a model server to ask, such as http://host:8000/v1. Repeatable."),
    ] = None,
) -> None:
    """Say what this machine can run, what is missing, and the command that mends it; what each shipped recipe needs.

    Example: eosin doctor --server http://127.0.0.1:8000/v1
    """
    console = Console(highlight=False, soft_wrap=True)
    how = Column("how", min_width=31)  # a command that mends something stands on one line
    table = Table("to do this", "state", how, box=None, padding=(0, 2, 0, 0))
    for ability, (extra, packages) in ABILITIES.items():
        missing = [_NAMES.get(p, p) for p in packages if importlib.util.find_spec(p) is None]
        versions = ", ".join(_version(p) for p in packages[:3] if p not in missing)
        if missing:
            mend = f"pip install 'eosin\\[{extra}]'" if extra else "pip install --force-reinstall eosin"
            table.add_row(ability, f"[red]missing: {', '.join(missing)}", mend)
        else:
            table.add_row(ability, "[green]ready", versions)
    console.print(table)
    for line in _machine(out):
        console.print(line)
    console.print(_recipes())
    for url in server or ():
        answers, said = server_state(url)
        console.print(f"server {url}: {said}", style="green" if answers else "yellow", markup=False)


def _recipes() -> Table:
    """A row a shipped recipe: what it needs beside what is here. GPU memory is an estimate from the model's size."""
    table = Table("recipe", "your data", "GPU, about", "here", box=None, padding=(0, 2, 0, 0))
    from eosin.chain.recipe.run import shipped_recipes

    memory = psutil.virtual_memory().available / 2**30
    gpu = _gpu_gib()
    for name, path in shipped_recipes().items():
        needs = needs_of(load_recipe(path).recipe)
        state = verdict(needs, gpu, memory).replace("[", "\\[")
        wanted = f"{needs.gpu_gib:.0f} GiB" if needs.gpu_gib else "none"
        table.add_row(name, needs.data or "none", wanted, f"[green]{state}" if state == "ready" else state)
    return table


def _gpu_gib() -> float | None:
    """Memory of the largest GPU, GiB."""
    if importlib.util.find_spec("torch") is None:
        return None
    import torch

    sizes = [torch.cuda.get_device_properties(i).total_memory / 2**30 for i in range(torch.cuda.device_count())]
    return max(sizes, default=None)


def _version(package: str) -> str:
    try:
        name = _NAMES.get(package, package)
        return f"{name} {importlib.metadata.version(name)}"
    except importlib.metadata.PackageNotFoundError:
        return package


def _machine(out: Path) -> list[str]:
    memory = psutil.virtual_memory()
    free_gib = shutil.disk_usage(out if out.exists() else Path(".")).free / 2**30
    lines = [
        f"python {sys.version.split()[0]}, {psutil.cpu_count()} cores, "
        f"{memory.total / 2**30:.0f} GiB memory ({memory.available / 2**30:.0f} free), {free_gib:.0f} GiB disk free"
    ]
    if memory.available < 6 * 2**30:
        lines.append("[yellow]the demo wants 6 GiB of free memory; close other programs")
    if free_gib < 3:
        lines.append("[yellow]a run wants about 1 GiB of disk, an installation of \\[train] about 6")
    return [*lines, *_accelerator()]


def _accelerator() -> list[str]:
    if importlib.util.find_spec("torch") is None:
        return []
    import torch

    if not torch.cuda.is_available():
        return ["no GPU: the small model trains here; a 7B model does not (LoRA wants about 24 GiB of GPU memory)"]
    lines = []
    for i in range(torch.cuda.device_count()):
        gib = torch.cuda.get_device_properties(i).total_memory / 2**30
        fits = "7B with LoRA" if gib >= 23 else "3B with LoRA" if gib >= 11 else "the small model"
        lines.append(f"GPU {i}: {torch.cuda.get_device_name(i)}, {gib:.0f} GiB: {fits}")
    return lines
