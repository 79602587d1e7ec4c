"""Which case a file belongs to, where its name says so by a rule that is known everywhere."""

from __future__ import annotations

import re

_TCGA = re.compile(r"TCGA-\w\w-\w{4}(?![A-Za-z0-9_])", re.IGNORECASE)


def tcga_case(name: str) -> str | None:
    """The patient of a TCGA barcode at the beginning of a name: "TCGA-AA-3844" of "TCGA-AA-3844-01Z-00-DX1.svs"."""
    match = _TCGA.match(name)
    return match[0].upper() if match else None
