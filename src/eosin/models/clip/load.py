"""CLIP models by name, file or folder; and back to disk in the forms of open_clip and of transformers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from eosin.core.errors import EosinError
from eosin.core.extras import need
from eosin.core.foreign_code import NO_CODE, no_foreign_code
from eosin.core.settings.clip import ClipModel, TinyClip
from eosin.core.store import artifacts as store
from eosin.core.store.artifacts import Artifact
from eosin.models.clip.clip import Clip, tokenizer_of
from eosin.models.clip.convert import from_transformers, open_clip_config, to_transformers, transformers_config
from eosin.models.clip.known import KNOWN, KnownClip
from eosin.models.clip.network import build_network, loading, named_network, tiny_settings
from eosin.models.load import device, load_whole

CONFIG = "open_clip_config.json"
WEIGHTS = "open_clip_model.safetensors"
KIND = "clip-checkpoint"
Form = Literal["open_clip", "transformers"]


def load_clip(name: str | Path, *, to: torch.device | None = None) -> Clip:
    """Load a CLIP model, ready to embed.

    Args:
        name: a folder in open_clip's or transformers' form; MODEL@WEIGHTS, where WEIGHTS is a tag of open_clip or a
            file; hf-hub:ORG/NAME (open_clip's form) or ORG/NAME (transformers'); a known name (`known.KNOWN`), with
            @FILE where its weights are on this machine. "open_clip:" before any of these is allowed, as in scoring.
        to: device; by default the GPU if there is one.

    Raises:
        EosinError: nothing can be loaded there; weights are missing, left over, or of another architecture.
    """
    source = str(name).removeprefix("open_clip:")
    need("open_clip", "encoders")
    clip = _load(source)
    clip.network.eval()
    return clip.to(to or device())


def _load(source: str) -> Clip:
    folder = Path(source)
    if folder.is_dir():
        return _of_folder(folder)
    known, _, file = source.partition("@")
    if known in KNOWN:
        return _of_known(KNOWN[known], file)
    if file:
        network, settings = named_network(known, file)
        return _whole(network, settings, source)
    if source.startswith("hf-hub:"):
        return _of_hub(source)
    if source.count("/") == 1 and not source.startswith((".", "/")):
        with loading(source):
            return _of_transformers(source)
    raise EosinError(
        "There is no such CLIP model.",
        expected="a folder, MODEL@WEIGHTS, hf-hub:ORG/NAME, or one of " + ", ".join(KNOWN), found=source,
    )  # fmt: skip


def _of_folder(folder: Path) -> Clip:
    if store.exists(folder):
        store.open_artifact(folder, verify=True)
    if not (folder / CONFIG).is_file():
        if (folder / "config.json").is_file():
            with loading(str(folder)):
                return _of_transformers(str(folder))
        raise EosinError(
            "This folder holds no CLIP model.", expected=f"{CONFIG}, or config.json of transformers", where=folder
        )
    config = store.read_object(folder / CONFIG)
    settings = config.get("model_cfg") or config
    file = next((folder / n for n in (WEIGHTS, "open_clip_pytorch_model.bin") if (folder / n).is_file()), None)
    if file is None:
        raise EosinError("This checkpoint has no weights.", expected=WEIGHTS, where=folder)
    network = build_network(settings)
    fill(network, read_weights(file), str(folder))
    with loading(str(folder)):
        tokenize = tokenizer_of(settings, str(folder))
    return Clip(network, tokenize, settings, config.get("preprocess_cfg") or {}, str(folder))


def read_weights(file: Path) -> dict[str, torch.Tensor]:
    """Tensors of a weights file by name; nothing is unpickled."""
    open_clip = need("open_clip", "encoders")
    with loading(str(file)):
        found = open_clip.factory.load_state_dict(str(file), weights_only=True)
    if not all(isinstance(v, torch.Tensor) for v in found.values()):
        raise EosinError("This file holds other things than weights.", where=file)
    return {str(k): v for k, v in found.items()}


def fill(network: Any, weights: Mapping[str, torch.Tensor], where: str) -> None:
    """Load weights; every tensor must have its place and every place its tensor.

    Raises:
        EosinError: weights of another architecture.
    """
    own = network.state_dict()
    missing, extra = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    shapes = sorted(k for k in own.keys() & weights.keys() if own[k].numel() != weights[k].numel())
    told = {"missing": missing, "without a place": extra, "of another shape": shapes}
    found = "; ".join(f"{len(v)} {k}, such as {v[0]}" for k, v in told.items() if v)
    if found:
        raise EosinError(
            "These weights are not those of this architecture.", found=found, where=where,
            next_step="name the architecture that they were trained in, as MODEL@FILE",
        )  # fmt: skip
    network.load_state_dict({k: v.reshape(own[k].shape) for k, v in weights.items()})


def _of_transformers(source: str) -> Clip:
    from transformers import AutoConfig, AutoImageProcessor, CLIPModel

    with no_foreign_code(source):
        config = AutoConfig.from_pretrained(source, **NO_CODE)
        if config.model_type != "clip":
            raise EosinError("This is no CLIP of transformers.", expected="model_type clip", found=config.model_type,
                             where=source)  # fmt: skip
        settings = open_clip_config(config, source)
        model = load_whole(CLIPModel, source, dtype=torch.float32, **NO_CODE)
        images = AutoImageProcessor.from_pretrained(source, **NO_CODE)
    network = build_network(settings)
    fill(network, from_transformers(model.state_dict()), source)
    preparation = {"mean": images.image_mean, "std": images.image_std}
    return Clip(network, tokenizer_of(settings), settings, preparation, source)


def _of_hub(source: str) -> Clip:
    open_clip = need("open_clip", "encoders")
    with loading(source):
        network = open_clip.create_model(source)
        return _whole(network, open_clip.get_model_config(source), source, open_clip.get_tokenizer(source))


def _of_known(record: KnownClip, file: str) -> Clip:
    if record.form == "conch":
        raise EosinError(
            "CONCH's text tower cannot be read yet.", found=record.name, expected="one of " + ", ".join(KNOWN),
            next_step="its image tower is a patch encoder: eosin slides features --encoder conch (docs/encoders.md)",
        )  # fmt: skip
    if file:
        return _of_folder(Path(file)) if Path(file).is_dir() else _load(f"{record.architecture}@{file}")
    if record.hub is None:
        raise EosinError(
            f"The weights of {record.name} are not on the hub in a form that can be named.",
            next_step=f"get the file from its authors, then name it: {record.name}@FILE",
        )
    if record.form == "file":
        return _load(f"{record.architecture}@{_download(record)}")
    try:
        return _load(record.hub if record.form == "transformers" else f"hf-hub:{record.hub}")
    except EosinError as exc:
        raise _ask(record, exc) from exc


def _download(record: KnownClip) -> str:
    from huggingface_hub import hf_hub_download

    assert record.hub is not None and record.file is not None
    try:
        return str(hf_hub_download(record.hub, record.file))
    except (OSError, ValueError) as exc:
        raise _ask(record, exc) from exc


def _ask(record: KnownClip, exc: Exception) -> EosinError:
    gate = f"ask for access at the hub page {record.hub}, then `hf auth login`; or " if record.gated else ""
    return EosinError(
        f"The weights of {record.name} could not be loaded.", expected=f"the hub repository {record.hub}",
        found=f"{type(exc).__name__}: {(str(exc).splitlines() or [''])[0][:200]}",
        next_step=f"{gate}name a downloaded file or folder: {record.name}@PATH",
    )  # fmt: skip


def _whole(network: Any, settings: Mapping[str, Any], source: str, tokenize: Any = None) -> Clip:
    preparation = getattr(network.visual, "preprocess_cfg", None) or {}
    with loading(source):
        return Clip(network, tokenize or tokenizer_of(settings), settings, preparation, source)


# ---- new models ----------------------------------------------------------------------------------------------------


def new_clip(settings: ClipModel, seed: int, tower: Mapping[str, torch.Tensor] | None = None) -> Clip:
    """The model that a recipe starts from: a small one with seeded weights, or a named one.

    Args:
        tower: weights of the image tower under timm's names, where `settings.weights` is no file.
    """
    if not isinstance(settings, TinyClip):
        return load_clip(settings.name)
    need("open_clip", "encoders")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        cfg = tiny_settings(settings)
        network = build_network(cfg)
    preparation = {}
    if settings.weights is not None:
        preparation = _pretrained_tower(network.visual.trunk, settings.weights, tower)
    return Clip(network, tokenizer_of(cfg), cfg, preparation, "new").to(device())


def _pretrained_tower(trunk: Any, name: str, tower: Mapping[str, torch.Tensor] | None) -> dict[str, Any]:
    """Put weights of timm into an image tower, without their classifier; how they want their pictures normalised."""
    found = read_weights(Path(name)) if tower is None else tower
    cfg = getattr(trunk, "pretrained_cfg", None) or {}
    head = str(cfg.get("classifier") or "classifier")
    fill(trunk, {k: v for k, v in found.items() if not k.startswith(f"{head}.")}, name)
    return {"mean": cfg.get("mean"), "std": cfg.get("std")}


# ---- to disk -------------------------------------------------------------------------------------------------------


def save_clip(
    clip: Clip,
    path: Path,
    *,
    form: Form = "open_clip",
    parents: tuple[Artifact, ...] = (),
    facts: Mapping[str, Any] | None = None,
    replace: bool = False,
) -> Artifact:
    """Write a CLIP model as one artifact, in a form that open_clip or transformers opens by itself.

    open_clip opens it as "local-dir:PATH", transformers by CLIPModel.from_pretrained and CLIPProcessor.

    Raises:
        EosinError: transformers has no such architecture.
    """
    config = transformers_config(clip.model_cfg, str(path)) if form == "transformers" else None
    with store.writing(path, KIND, parents=parents, replace=replace) as writer:
        if config is None:
            _write_open_clip(clip, writer.dir)
        else:
            _write_transformers(clip, config, writer.dir)
        writer.facts.update(facts or {})
        writer.counts["parameters"] = sum(p.numel() for p in clip.network.parameters())
    return store.open_artifact(path, KIND)


def _write_open_clip(clip: Clip, folder: Path) -> None:
    from safetensors.torch import save_file

    store.write_json(folder / CONFIG, {"model_cfg": clip.model_cfg, "preprocess_cfg": clip.preprocess_cfg})
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in clip.network.state_dict().items()}
    save_file(tensors, str(folder / WEIGHTS))
    if (clip.model_cfg.get("text_cfg") or {}).get("hf_tokenizer_name"):
        clip.tokenize.save_pretrained(str(folder))


def _write_transformers(clip: Clip, config: Mapping[str, Any], folder: Path) -> None:
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

    model = CLIPModel(CLIPConfig(**config))
    model.load_state_dict(to_transformers({k: v.detach().cpu() for k, v in clip.network.state_dict().items()}))
    model.save_pretrained(folder, safe_serialization=True)
    px = clip.image_px
    images = CLIPImageProcessor(
        image_mean=clip.preprocess_cfg["mean"], image_std=clip.preprocess_cfg["std"],
        size={"shortest_edge": px}, crop_size={"height": px, "width": px},
    )  # fmt: skip
    words = {k.replace("<start_of_text>", "<|startoftext|>").replace("<end_of_text>", "<|endoftext|>"): v
             for k, v in clip.tokenize.encoder.items()}  # fmt: skip
    merges = [
        " ".join(pair) for pair in sorted(clip.tokenize.bpe_ranks, key=clip.tokenize.bpe_ranks.get) if len(pair) == 2
    ]
    raw = folder / "raw"
    raw.mkdir()
    (raw / "vocab.json").write_text(json.dumps(words, ensure_ascii=False), "utf-8")
    (raw / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", "utf-8")
    tokenizer = CLIPTokenizer(str(raw / "vocab.json"), str(raw / "merges.txt"), model_max_length=clip.context_length)
    CLIPProcessor(images, tokenizer).save_pretrained(folder)
    for file in raw.iterdir():
        file.unlink()
    raw.rmdir()
