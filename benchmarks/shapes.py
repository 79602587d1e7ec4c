"""Shapes that several benchmarks build with random weights."""

from __future__ import annotations

# The language model of Qwen2.5-VL-7B, from its published config.
TEXT_7B = {
    "hidden_size": 3584, "intermediate_size": 18944, "num_layers": 28, "num_heads": 28, "num_kv_heads": 4,
}  # fmt: skip
