"""Published CLIP models of pathology by name: where their weights are, and what one must ask for.

Facts as in the encoders' records (`slides.encoders.records`), read from the models' own repositories and hub pages. No
weight is shipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class KnownClip:
    """A published model.

    Attributes:
        form: "open_clip": a folder of the hub in open_clip's form; "transformers": one of transformers' CLIPModel;
            "file": weights in a file, for `architecture`; "conch": CONCH's own architecture.
        hub, file: where the weights are; no hub: a file that the authors give elsewhere, to be named by the user.
        gated: consent on the hub is asked for.
    """

    name: str
    form: Literal["open_clip", "transformers", "file", "conch"]
    hub: str | None
    licence: str
    architecture: str | None = None
    file: str | None = None
    gated: bool = False


_ASK = "not seen; access is granted on request"
_ALL = (
    KnownClip("plip", "transformers", "vinid/plip", "none stated in its repository"),
    KnownClip("quiltnet-b-32", "open_clip", "wisdomik/QuiltNet-B-32", "MIT"),
    KnownClip("quiltnet-b-16", "open_clip", "wisdomik/QuiltNet-B-16", "not seen"),
    KnownClip("quiltnet-b-16-pmb", "open_clip", "wisdomik/QuiltNet-B-16-PMB", "not seen"),
    KnownClip("pathgen-clip", "file", None, "CC-BY-2.0", "ViT-B-16"),
    KnownClip("pathgen-clip-l", "file", None, "CC-BY-2.0", "ViT-L-14-336"),
    KnownClip("conch", "conch", "MahmoodLab/conch", "CC-BY-NC-ND-4.0", file="pytorch_model.bin", gated=True),
    KnownClip("patho-clip-b", "file", "WenchuanZhang/Patho-CLIP-B", _ASK, "ViT-B-16", "PathoCLIP-B.pt", True),
    KnownClip("patho-clip-l", "file", "WenchuanZhang/Patho-CLIP-L", _ASK, "ViT-L-14", "PathoCLIP-L.pt", True),
)
KNOWN = {record.name: record for record in _ALL}
