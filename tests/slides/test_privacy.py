"""Names, dates and label images are found, and left out of clean copies whose tissue is the same bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

tifffile = pytest.importorskip("tifffile")
pydicom = pytest.importorskip("pydicom")

from tests.support.slide_files import tissue_pixels  # noqa: E402

from eosin.core.errors import EosinError  # noqa: E402
from eosin.core.nouns.outcome import Dropped, Kept  # noqa: E402
from eosin.core.store.artifacts import sha256_file  # noqa: E402
from eosin.slides.open.slide import open_slide  # noqa: E402
from eosin.slides.privacy.find import Trace, is_blank, traces  # noqa: E402
from eosin.slides.privacy.scrub import scrub  # noqa: E402

SECRET = b"Doe"
APERIO = (
    "Aperio Image Library v11.2.1 \r\n512x512 (256x256) JPEG/RGB Q=30|AppMag = 20|Filename = Doe_Jane|Date = 12/29/09"
    "|Time = 09:59:15|User = doe|Title = S19-4711|MPP = 0.4990|Left = 25.6"
)
OME = (
    '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
    '<Experimenter ID="Experimenter:0" FirstName="Jane" LastName="Doe" Email="doe@example.org"/>'
    '<Image ID="Image:0" Name="x"><AcquisitionDate>2019-06-04T10:11:12</AcquisitionDate>'
    "<Description>Slide of Jane Doe</Description>"
    '<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="256" SizeY="256" SizeC="3" SizeZ="1" SizeT="1" '
    'PhysicalSizeX="0.5" PhysicalSizeY="0.5"><Channel ID="Channel:0" SamplesPerPixel="3"/><TiffData/></Pixels></Image>'
    '<StructuredAnnotations><CommentAnnotation ID="Annotation:0"><Value>Doe, 1970</Value></CommentAnnotation>'
    "</StructuredAnnotations></OME>"
)


def _aperio(path: Path, *, bigtiff: bool = False) -> np.ndarray:
    """Tissue, its thumbnail, and a label whose pixels are a pattern that can be looked for."""
    pixels = tissue_pixels(512)
    label = np.tile(np.frombuffer(SECRET * 32, np.uint8), (96, 1))
    with tifffile.TiffWriter(path, bigtiff=bigtiff) as tiff:
        tiff.write(pixels, tile=(256, 256), photometric="rgb", compression="deflate", metadata=None, description=APERIO,
                   datetime="2009:12:29 09:59:15", software=False)  # fmt: skip
        tiff.write(pixels[::4, ::4], photometric="rgb", metadata=None, description=APERIO.replace("(256x256)", "->"))
        tiff.write(label, metadata=None, subfiletype=1, description="Aperio Image Library v11.2.1 \nlabel 96x96")
        tiff.write(label, metadata=None, subfiletype=9, description="Aperio Image Library v11.2.1 \nmacro 96x96")
    return pixels


@pytest.mark.parametrize("bigtiff", [False, True])
def test_aperio(tmp_path: Path, bigtiff: bool) -> None:
    slide = tmp_path / "in" / "Jane Doe 2009-12-29.svs"
    slide.parent.mkdir()
    pixels = _aperio(slide, bigtiff=bigtiff)
    before = sha256_file(slide)
    found = {str(t) for t in traces(slide)}
    assert {"file name: a date", "file name: two words like a name", "label image: label", "label image: macro",
            "header: DateTime", "header: Aperio Filename", "header: Aperio Date",
            "header: Aperio User"} <= found  # fmt: skip
    assert not {t for t in found if "MPP" in t or "AppMag" in t}

    done = scrub(slide, tmp_path / "out")
    assert isinstance(done, Kept), done
    assert traces(done.value) == [] and sha256_file(slide) == before
    data = done.value.read_bytes()
    assert SECRET not in data and b"doe" not in data and b"4711" not in data and b"MPP = 0.4990" in data
    with tifffile.TiffFile(done.value) as tiff:
        assert len(tiff.pages) == 2
        np.testing.assert_array_equal(tiff.pages[0].asarray(), pixels)
    with open_slide(done.value) as opened:
        assert opened.mpp == pytest.approx(0.499) and opened.size_px == (512, 512)
    again = scrub(slide, tmp_path / "out")
    assert again == done and [p.name for p in (tmp_path / "out").iterdir()] == [done.value.name]


def test_ome(tmp_path: Path) -> None:
    slide = tmp_path / "in" / "s.ome.tif"
    slide.parent.mkdir()
    pixels = tissue_pixels(256)
    tifffile.imwrite(slide, pixels, photometric="rgb", tile=(128, 128), description=OME.encode(), metadata=None)
    found = {str(t) for t in traces(slide)}
    assert {"header: OME FirstName", "header: OME LastName", "header: OME Email", "header: OME AcquisitionDate",
            "header: OME descriptions and annotations"} <= found  # fmt: skip
    done = scrub(slide, tmp_path / "out")
    assert isinstance(done, Kept), done
    data = done.value.read_bytes()
    assert not any(word in data for word in (b"Jane", b"Doe", b"doe@", b"2019-06-04", b"1970"))
    with tifffile.TiffFile(done.value) as tiff:
        assert tiff.is_ome and 'PhysicalSizeX="0.5"' in tiff.ome_metadata
        np.testing.assert_array_equal(tiff.pages[0].asarray(), pixels)


def _dicom(path: Path, kinds: list[str], number: int) -> None:
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = pydicom.uid.VLWholeSlideMicroscopyImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = f"1.2.3.{number}"
    data.SOPClassUID = pydicom.uid.VLWholeSlideMicroscopyImageStorage
    data.SeriesInstanceUID, data.ImageType = "1.2.3", kinds
    data.PatientName, data.PatientID, data.StudyDate = "Doe^Jane", "4711", "20190604"
    data.ContainerIdentifier, data.InstitutionName = "S19-4711", "Doe Hospital"
    specimen = pydicom.Dataset()
    specimen.SpecimenIdentifier = "S19-4711-A"
    data.SpecimenDescriptionSequence = [specimen]
    block = data.private_block(0x0009, "Doe Scanner", create=True)
    block.add_new(0x01, "LO", "Doe")
    data.save_as(path, enforce_file_format=True)


def test_dicom(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    _dicom(folder / "a.dcm", ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"], 1)
    _dicom(folder / "b.dcm", ["ORIGINAL", "PRIMARY", "LABEL", "NONE"], 2)
    assert Trace("label image", "ORIGINAL/PRIMARY/LABEL/NONE") in traces(folder / "b.dcm")
    found = {t.what for t in traces(folder / "a.dcm")}
    assert {"PatientName", "PatientID", "StudyDate", "ContainerIdentifier", "InstitutionName", "SpecimenIdentifier",
            "private attributes"} == found  # fmt: skip
    done = scrub(folder / "a.dcm", tmp_path / "out")
    assert isinstance(done, Kept), done
    data = pydicom.dcmread(done.value)  # the label's file was left out, so one file is the slide
    assert data.PatientName == "" and data.ContainerIdentifier == "x" and data.ImageType[2] == "VOLUME"
    assert b"Doe" not in done.value.read_bytes() and traces(done.value) == []
    only = scrub(folder / "b.dcm", tmp_path / "more")
    assert isinstance(only, Kept) and len(list((tmp_path / "more").iterdir())) == 1


def test_what_cannot_be_cleaned_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, reason in (("s.ndpi", "no clean copy"), ("broken.svs", "cannot be read")):
        file = tmp_path / "in" / name
        file.write_bytes(b"II*\0" + b"\xff" * 40)
        done = scrub(file, tmp_path / "out")
        assert isinstance(done, Dropped) and reason in done.reason
    assert list((tmp_path / "out").iterdir()) == []
    with pytest.raises(EosinError, match="never stand beside"):
        scrub(tmp_path / "in" / "broken.svs", tmp_path / "in")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("S17.svs", []), ("CMU-1-Small-Region.svs", []), ("TCGA-AA-3814-01Z-00-DX1.svs", []), ("case_12.tiff", []),
        ("20190604_S1.svs", ["a date"]), ("S1_04.06.2019.svs", ["a date"]), ("12345678.svs", ["a long number"]),
        ("Doe, Jane.svs", ["two words like a name"]), ("s-0123456789ab.svs", []),
    ],
)  # fmt: skip
def test_file_names(tmp_path: Path, name: str, found: list[str]) -> None:
    (tmp_path / name).write_bytes(b"nothing")
    assert [t.what for t in traces(tmp_path / name)] == found


def test_blank() -> None:
    assert is_blank(b"xxx xx\0") and is_blank(b"") and is_blank(b"2000:01:01 00:00:00")
    assert not is_blank(b"2001:01:01 00:00:00") and not is_blank(b"Doe")


def test_a_public_slide_says_when_it_was_scanned() -> None:
    import os

    folder = Path(os.environ.get("EOSIN_SHARED_DATA", "/nowhere"))
    slide = folder / "slides" / "cc0" / "CMU-1-Small-Region.svs"
    if not slide.is_file():
        pytest.skip("real slides are not at hand")
    found = {str(t) for t in traces(slide)}
    assert {"header: Aperio Date", "header: Aperio User", "label image: label", "label image: macro"} <= found
