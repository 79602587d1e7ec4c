"""Small folders in exactly the published layouts. Every picture is one colour, so that a test sees which one it got."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from eosin.core.images import load_image
from eosin.core.nouns.sample import Sample

RED, GREEN, BLUE, GREY = (220, 20, 20), (20, 200, 40), (30, 40, 210), (128, 128, 128)


def encoded(colour: tuple[int, int, int], form: str = "JPEG", side: int = 32) -> bytes:
    """An encoded picture of one colour."""
    out = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(out, form)
    return out.getvalue()


def put(path: Path, data: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(data, str):
        path.write_text(data, "utf-8")
    else:
        path.write_bytes(data)
    return path


def put_zip(path: Path, members: dict[str, bytes | str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name, data in members.items():
            out.writestr(name, data)
    return path


def put_csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def put_parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Parquet as the hub writes it: an image is {bytes, path}."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def colour_of(sample: Sample, index: int = 0) -> str:
    """Which of the colours above a sample shows."""
    pixel = load_image(sample.images[index]).getpixel((5, 5))
    assert isinstance(pixel, tuple)
    names = {"red": RED, "green": GREEN, "blue": BLUE, "grey": GREY}
    return min(names, key=lambda n: sum(abs(a - b) for a, b in zip(pixel[:3], names[n], strict=True)))


def pathmmu_row(number: int, img: str, answer: str = "B) adenoma", **more: Any) -> dict[str, Any]:
    return {
        "No": number, "img": img, "question": f"What is seen, {number}?",
        "options": ["A) normal mucosa", "B) adenoma", "C) CD20(+) cells", "D) carcinoma"], "answer": answer,
        "explanation": "Glands are crowded. Nuclei are long.", **more,
    }  # fmt: skip


def pathmmu(root: Path) -> Path:
    """data.json, two pictures in images/, one in images.zip."""
    data = {
        "PubMed": {
            "val": [pathmmu_row(1, "a.jpg")],
            "test_tiny": [pathmmu_row(1, "a.jpg"), pathmmu_row(2, "b.png", "C) CD20(+) cells")],
            "test": [pathmmu_row(3, "c.jpg", "A) normal mucosa")],
        },
        "Atlas": {"test_tiny": [pathmmu_row(1, "a.jpg", "D) carcinoma", source_img="x/y.png")]},
    }
    put(root / "data.json", json.dumps(data))
    put(root / "images" / "a.jpg", encoded(RED))
    put(root / "images" / "b.png", encoded(GREEN, "PNG"))
    put_zip(root / "images.zip", {"images/c.jpg": encoded(BLUE)})
    return root


def omnimedvqa(root: Path, *, packed: bool) -> Path:
    """Two question files and their pictures, unpacked or in OmniMedVQA.zip."""
    rows = [
        {
            "dataset": "Chest CT Scan", "question_id": "ct_1", "question_type": "Disease Diagnosis",
            "question": "Which abnormality is seen?", "gt_answer": "Adenocarcinoma",
            "image_path": "Images/Chest CT Scan/test/1.png", "option_A": "Normal", "option_B": "Adenocarcinoma",
            "option_C": "Squamous cell carcinoma", "modality_type": "CT(Computed Tomography)",
        },
        {
            "dataset": "Chest CT Scan", "question_id": "ct_2", "question_type": "Modality Recognition",
            "question": "Which modality?", "gt_answer": "MRI of the heart",
            "image_path": "Images/Chest CT Scan/test/1.png",
            "option_A": "CT", "option_B": "MRI", "modality_type": "CT(Computed Tomography)",
        },
    ]  # fmt: skip
    oct_rows = [
        {
            "dataset": "Retinal OCT-C8", "question_id": "oct_1", "question_type": "Disease Diagnosis",
            "question": "What is shown?", "gt_answer": "Drusen", "image_path": "Images/Retinal OCT-C8/test/2.jpg",
            "option_A": "Drusen", "option_B": "Normal", "option_C": "Macular hole", "option_D": "CNV",
            "modality_type": "OCT (Optical Coherence Tomography",
        }
    ]  # fmt: skip
    files: dict[str, bytes | str] = {
        "OmniMedVQA/QA_information/Open-access/Chest CT Scan.json": json.dumps(rows),
        "OmniMedVQA/QA_information/Open-access/Retinal OCT-C8.json": json.dumps(oct_rows),
        "OmniMedVQA/Images/Chest CT Scan/test/1.png": encoded(GREY, "PNG"),
        "OmniMedVQA/Images/Retinal OCT-C8/test/2.jpg": encoded(BLUE),
    }
    if packed:
        put_zip(root / "OmniMedVQA.zip", files)
    else:
        for name, data in files.items():
            put(root / name, data)
    return root
