"""What a file is, by its first bytes."""

from __future__ import annotations

TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
IMAGE_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"BM", b"RIFF", b"GIF8", b"\0\0\0\x0cjP")


def is_tiff(magic: bytes) -> bool:
    """Whether a file begins as TIFF or BigTIFF does."""
    return magic[:4] in TIFF_MAGIC


def is_dicom(magic: bytes) -> bool:
    """Whether a file begins as DICOM does."""
    return magic[128:132] == b"DICM"


def is_image(magic: bytes) -> bool:
    """Whether a file begins as a plain picture does: PNG, JPEG, BMP, WebP, GIF, JPEG 2000."""
    return magic.startswith(IMAGE_MAGIC)
