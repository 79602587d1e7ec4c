"""Phantom documents as a scanner gives them: every page one picture, a little grey, noisy and soft; no text layer."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from eosin.core.extras import need

DPI = 150


def write_scan(source: Path, path: Path, seed: int) -> None:
    """Write a PDF again with every page as one JPEG of its own size. Boxes of its truth stay as they are.

    Raises:
        MissingExtraError: pypdfium2 or reportlab is not installed.
    """
    pypdfium2, canvas = need("pypdfium2", "documents"), need("reportlab.pdfgen.canvas", "documents")
    picture_of = need("reportlab.lib.utils", "documents").ImageReader
    rng = np.random.default_rng([seed, 83])
    written = canvas.Canvas(str(path), invariant=1)
    document = pypdfium2.PdfDocument(source)
    try:
        for page in document:
            width, height = page.get_size()
            buffer = io.BytesIO()
            _scanned(page.render(scale=DPI / 72).to_pil().convert("RGB"), rng).save(buffer, "JPEG", quality=88)
            buffer.seek(0)
            written.setPageSize((width, height))
            written.drawImage(picture_of(buffer), 0, 0, width, height)
            written.showPage()
    finally:
        document.close()
    written.save()


def _scanned(page: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Paper that is not quite white, light that is not quite even, lenses that are not quite sharp."""
    soft = np.asarray(page.filter(ImageFilter.GaussianBlur(0.4)), np.float32)
    paper = 1 - rng.uniform(0.005, 0.03, 3).astype(np.float32)
    light = 1 - 0.02 * np.linspace(0, 1, page.width, dtype=np.float32)[None, :, None] * rng.uniform(0, 1)
    noise = rng.normal(0, 2.0, (page.height, page.width, 1)).astype(np.float32)
    return Image.fromarray((soft * paper * light + noise).clip(0, 255).astype(np.uint8))
