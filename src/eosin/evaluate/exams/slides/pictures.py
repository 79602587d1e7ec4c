"""What a model is shown of a slide: its patch features, a thumbnail, or the slide itself as one small picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from eosin.core.errors import EosinError
from eosin.core.formats.rows import BadRowError
from eosin.core.nouns.sample import ImageFile, ImageRef, SlideRegion
from eosin.core.nouns.units import BoxLevel0
from eosin.core.settings.data import SlidesData
from eosin.core.store.names import inside
from eosin.slides.open.find import SUFFIXES as SLIDE_SUFFIXES
from eosin.sources.files import walk
from eosin.sources.slide_bags import Bags, slide_name, units_of

THUMBNAIL_PX = 1024
_PICTURES = (".png", ".jpg", ".jpeg", ".webp")
_FOLDERS = ("thumbnails", "images", "")


@dataclass
class SlidePictures:
    """Finds what stands for a slide below `root`: feature files first, then thumbnails, then slide files.

    Attributes:
        bags: feature files by slide; None where the folder holds none.
        slides: slide files by name.
    """

    root: Path
    bags: Bags | None
    slides: dict[str, list[Path]] = field(default_factory=dict)

    @classmethod
    def of(cls, root: Path) -> SlidePictures:
        """Look through a folder once."""
        try:
            bags: Bags | None = Bags(SlidesData(root=str(root), manifest="-"), root, root / "-")
        except EosinError:
            bags = None
        slides: dict[str, list[Path]] = {}
        for name, belongs in walk(root):
            path = root / name
            if belongs and path.suffix.lower() in SLIDE_SUFFIXES:
                slides.setdefault(slide_name(path.name), []).append(path)
        return cls(root, bags, slides)

    def picture(self, told: str) -> tuple[Callable[[], ImageRef], dict[str, str]]:
        """What finds the picture of a slide, and the units that its name tells."""
        return lambda: self._find(told), units_of(slide_name(told.strip().replace("\\", "/")))

    def _find(self, told: str) -> ImageRef:
        told = told.strip().replace("\\", "/")
        if not told:
            raise BadRowError("no slide named")
        if inside(self.root, told) is None:
            raise BadRowError("slide outside the exam's folder", told[:200])
        name = slide_name(told)
        if self.bags is not None:
            found = self.bags.find(told)
            if not isinstance(found, tuple):
                return found.bag
        for folder in _FOLDERS:
            for suffix in _PICTURES:
                path = inside(self.root, f"{folder}/{name}{suffix}" if folder else f"{name}{suffix}")
                if path is not None and path.is_file():
                    return ImageFile(path=str(path))
        files = self.slides.get(name, [])
        if len(files) == 1:
            return whole_slide(files[0])
        raise BadRowError("several files of this slide" if files else "slide missing", told[:200])


def whole_slide(path: Path, side_px: int = THUMBNAIL_PX) -> SlideRegion:
    """The whole slide as one picture whose longer side has `side_px` pixels.

    Raises:
        BadRowError: it cannot be opened, or does not tell its microns per pixel.
    """
    from eosin.slides.open.slide import open_slide

    try:
        with open_slide(path) as slide:
            width, height = slide.size_px
            mpp = slide.mpp if slide.has_mpp else None
    except EosinError as exc:
        raise BadRowError("slide cannot be opened", f"{path.name}: {exc.message}"[:200]) from None
    if mpp is None:
        raise BadRowError("slide without microns per pixel", path.name)
    scale = max(1.0, max(width, height) / side_px)
    return SlideRegion(path=str(path), box=BoxLevel0(x0=0, y0=0, x1=width, y1=height), mpp=mpp * scale)
