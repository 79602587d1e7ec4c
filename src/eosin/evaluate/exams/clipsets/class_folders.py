"""Sets with a folder a class: LC-Lung and LC-Colon (LC25000), and NCT-CRC."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from eosin.core.errors import EosinError
from eosin.core.nouns.outcome import Dropped
from eosin.core.store.names import inside
from eosin.evaluate.exams.card import ExamCard, Figure
from eosin.evaluate.exams.exam import Asked, Exam
from eosin.evaluate.exams.reading.drafts import STEP, Draft
from eosin.evaluate.exams.reading.place import Place

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff"})
_QUESTION = "Which tissue does this tile show?"
_LUNG = {
    "lung_aca": "lung adenocarcinoma", "lung_n": "benign lung tissue", "lung_scc": "lung squamous cell carcinoma",
}  # fmt: skip
_COLON = {"colon_aca": "colon adenocarcinoma", "colon_n": "benign colonic tissue"}
_CRC = {
    "ADI": "adipose tissue", "BACK": "background", "DEB": "debris", "LYM": "lymphocytes", "MUC": "mucus",
    "MUS": "smooth muscle", "NORM": "normal colon mucosa", "STR": "cancer-associated stroma",
    "TUM": "colorectal adenocarcinoma epithelium",
}  # fmt: skip
_CRC_FOLDERS = {"test": "CRC-VAL-HE-7K", "train": "NCT-CRC-HE-100K", "train-nonorm": "NCT-CRC-HE-100K-NONORM"}
_LC_GET = ("Fetch LC25000 of the homepage and unpack it; ROOT is the folder lung_colon_image_set, or one above it.",)
_LC_FAULTS = (
    "Every picture is one of many of the same original, turned and flipped. A random split puts "
    "copies of one original on both sides; few-shot figures on it say little.",
    "It does not say which pictures are of one original, nor of one patient: intervals treat pictures as independent, "
    "and are too narrow.",
)


def five_set_mean() -> Figure:
    """What Patho-R1 tells of five sets together; it is nobody's figure of one of them."""
    return Figure(
        model="Patho-CLIP", value=76.14, on="zero-shot, mean over LC-Lung, LC-Colon, WSSS4LUAD, SICAPv2 and BMT",
        metric="zero-shot mean %", source="Patho-R1 (arXiv 2505.11404), see docs/patho-clip.md",
    )  # fmt: skip


def _lc_card(name: str, title: str, folder: str, classes: Mapping[str, str]) -> ExamCard:
    return ExamCard(
        name=name, title=title, kind="closed", domain="H&E tiles, 768 px",
        homepage="https://github.com/tampapath/lung_colon_image_set", version="LC25000, 2019", licence="unknown",
        citation="Borkowski et al., LC25000, arXiv 1912.12142", get=_LC_GET,
        layout=f"{folder}/{{{', '.join(classes)}}}/*.jpeg below ROOT or ROOT/lung_colon_image_set",
        layout_source="arXiv 1912.12142 and public readers of it",
        counts={"": {"test": 5000 * len(classes)}}, counts_source="arXiv 1912.12142: 5,000 pictures a class",
        split_rule="None published. Zero-shot takes all of it.", faults=_LC_FAULTS,
        overlaps=("It is in the training sets of several pathology models.",), figures=(five_set_mean(),),
    )  # fmt: skip


