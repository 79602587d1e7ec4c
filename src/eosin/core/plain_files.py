"""Image files that can be handed on as they are: what a reader sees in them is the picture alone.

A file that Eosin decoded is made into PNG before it leaves, so that nothing but pixels leaves with it. That costs more
than all else of a question, and is not needed for a PNG or JPEG that holds nothing but pixels: no EXIF, comment, text,
profile or second picture (any of which may name a patient), one frame, eight bits, grey or RGB, upright, opaque.
"""

from __future__ import annotations

import re

MAX_PLAIN_BYTES = 16 * 2**20
"""Servers refuse larger bodies."""

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_CHUNKS = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND", b"pHYs", b"sRGB"})
_GREY, _RGB, _PALETTE = 0, 2, 3
_JPEG = b"\xff\xd8"
_TABLES = frozenset({0xC4, 0xDB, 0xDD})
_FRAMES = frozenset({0xC0, 0xC1, 0xC2})
_JFIF, _SCAN = 0xE0, 0xDA
# Inside a scan FF is followed by 00 or a restart. Another marker there is the next scan, its tables, or the end.
_IN_SCANS = re.compile(rb"\xff+([^\x00\xd0-\xd7\xff])")
_BETWEEN_SCANS = frozenset({0xC4, 0xDA, 0xD9})


def is_plain(data: bytes) -> bool:
    """Whether a whole image file that decodes holds nothing but the picture. In doubt it does not."""
    if len(data) > MAX_PLAIN_BYTES:
        return False
    return _is_plain_png(data) if data.startswith(_PNG) else data.startswith(_JPEG) and _is_plain_jpeg(data)


def _is_plain_png(data: bytes) -> bool:
    """Eight bits, grey, RGB or a palette; no transparency, text, time, EXIF, profile or frames; nothing after its end.

    The layout is that of the PNG specification: length, name, data, check sum.
    """
    if data[24:26] not in (bytes((8, _GREY)), bytes((8, _RGB)), bytes((8, _PALETTE))):
        return False
    place = len(_PNG)
    while place + 12 <= len(data):
        name = data[place + 4 : place + 8]
        if name not in _PNG_CHUNKS:
            return False
        place += 12 + int.from_bytes(data[place : place + 4], "big")
        if name == b"IEND":
            return place == len(data)
    return False


def _is_plain_jpeg(data: bytes) -> bool:
    """Eight bits, one or three components; no segment but JFIF, tables, frame and scans; nothing after its end.

    An Adobe segment may say that the components are RGB and not YCbCr, which not all readers heed: it is not plain.
    """
    place = len(_JPEG)
    while place + 4 <= len(data):
        marker, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4], "big")
        if data[place] != 0xFF or length < 2:
            return False
        if marker == _SCAN:
            found = list(_IN_SCANS.finditer(data, place + 2 + length))
            kinds = [m.group(1)[0] for m in found]
            ends = bool(found) and kinds[-1] == 0xD9 and found[-1].end() == len(data)
            return ends and kinds.count(0xD9) == 1 and _BETWEEN_SCANS.issuperset(kinds)
        if marker in _FRAMES:
            if data[place + 4] != 8 or data[place + 9] not in (1, 3):
                return False
        elif marker == _JFIF:
            if length != 16 or data[place + 4 : place + 9] != b"JFIF\0":  # longer: it holds a thumbnail
                return False
        elif marker not in _TABLES:
            return False
        place += 2 + length
    return False
