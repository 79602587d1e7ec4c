"""OpenSeadragon for the page: fetched once from npm, by its own client, and checked."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from eosin.core.errors import EosinError
from eosin.core.store.artifacts import write_bytes_atomic
from eosin.serve.pages import VIEWER, VIEWER_VERSION, viewer_folder

MAX_BYTES = 8 * 2**20
FILES = {f"package/build/openseadragon/{VIEWER}": VIEWER, "package/LICENSE.txt": "LICENSE.txt"}
SHA256 = "14d587cd3ee7c4861f1a41077ce642029364a21029956ba635bd8fb1202cf9ad"
"""Of the script, so that another one than the one that was looked at is not run."""


def fetch_viewer() -> Path:
    """`npm pack openseadragon@VERSION`, unpacked into the user's cache. BSD-3-Clause; its licence lies beside it.

    Raises:
        EosinError: no npm, no registry, or another content than expected.
    """
    npm = shutil.which("npm")
    name = f"openseadragon@{VIEWER_VERSION}"
    if npm is None:
        raise EosinError(
            "npm is not installed here.", expected=f"npm, to fetch {name}",
            next_step=f"elsewhere: npm pack {name}; then put {VIEWER} of it into {viewer_folder()}. "
            "The page works without it, with its own viewer",
        )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="eosin-") as folder:
        done = subprocess.run([npm, "pack", name, "--ignore-scripts"], cwd=folder, capture_output=True, text=True,
                              timeout=300, check=False)  # fmt: skip
        packs = list(Path(folder).glob("*.tgz"))
        if done.returncode or len(packs) != 1:
            raise EosinError("npm could not fetch the viewer.", found=done.stderr.strip()[-300:],
                             next_step="the page works without it, with its own viewer")  # fmt: skip
        return unpack(packs[0], viewer_folder())


def unpack(pack: Path, out: Path) -> Path:
    """The script and its licence out of npm's archive; nothing else of it is read."""
    with tarfile.open(pack, "r:gz") as archive:
        found = {m.name: m for m in archive if m.name in FILES and m.isfile() and m.size <= MAX_BYTES}
        data = {name: archive.extractfile(member).read() for name, member in found.items()}  # type: ignore[union-attr]
    script = data.get(f"package/build/openseadragon/{VIEWER}", b"")
    if hashlib.sha256(script).hexdigest() != SHA256:
        raise EosinError("This is not the OpenSeadragon that was looked at.", expected=f"SHA-256 {SHA256}",
                         found=hashlib.sha256(script).hexdigest(), where=pack)  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    for name, target in FILES.items():
        if name in data:
            write_bytes_atomic(out / target, data[name])
    return out / VIEWER
