"""Which files belong to a data set: those below its own folder, and below folders that the recipe allows."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from eosin.core.nouns.outcome import Dropped, Filtered, Kept, filtered
from eosin.core.nouns.sample import ImageFile, Sample, SlideBag, SlideRegion
from eosin.core.store.names import inside_any

OUTSIDE = "image outside the data's folder"
_MISSING = {"", "nan", "n/a", "na", "#n/a", "<na>", "null", "-", "--", "?"}


def is_missing(cell: str) -> bool:
    """Whether a cell of a table says that nothing is known: empty, NaN, N/A, NA, null, a dash, a question mark."""
    return cell.strip().casefold() in _MISSING


def outside_detail(name: str) -> str:
    """What a user can do about a file that is refused."""
    return f"{name}; name its folder in data.image_folders"


def walk(root: Path, folders: Sequence[str] = ()) -> Iterator[tuple[str, bool]]:
    """Names of files below root with forward slashes, sorted, and whether each belongs to the data.

    Hidden files and folders are no part of a data set. A link to a folder above is not followed. A link out of the
    data is named, as one that does not belong, and not followed, unless it leads into one of `folders`.
    """
    for folder, subfolders, files in os.walk(root, followlinks=True):
        above = {Path(folder).resolve(), *Path(folder).resolve().parents}
        below = Path(folder).relative_to(root)
        followed = []
        for name in sorted(f for f in subfolders if not f.startswith(".")):
            path = Path(folder, name)
            if path.is_symlink() and path.resolve() in above:
                continue
            if path.is_symlink() and inside_any(root, (below / name).as_posix(), folders) is None:
                yield (below / name).as_posix(), False
            else:
                followed.append(name)
        subfolders[:] = followed
        for name in sorted(f for f in files if not f.startswith(".")):
            told = (below / name).as_posix()
            yield told, _belongs(root, Path(folder), told, folders)


def _belongs(root: Path, folder: Path, told: str, folders: Sequence[str]) -> bool:
    """A file that is no link lies where its folder lies, which was looked at already."""
    return not (folder / Path(told).name).is_symlink() or inside_any(root, told, folders) is not None


def keep_inside(samples: Filtered[Sample], base: Path, folders: Sequence[str]) -> Filtered[Sample]:
    """Set aside samples whose pictures or slides lie outside of the data's folder and of the allowed ones."""
    checked = filtered(kept_inside(s, base, folders) for s in samples.kept)
    return Filtered(checked.kept, (*samples.dropped, *checked.dropped))


def kept_inside(sample: Sample, base: Path, folders: Sequence[str]) -> Kept[Sample] | Dropped:
    """One sample, kept where its pictures and slides lie in the data's folder or in an allowed one."""
    for path in _paths(sample):
        if inside_any(base, os.path.abspath(path), folders) is None:
            return Dropped(sample.id, OUTSIDE, outside_detail(path), "source")
    return Kept(sample)


def _paths(sample: Sample) -> Iterator[str]:
    for ref in sample.images:
        if isinstance(ref, ImageFile | SlideRegion):
            yield ref.path
        elif isinstance(ref, SlideBag):
            yield from (p for p in (ref.path, ref.slide, ref.clusters) if p is not None)
