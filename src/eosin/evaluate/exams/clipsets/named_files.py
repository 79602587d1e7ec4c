"""Sets whose files name their class: WSSS4LUAD (lung) and BMT (cervical smears)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from eosin.core.errors import EosinError
from eosin.core.nouns.outcome import Dropped
from eosin.core.store.names import inside
from eosin.evaluate.exams.card import ExamCard
from eosin.evaluate.exams.clipsets.class_folders import SUFFIXES, five_set_mean
from eosin.evaluate.exams.exam import Asked, Exam
from eosin.evaluate.exams.reading.drafts import STEP, Draft
from eosin.evaluate.exams.reading.place import Place

_TISSUES = ("lung adenocarcinoma", "tumour-associated stroma", "normal lung tissue")
_FLAGS = re.compile(r"^(?P<slide>[^-\[\]]+)-.*\[\s*([01])[\s,]*([01])[\s,]*([01])\s*\]$")
_SMEARS = {
    "hsil": "high-grade squamous intraepithelial lesion", "lsil": "low-grade squamous intraepithelial lesion",
    "nil": "negative for intraepithelial lesion or malignancy",
}  # fmt: skip
_BMT_FOLDER = "Brown Multicellular ThinPrep Database - images"

WSSS4LUAD_CARD = ExamCard(
    name="wsss4luad",
    title="WSSS4LUAD: tumour, stroma and normal tissue of lung adenocarcinoma",
    kind="closed",
    domain="H&E tiles of several sizes, some 200 to 500 px",
    homepage="https://wsss4luad.grand-challenge.org",
    version="2021",
    citation="Han et al., WSSS4LUAD, arXiv 2204.06455",
    get=("Join the challenge of the homepage, fetch its training tiles and unpack them: ROOT/1.training/*.png.",),
    layout="ROOT/1.training/SLIDE-X-Y-[a, b, c].png (also below ROOT/WSSS4LUAD, ROOT/training or ROOT itself); a, b, c "
    "are 1 where the tile holds tumour, stroma, normal tissue",
    layout_source="public readers of it",
    counts={"": {"test": 4693}},
    counts_source="a public reader: 1,181 tiles of tumour alone, 1,680 of stroma, 1,832 of normal tissue, of 10,091",
    split_rule="The challenge's training tiles; those with one kind of tissue are asked, as CONCH and others do.",
    split_unit="slide",
    faults=(
        "Tiles with several kinds of tissue have no one answer: they are set aside and counted.",
        "Some papers ask only tumour or normal; their figures are not those of three classes.",
        "Stroma and normal tissue are labels of a tile for weak supervision, not of every place in it.",
    ),
    overlaps=("Part of its slides are of TCGA, on which several patch encoders and CLIP models were trained.",),
    figures=(five_set_mean(),),
)  # fmt: skip

BMT_CARD = ExamCard(
    name="bmt",
    title="BMT: Brown Multicellular ThinPrep, three classes of cervical smears",
    kind="closed",
    domain="cervical cytology, ThinPrep, Papanicolaou stain",
    homepage="https://www.synapse.org/Synapse:syn55259257",
    version="2024",
    citation="Welch et al., BMT, Scientific Data 11 (2024), doi 10.1038/s41597-024-04328-3",
    get=(f"Fetch syn55259257 of the homepage (a free account is needed): ROOT/{_BMT_FOLDER}.",),
    layout=f"ROOT/{_BMT_FOLDER}/*.JPG, or ROOT/*.JPG; a name begins with HSIL, LSIL or NIL",
    layout_source="public readers of it",
    counts={"": {"test": 600}},
    counts_source="doi 10.1038/s41597-024-04328-3: 600 images of 180 slides of 180 patients",
    split_rule="None published. Zero-shot takes all of it.",
    faults=(
        "Which images are of one patient is not read here: intervals treat 600 images of 180 patients as independent, "
        "and are too narrow.",
        "Cytology, not histology: no glands and no stroma.",
    ),
    figures=(five_set_mean(),),
)  # fmt: skip


def lung_class(stem: str) -> tuple[str, str | None] | Dropped:
    """(class, slide) of a tile of WSSS4LUAD by its name, or why there is none."""
    found = _FLAGS.match(stem)
    if found is None:
        return Dropped(stem, "name without its class", stem[:120], STEP)
    named = [tissue for tissue, flag in zip(_TISSUES, found.groups()[1:], strict=True) if flag == "1"]
    if len(named) != 1:
        return Dropped(stem, "tile of several kinds of tissue" if named else "tile of no kind of tissue", stem, STEP)
    return named[0], found["slide"]


def smear_class(stem: str) -> tuple[str, str | None] | Dropped:
    """(class, None) of an image of BMT by the begin of its name."""
    for begin, words in _SMEARS.items():
        if stem.casefold().startswith(begin):
            return words, None
    return Dropped(stem, "name without its class", stem[:120], STEP)


def read_named(
    asked: Asked, folders: Sequence[str], classes: Sequence[str],
    class_of: Callable[[str], tuple[str, str | None] | Dropped], question: str, origin: dict[str, str],
) -> Iterator[Draft | Dropped]:  # fmt: skip
    """Pictures of the first folder that holds some, each with the class that its name tells.

    Args:
        class_of: name without suffix -> (class, slide), or Dropped.
    """
    place = Place(asked.folder(), folders=("",), archives=())
    paths = next((found for name in folders if (found := _pictures(place.root, name))), [])
    if not paths:
        raise EosinError(
            "This folder holds no picture of the set.", expected=f"{folders[0]}/*.png or .jpg", where=place.root,
            next_step=f"eosin exams show {origin['source']}   says how the folder looks",
        )  # fmt: skip
    for path in paths:
        own, told = f"{origin['source']}/{path.stem}", class_of(path.stem)
        if isinstance(told, Dropped):
            yield Dropped(own, told.reason, told.detail, STEP)
            continue
        words, slide = told
        yield Draft(
            id=own, question=question, options=tuple(classes), answer=words,
            pictures=(partial(place.picture, path.relative_to(place.root).as_posix()),),
            origin=origin | ({"slide": slide} if slide else {}), more={"label": words},
        )  # fmt: skip


def _pictures(root: Path, name: str) -> list[Path]:
    folder = inside(root, name) if name else root
    if folder is None or not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())


WSSS4LUAD_EXAM = Exam(
    WSSS4LUAD_CARD,
    partial(
        read_named, folders=("1.training", "WSSS4LUAD/1.training", "training", "WSSS4LUAD/training", ""),
        classes=_TISSUES, class_of=lung_class, question="Which tissue does this tile show?",
        origin={"source": "wsss4luad", "organ": "lung", "stain": "H&E", "licence": "unknown"},
    ),
    prompt="letter",
)  # fmt: skip
BMT_EXAM = Exam(
    BMT_CARD,
    partial(
        read_named, folders=(_BMT_FOLDER, ""), classes=tuple(_SMEARS.values()), class_of=smear_class,
        question="Which class of the Bethesda system does this smear show?",
        origin={"source": "bmt", "organ": "cervix", "stain": "Papanicolaou", "licence": "unknown"},
    ),
    prompt="letter",
)  # fmt: skip
