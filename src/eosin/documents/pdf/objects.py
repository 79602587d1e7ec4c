"""Pictures and drawings of a PDF page, also those inside its forms, with what their clips leave of them."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from eosin.documents.page.boxes import Box, around
from eosin.documents.page.page import Picture
from eosin.documents.pdf.frame import IDENTITY, Frame, Matrix, combined, moved

MAX_DEPTH = 6
MAX_OBJECTS = 300_000
MIN_SIDE_PT = 3.0
_SHARE_OF_PAGE = 0.9


@dataclass(frozen=True)
class Placed:
    """A page object with the matrix that takes its own coordinates to the page's."""

    object: Any
    matrix: Matrix
    depth: int


def placed_objects(page: Any, raw: Any) -> Iterator[Placed]:
    """All objects of a page but the forms, whose content is walked instead: at most 300,000, six forms deep."""
    left = [MAX_OBJECTS]

    def walk(parent: Any, count: Any, get: Any, matrix: Matrix, depth: int) -> Iterator[Placed]:
        for i in range(count(parent)):
            if left[0] <= 0:
                return
            left[0] -= 1
            found = get(parent, i)
            if not found:
                continue
            if raw.FPDFPageObj_GetType(found) == raw.FPDF_PAGEOBJ_FORM:
                if depth < MAX_DEPTH:
                    inner = combined(_matrix(found, raw), matrix)
                    yield from walk(found, raw.FPDFFormObj_CountObjects, raw.FPDFFormObj_GetObject, inner, depth + 1)
            else:
                yield Placed(found, matrix, depth)

    yield from walk(page, raw.FPDFPage_CountObjects, raw.FPDFPage_GetObject, IDENTITY, 0)


def pictures_of(placed: list[Placed], raw: Any, frame: Frame) -> list[tuple[Picture, Placed]]:
    """Rasters that can be seen, in the order they are painted."""
    found: list[tuple[Picture, Placed]] = []
    page = Box(0.0, 0.0, *frame.size)
    for item in placed:
        if raw.FPDFPageObj_GetType(item.object) != raw.FPDF_PAGEOBJ_IMAGE:
            continue
        matrix = combined(_matrix(item.object, raw), item.matrix)
        corners = [frame.point(x, y) for x, y in moved([(0, 0), (1, 0), (1, 1), (0, 1)], matrix)]
        whole = around(Box(x, y, x, y) for x, y in corners)
        seen = _seen(whole, item, raw, frame, page)
        if seen is None or min(seen.width, seen.height) < MIN_SIDE_PT:
            continue
        wide, high = ctypes.c_uint(), ctypes.c_uint()
        if not raw.FPDFImageObj_GetImagePixelSize(item.object, wide, high):
            continue
        clipped = seen.area < 0.985 * whole.area
        upright = abs(matrix[1]) < 1e-3 * abs(matrix[0]) and abs(matrix[2]) < 1e-3 * abs(matrix[3])
        upright = upright and matrix[0] > 0 and matrix[3] > 0 and frame.turn == 0
        found.append((Picture(len(found), seen, (wide.value, high.value), clipped, upright), item))
    return found


def drawings_of(placed: list[Placed], raw: Any, frame: Frame) -> tuple[Box, ...]:
    """Boxes of painted paths and shadings that are neither white nor a background of the page."""
    page = Box(0.0, 0.0, *frame.size)
    found: list[Box] = []
    for item in placed:
        kind = raw.FPDFPageObj_GetType(item.object)
        if kind not in (raw.FPDF_PAGEOBJ_PATH, raw.FPDF_PAGEOBJ_SHADING):
            continue
        if kind == raw.FPDF_PAGEOBJ_PATH and not _is_painted(item.object, raw):
            continue
        box = _bounds(item, raw, frame)
        seen = _seen(box, item, raw, frame, page) if box is not None else None
        if seen is not None and seen.area < _SHARE_OF_PAGE * page.area:
            found.append(seen)
    return tuple(found)


def _matrix(found: Any, raw: Any) -> Matrix:
    m = raw.FS_MATRIX()
    if not raw.FPDFPageObj_GetMatrix(found, m):
        return IDENTITY
    return m.a, m.b, m.c, m.d, m.e, m.f


def _bounds(item: Placed, raw: Any, frame: Frame) -> Box | None:
    left, bottom, right, top = (ctypes.c_float() for _ in range(4))
    if not raw.FPDFPageObj_GetBounds(item.object, left, bottom, right, top):
        return None
    corners = [
        (left.value, bottom.value),
        (right.value, bottom.value),
        (right.value, top.value),
        (left.value, top.value),
    ]
    return _framed(corners, item.matrix, frame)


def _framed(points: list[tuple[float, float]], matrix: Matrix, frame: Frame) -> Box:
    return around(Box(x, y, x, y) for x, y in (frame.point(*p) for p in moved(points, matrix)))


def _seen(box: Box, item: Placed, raw: Any, frame: Frame, page: Box) -> Box | None:
    """What page and clip leave of a box. A line has no area, and is given a hair's."""
    if box.width < 0.1 or box.height < 0.1:
        box = Box(box.x0 - 0.05, box.y0 - 0.05, box.x1 + 0.05, box.y1 + 0.05)
    seen = box.meet(page)
    clip = _clip(item, raw, frame)
    return seen.meet(clip) if seen is not None and clip is not None else seen


def _clip(item: Placed, raw: Any, frame: Frame) -> Box | None:
    """Box of the path that clips an object; None where nothing does."""
    path = raw.FPDFPageObj_GetClipPath(item.object)
    if not path:
        return None
    result: Box | None = None
    x, y = ctypes.c_float(), ctypes.c_float()
    for i in range(min(max(raw.FPDFClipPath_CountPaths(path), 0), 32)):
        points = []
        for k in range(min(max(raw.FPDFClipPath_CountPathSegments(path, i), 0), 500)):
            segment = raw.FPDFClipPath_GetPathSegment(path, i, k)
            if segment and raw.FPDFPathSegment_GetPoint(segment, x, y):
                points.append((x.value, y.value))
        if len(points) > 2:
            box = _framed(points, item.matrix, frame)
            result = box if result is None else (result.meet(box) or Box(box.x0, box.y0, box.x0, box.y0))
    return result


def _is_painted(found: Any, raw: Any) -> bool:
    """Whether a path leaves a trace that is not white."""
    mode, stroke = ctypes.c_int(), ctypes.c_int()
    if not raw.FPDFPath_GetDrawMode(found, mode, stroke):
        return True
    filled = mode.value != 0 and _is_coloured(found, raw.FPDFPageObj_GetFillColor)
    return filled or (stroke.value != 0 and _is_coloured(found, raw.FPDFPageObj_GetStrokeColor))


def _is_coloured(found: Any, get: Any) -> bool:
    r, g, b, a = (ctypes.c_uint() for _ in range(4))
    if not get(found, r, g, b, a):
        return True
    return a.value > 8 and min(r.value, g.value, b.value) < 250
