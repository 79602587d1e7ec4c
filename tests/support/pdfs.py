"""Small PDFs written by hand, object by object: pictures in every colour space, pages that lie, forms in themselves."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

WORDS = "Running text of the body that goes on about glands and their nuclei at some length, sentence after sentence."


def stream(data: bytes, entries: str = "") -> bytes:
    """A stream object, packed."""
    packed = zlib.compress(data)
    return f"<< /Length {len(packed)} /Filter /FlateDecode {entries} >>\nstream\n".encode() + packed + b"\nendstream"


def image(data: bytes, width: int, height: int, space: str = "/DeviceRGB", bits: int = 8, more: str = "") -> bytes:
    """A picture object with packed pixels."""
    return stream(
        data,
        f"/Type /XObject /Subtype /Image /Width {width} /Height {height} /ColorSpace {space} "
        f"/BitsPerComponent {bits} {more}",
    )


def text(x: float, y: float, lines: Sequence[str], size: float = 10.0, lead: float = 12.0) -> str:
    """Operators that write lines from (x, y) downwards, in points from the bottom left."""
    parts = [f"BT /F1 {size} Tf {lead} TL {x} {y} Td"]
    parts += [f"({line}) Tj T*" for line in lines]
    return " ".join(parts) + " ET\n"


def placed(name: str, x: float, y: float, width: float, height: float) -> str:
    """Operators that paint a picture."""
    return f"q {width} 0 0 {height} {x} {y} cm /{name} Do Q\n"


def write_pdf(
    path: Path, content: str, pictures: dict[str, bytes], *, extra: Sequence[bytes] = (), page: str = "", pages: int = 1
) -> Path:
    """Write a PDF of one page, or of the same page several times.

    Args:
        pictures: name -> object; they are objects 6 and following, in order. extra: further objects after them.
        page: further entries of the page, such as /Rotate 90.
    """
    names = " ".join(f"/{n} {6 + i} 0 R" for i, n in enumerate(pictures))
    kids = " ".join("3 0 R" for _ in range(pages))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {pages} >>".encode(),
        f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R {page} "
        f"/Resources << /Font << /F1 5 0 R >> /XObject << {names} >> >> >>".encode(),
        stream(content.encode("latin-1")),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        *pictures.values(),
        *extra,
    ]
    out = bytearray(b"%PDF-1.7\n")
    places = []
    for i, body in enumerate(objects, 1):
        places.append(len(out))
        out += f"{i} 0 obj\n".encode() + body + b"\nendobj\n"
    start = len(out)
    out += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    out += b"".join(f"{p:010d} 00000 n \n".encode() for p in places)
    out += f"trailer << /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n".encode()
    path.write_bytes(bytes(out))
    return path


def tissue(width: int = 60, height: int = 40, seed: int = 0) -> NDArray[np.uint8]:
    """(H, W, 3) noise in the colours of a stain, for pictures whose pixels are compared."""
    rng = np.random.default_rng(seed)
    base = np.array([200, 120, 180]) + rng.integers(-40, 40, (height, width, 3))
    return base.clip(0, 255).astype(np.uint8)


def one_figure(path: Path, picture: bytes, **more: object) -> Path:
    """A page with running text, one picture of 240 x 160 pt and its caption below."""
    content = text(72, 780, [WORDS] * 6, lead=12) + placed("Im0", 100, 480, 240, 160)
    content += text(100, 462, ["Figure 1. A gland with nuclei at its base.", "The lumen is empty."])
    content += text(72, 400, [WORDS, "As shown in Fig. 1, glands have lumina. " + WORDS])
    return write_pdf(path, content, {"Im0": picture}, **more)  # type: ignore[arg-type]
