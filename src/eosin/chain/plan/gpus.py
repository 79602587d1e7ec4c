"""GPUs by name: what their data sheets say."""

from __future__ import annotations

import re
from dataclasses import dataclass

from eosin.core.errors import EosinError

GIB = 2**30
USABLE = 0.93
"""Share of a card's memory that a training may fill; the rest is the libraries' and lost between blocks."""


@dataclass(frozen=True)
class Gpu:
    """One card.

    Attributes:
        memory_gb: as sold, 10^9 bytes.
        tflops: dense bf16 peak of the matrix units, 10^12 operations a second, accumulated in fp32.
        bandwidth_tbs: of its memory, 10^12 bytes a second.
        source: whose data sheet.
    """

    name: str
    memory_gb: float
    tflops: float
    bandwidth_tbs: float
    source: str

    @property
    def usable_gib(self) -> float:
        """What a training may fill, in GiB."""
        return self.memory_gb * 1e9 / GIB * USABLE


GPUS = {
    g.name: g
    for g in (
        Gpu("A100-40", 40, 312, 1.555, "NVIDIA A100 data sheet, SXM"),
        Gpu("A100", 80, 312, 2.039, "NVIDIA A100 data sheet, 80 GB SXM"),
        Gpu("H100", 80, 989, 3.35, "NVIDIA H100 data sheet, SXM, without sparsity"),
        Gpu("H200", 141, 989, 4.8, "NVIDIA H200 data sheet, SXM, without sparsity"),
        Gpu("B200", 192, 2250, 8.0, "NVIDIA Blackwell data sheet, without sparsity"),
        Gpu("L40S", 48, 362, 0.864, "NVIDIA L40S data sheet, without sparsity"),
        Gpu("L4", 24, 121, 0.3, "NVIDIA L4 data sheet, without sparsity"),
        Gpu("A10", 24, 125, 0.6, "NVIDIA A10 data sheet"),
        Gpu("RTX4090", 24, 165, 1.008, "NVIDIA Ada white paper, accumulated in fp32"),
        Gpu("MI300X", 192, 1307, 5.3, "AMD MI300X data sheet"),
    )
}


@dataclass(frozen=True)
class Machine:
    """So many cards of one kind on each of so many nodes."""

    gpu: Gpu
    per_node: int
    nodes: int = 1

    @property
    def num(self) -> int:
        return self.per_node * self.nodes

    def __str__(self) -> str:
        shown = f"{self.per_node}x{self.gpu.name}"
        return shown if self.nodes == 1 else f"{self.nodes} nodes of {shown}"


def machine_of(text: str, nodes: int = 1) -> Machine:
    """`8xH100`, or `H100` for one.

    Raises:
        EosinError: another form, or a card that is not in the table.
    """
    found = re.fullmatch(r"(?:(\d+)\s*[xX]\s*)?([A-Za-z0-9-]+)", text.strip())
    name = next((n for n in GPUS if found and n.lower() == found[2].lower()), None)
    num = int(found[1] or 1) if found else 0
    if name is None or num < 1 or nodes < 1:
        raise EosinError(
            "These GPUs are not known.", expected=f"NUMBERxNAME with one of {', '.join(GPUS)}", found=text,
            where="--gpus", next_step="take the card that is most like yours, for example --gpus 8xH100",
        )  # fmt: skip
    return Machine(GPUS[name], num, nodes)
