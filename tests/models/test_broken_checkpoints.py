"""A checkpoint that is not what was written is refused by name, and never examined with random weights in its gaps."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.support.slide_toys import slide_settings

from eosin.core.errors import EosinError
from eosin.core.settings.model import HubModel, TinyModel, TinyText, TinyVision
from eosin.core.store import artifacts as store
from eosin.models import checkpoint
from eosin.models.load import load
from eosin.models.slide_encoder.build import build_slide_reader
from eosin.models.tiny import build_tiny

SMALL = TinyModel(
    image_px=56, vocab_size=320,
    vision=TinyVision(depth=1, hidden_size=32, intermediate_size=64, num_heads=2),
    text=TinyText(hidden_size=48, intermediate_size=96, num_layers=2, num_heads=2, num_kv_heads=1),
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as an artifact, the same as a plain folder, and an adapter on it."""
    folder = tmp_path_factory.mktemp("made")
    model, processor = build_tiny(["The slide shows tumour glands"] * 4, SMALL, 0)
    checkpoint.save(model, processor, folder / "artifact")
    shutil.copytree(folder / "artifact", folder / "plain")
    (folder / "plain" / store.MANIFEST).unlink()
    from peft import LoraConfig, get_peft_model

    base = load(folder / "plain")
    adapted = get_peft_model(base.model, LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    adapted.save_pretrained(folder / "adapter")
    base.processor.save_pretrained(folder / "adapter")
    return folder


@pytest.fixture
def copied(made: Path, tmp_path: Path) -> Callable[[str], Path]:
    def copy(name: str) -> Path:
        shutil.copytree(made / name, tmp_path / name)
        return tmp_path / name

    return copy


def refused(folder: Path, *words: str) -> None:
    with pytest.raises(EosinError) as caught:
        load(folder)
    for word in words:
        assert word in str(caught.value), str(caught.value)
    assert str(folder) in str(caught.value)


def change(folder: Path, how: Callable[[dict[str, torch.Tensor]], None], name: str = "model.safetensors") -> None:
    tensors = load_file(str(folder / name))
    how(tensors)
    save_file(tensors, str(folder / name), metadata={"format": "pt"})


def test_what_was_written_loads(made: Path) -> None:
    for name in ("artifact", "plain", "adapter"):
        assert load(made / name).model.config.model_type == "qwen2_5_vl"


def some_layer(tensors: dict[str, torch.Tensor]) -> str:
    return next(n for n in sorted(tensors) if "layers.1.mlp" in n)


def without_a_layer(tensors: dict[str, torch.Tensor]) -> None:
    del tensors[some_layer(tensors)]


def without_the_first(tensors: dict[str, torch.Tensor]) -> None:
    del tensors[sorted(tensors)[0]]


@pytest.mark.parametrize("name", ["artifact", "plain"])
def test_a_missing_tensor_is_an_error(copied: Callable[[str], Path], name: str) -> None:
    folder = copied(name)
    change(folder, without_a_layer)
    refused(folder, "changed after it was written" if name == "artifact" else "1 missing")


def test_a_tensor_without_a_place_is_an_error(copied: Callable[[str], Path]) -> None:
    folder = copied("plain")
    change(folder, lambda t: t.update({"model.layers.99.mlp.up_proj.weight": torch.zeros(2, 2)}))
    refused(folder, "without a place", "layers.99")


def test_a_tensor_of_another_shape_is_an_error(copied: Callable[[str], Path]) -> None:
    folder = copied("plain")
    change(folder, lambda t: t.update({some_layer(t): torch.zeros(3, 3)}))
    refused(folder)


def test_one_changed_bit_is_an_error(copied: Callable[[str], Path]) -> None:
    folder = copied("artifact")
    load(folder)  # compared once, and again when the file was touched
    file = folder / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(bytes(data))
    refused(folder, "changed after it was written", "model.safetensors")


def test_a_changed_config_is_an_error(copied: Callable[[str], Path]) -> None:
    folder = copied("artifact")
    config = store.read_json(folder / "config.json")
    config["text_config"]["rms_norm_eps"] = 0.5
    store.write_json(folder / "config.json", config)
    refused(folder, "config.json")


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json", "processor_config.json"])
@pytest.mark.parametrize("how", ["gone", "empty", "cut", "garbage", "list", "latin"])
def test_a_broken_file_is_named_and_never_a_traceback(copied: Callable[[str], Path], file: str, how: str) -> None:
    folder = copied("plain")
    path = folder / file
    if not path.exists():
        pytest.skip(f"this release of transformers writes no {file}")
    data = path.read_bytes()
    changed = {"empty": b"", "cut": data[: len(data) // 2], "garbage": b"\x89PNG" + data[::-1], "list": b"[1, 2]",
               "latin": "{\"é\": 1}".encode("latin-1")}  # fmt: skip
    path.unlink()
    if how != "gone":
        path.write_bytes(changed[how])
    refused(folder)


def test_an_adapter_that_lacks_weights_is_an_error(copied: Callable[[str], Path], made: Path) -> None:
    folder = copied("adapter")
    config = store.read_json(folder / "adapter_config.json")
    config["base_model_name_or_path"] = str(made / "plain")
    store.write_json(folder / "adapter_config.json", config)
    assert load(folder)
    change(folder, without_the_first, "adapter_model.safetensors")
    refused(folder, "adapter lacks weights")


def test_an_adapter_whose_base_lacks_weights_is_an_error(copied: Callable[[str], Path]) -> None:
    base, folder = copied("plain"), copied("adapter")
    config = store.read_json(folder / "adapter_config.json")
    config["base_model_name_or_path"] = str(base)
    store.write_json(folder / "adapter_config.json", config)
    change(base, without_a_layer)
    with pytest.raises(EosinError, match="not those of its model"):
        load(folder)


def test_the_base_of_a_slide_reader_must_be_whole_too(copied: Callable[[str], Path]) -> None:
    folder = copied("plain")
    change(folder, without_a_layer)
    with pytest.raises(EosinError, match="not those of its model"):
        build_slide_reader([], slide_settings(base=HubModel(name=str(folder))), 0)


def test_a_part_outside_of_the_artifact_is_refused(copied: Callable[[str], Path]) -> None:
    folder = copied("artifact")
    manifest = json.loads((folder / store.MANIFEST).read_text("utf-8"))
    (folder.parent / "secret").write_text("s", "utf-8")
    manifest["parts"]["../secret"] = {"sha256": store.sha256_file(folder.parent / "secret"), "bytes": 1}
    store.write_json(folder / store.MANIFEST, manifest)
    refused(folder, "changed after it was written")