CRC_CARD = ExamCard(
    name="nct-crc",
    title="NCT-CRC: nine tissue classes of colorectal H&E",
    kind="closed",
    domain="H&E tiles, 224 px at 0.5 um/px",
    homepage="https://doi.org/10.5281/zenodo.1214456",
    version="2018",
    licence="CC-BY-4.0",
    citation="Kather et al., PLOS Medicine 16, e1002730 (2019)",
    get=("Fetch CRC-VAL-HE-7K.zip (and NCT-CRC-HE-100K.zip for training) of the homepage and unpack them in ROOT.",),
    layout="ROOT/CRC-VAL-HE-7K/{ADI, BACK, DEB, LYM, MUC, MUS, NORM, STR, TUM}/*.tif; the same below "
    "ROOT/NCT-CRC-HE-100K and ROOT/NCT-CRC-HE-100K-NONORM",
    layout_source="description of the set on Zenodo",
    counts={"": {"test": 7180, "train": 100_000, "train-nonorm": 100_000}},
    counts_source="description of the set on Zenodo",
    split_rule="CRC-VAL-HE-7K is of 50 patients who are not in NCT-CRC-HE-100K.",
    split_unit="patient",
    faults=(
        "Which tiles are of one patient is not published: intervals treat tiles as independent, and are too narrow.",
        "Colours of NCT-CRC-HE-100K are normalised, and both sets hold traces of JPEG compression that differ by class "
        "(Ignatov and Malivenko, arXiv 2409.11546): colour and compression alone go far.",
    ),
    overlaps=("NCT-CRC-HE-100K is in the training sets of many patch encoders; Kather 2016 is of the same group.",),
)


def read_folders(asked: Asked, folders: Mapping[str, tuple[str, ...]], classes: Mapping[str, str],
                 origin: Mapping[str, str]) -> Iterator[Draft | Dropped]:  # fmt: skip
    """Pictures below the first of a split's folders that is there; a class without a folder is set aside.

    Args:
        folders: by split, in the order in which they are looked for. classes: name of a folder -> words of its class.
    """
    place = Place(asked.folder(), folders=("",), archives=())
    home = next((p for n in folders[asked.split] if (p := _folder(place.root, n, classes)) is not None), None)
    if home is None:
        raise EosinError(
            "This folder holds no folder of a class.", expected=f"{folders[asked.split][0]}/{next(iter(classes))}",
            where=place.root, next_step="eosin exams show NAME   says how the folder looks",
        )  # fmt: skip
    for name, words in classes.items():
        found = sorted(p for p in (home / name).glob("*") if p.suffix.lower() in SUFFIXES)
        if not found:
            yield Dropped(f"{home.name}/{name}", "class without a picture", str(home / name)[:200], STEP)
        for path in found:
            at = path.relative_to(place.root).as_posix()
            yield Draft(
                id=f"{origin['source']}/{name}/{path.stem}", question=_QUESTION, options=tuple(classes.values()),
                answer=words, pictures=(partial(place.picture, at),), origin=origin, extra={"subset": words},
                more={"label": words},
            )  # fmt: skip


def _folder(root: Path, name: str, classes: Mapping[str, str]) -> Path | None:
    path = inside(root, name) if name else root
    return path if path is not None and any((path / c).is_dir() for c in classes) else None


def _lc(name: str, folder: str, classes: Mapping[str, str], title: str, organ: str) -> Exam:
    folders = {"test": (folder, f"lung_colon_image_set/{folder}", "")}
    origin = {"source": "lc25000", "organ": organ, "stain": "H&E", "licence": "unknown"}
    read = partial(read_folders, folders=folders, classes=classes, origin=origin)
    return Exam(_lc_card(name, title, folder, classes), read, prompt="letter")


LC_LUNG_EXAM = _lc("lc-lung", "lung_image_sets", _LUNG, "LC-Lung: three classes of lung H&E (LC25000)", "lung")
LC_COLON_EXAM = _lc("lc-colon", "colon_image_sets", _COLON, "LC-Colon: two classes of colon H&E (LC25000)", "colon")
CRC_EXAM = Exam(
    CRC_CARD,
    partial(
        read_folders, folders={split: (name, "") for split, name in _CRC_FOLDERS.items()}, classes=_CRC,
        origin={"source": "nct-crc", "organ": "colon and rectum", "stain": "H&E", "licence": "CC-BY-4.0"},
    ),
    prompt="letter", splits=tuple(_CRC_FOLDERS),
)  # fmt: skip
