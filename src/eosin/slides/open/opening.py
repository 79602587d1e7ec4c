"""Which reader opens a file. The first that knows it; a file that nobody knows is refused with the true reason."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from eosin.core.errors import MissingExtraError
from eosin.slides.open.backends.base import Backend, SlideError
from eosin.slides.open.colours import PixelOptions
from eosin.slides.open.find import series_of
from eosin.slides.open.magic import is_dicom, is_image, is_tiff
from eosin.slides.open.tiff_check import check_declared

READERS = ("openslide", "tifffile", "wsidicom", "image")
_PACKAGES = {"openslide": "openslide-python", "tifffile": "tifffile", "cv2": "opencv-python-headless"}


def open_backend(path: Path, reader: str | None = None, options: PixelOptions | None = None) -> Backend:
    """Open a file with the asked reader, or with the first that can.

    A reader that knows the format and fails is followed by the next: "damaged" is said where all of them say so.

    Raises:
        SlideError: the message is a short fixed reason.
    """
    if reader is not None and reader not in READERS:
        raise SlideError("no such reader", expected=", ".join(READERS), found=reader)
    file, magic = checked_file(path)
    for package, name in _PACKAGES.items():
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(name, "slides")
    if is_tiff(magic):
        check_declared(file)
    faults: list[SlideError] = []
    for name in [reader] if reader else READERS:
        try:
            backend = _try_reader(name, file, path, magic, options, asked=reader is not None)
        except SlideError as exc:
            faults.append(exc)
            continue
        if backend is not None:
            return backend
    if faults:
        raise _most_telling(faults)
    raise SlideError("not a slide", expected="a whole-slide image, TIFF, DICOM or picture",
                     found=f"a file that begins with {magic[:8]!r}", where=path)  # fmt: skip


def _most_telling(faults: list[SlideError]) -> SlideError:
    """What is said where no reader could: the last that is more than damage, else all that was found."""
    telling = [f for f in faults if f.message != "slide damaged"]
    if telling:
        return telling[-1]
    first = faults[0]
    first.found = "; ".join(dict.fromkeys(str(f.found) for f in faults))[:300]
    return first


def checked_file(path: Path) -> tuple[Path, bytes]:
    """The file to open and its first 132 bytes. A folder of DICOM files stands for its first file."""
    try:
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() == ".dcm" and p.is_file())
            if not inside:
                raise SlideError("slide path is a folder", where=path)
            if len({series_of(p) for p in inside}) > 1:
                raise SlideError("folder holds more than one slide", expected="the files of one DICOM series",
                                 where=path)  # fmt: skip
            path = inside[0]
        if not path.exists():
            loop = path.is_symlink()
            raise SlideError("slide link leads nowhere" if loop else "slide file missing", where=path)
        if not path.is_file():
            raise SlideError("not a regular file", where=path)
        with path.open("rb") as handle:
            magic = handle.read(132)
    except PermissionError:
        raise SlideError("slide file not readable", found="permission denied", where=path) from None
    except (OSError, ValueError) as exc:
        looped = getattr(exc, "errno", None) == 40
        reason = "slide link leads nowhere" if looped else "slide file not readable"
        raise SlideError(reason, found=str(exc)[:120], where=str(path)[:300]) from None
    if not magic:
        raise SlideError("slide file empty", where=path)
    return path, magic


def _try_reader(
    name: str, file: Path, path: Path, magic: bytes, options: PixelOptions | None, *, asked: bool
) -> Backend | None:
    """An open file; None where this reader does not know the format."""
    if name == "openslide":
        from eosin.slides.open.backends.openslide_backend import open_openslide

        return open_openslide(file, path, magic, asked=asked)
    if name == "tifffile":
        if not is_tiff(magic) and not asked:
            return None
        from eosin.slides.open.backends.tifffile_backend import TiffBackend

        return TiffBackend(file, options)
    if name == "wsidicom":
        if not is_dicom(magic) and not asked:
            return None
        from eosin.slides.open.backends.wsidicom_backend import DicomBackend

        return DicomBackend(path)
    if not is_image(magic) and not asked:
        return None
    from eosin.slides.open.backends.image_backend import ImageBackend

    return ImageBackend(file)
