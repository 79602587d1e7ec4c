"""Names, dates and label images in the headers of slides, and in their file names.

Looked at: tags of TIFF files with Aperio's and OME's descriptions, DICOM attributes, the name of the file. Not looked
at: text that is burnt into the tissue's own pixels; look at the thumbnail for that (docs/privacy.md).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["APERIO_KEPT", "DICOM_BLANK", "OME_PRIVATE", "TEXT_TAGS", "Trace", "is_blank", "traces"]

APERIO_KEPT = {
    "appmag", "mpp", "left", "top", "stripewidth", "linecameraskew", "lineareaxoffset", "lineareayoffset",
    "focus offset", "originalwidth", "originalheight", "icc profile", "gamma", "exposure time",
    "exposure scale", "displaycolor", "filtered", "tilewidth", "tileheight",
}  # fmt: skip
"""Keys of Aperio's description that say how a slide was scanned; whatever else stands there can name somebody."""

TEXT_TAGS = {269: "DocumentName", 285: "PageName", 306: "DateTime", 315: "Artist", 316: "HostComputer",
             33432: "Copyright", 700: "XMP", 33723: "IPTC", 34377: "Photoshop"}  # fmt: skip
OME_PRIVATE = ("FirstName", "MiddleName", "LastName", "UserName", "Email", "Institution", "DisplayName", "FileName")
NEUTRAL_DATE = b"2000-01-01T00:00:00"
_DATE = re.compile(rb"(?<!\d)(19|20)\d\d[-./: ]?(0[1-9]|1[0-2])[-./: ]?(0[1-9]|[12]\d|3[01])(?!\d)"
                   rb"|(?<!\d)(0?[1-9]|[12]\d|3[01])[-./](0?[1-9]|1[0-2])[-./](\d\d|(19|20)\d\d)(?!\d)")  # fmt: skip
_NAMING = re.compile(rb"patient|barcode|accession|physician|birth|operator|@[\w-]+\.\w", re.IGNORECASE)
_LONG_NUMBER = re.compile(r"(?<![0-9A-Fa-f-])\d{6,}(?![0-9A-Fa-f-])")

# DICOM keyword -> what stands there afterwards. Attributes that must hold something get a neutral value.
DICOM_BLANK = {
    **dict.fromkeys((
        "PatientName", "PatientID", "PatientBirthDate", "PatientBirthTime", "PatientSex", "PatientAge",
        "PatientAddress", "PatientTelephoneNumbers", "PatientComments", "OtherPatientIDs", "OtherPatientNames",
        "EthnicGroup", "Occupation",
        "AccessionNumber", "ReferringPhysicianName", "PhysiciansOfRecord", "PerformingPhysicianName", "OperatorsName",
        "NameOfPhysiciansReadingStudy", "RequestingPhysician", "InstitutionName", "InstitutionAddress",
        "InstitutionalDepartmentName", "StationName", "StudyDate", "StudyTime", "SeriesDate", "SeriesTime",
        "AcquisitionDate", "AcquisitionTime", "StudyID", "StudyDescription", "SeriesDescription", "ImageComments",
        "BarcodeValue", "LabelText", "AdmissionID", "DeviceSerialNumber", "RequestedProcedureDescription",
        "PerformedProcedureStepDescription", "InstanceCreationDate", "InstanceCreationTime", "ProtocolName",
        "SpecimenShortDescription", "SpecimenDetailedDescription",
    ), ""),
    "ContentDate": "20000101", "ContentTime": "000000", "AcquisitionDateTime": "20000101000000",
    "ContainerIdentifier": "x", "SpecimenIdentifier": "x",
}  # fmt: skip


@dataclass(frozen=True)
class Trace:
    """One place that can tell who somebody is.

    Attributes:
        where: "file name", "header", "label image" or "DICOM".
        what: the key, tag or attribute; never its value, which would then stand in the report.
    """

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def traces(path: Path) -> list[Trace]:
    """All such places of one file, each once, in their order.

    Raises:
        Exception: whatever the reader of the format raises on a damaged file.
    """
    found = [*_in_name(path.name)]
    head = _head(path)
    if head[128:132] == b"DICM":
        found += _in_dicom(path)
    elif head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        found += _in_tiff(path)
    return list(dict.fromkeys(found))


def is_blank(text: bytes) -> bool:
    """Whether nothing stands there that was written by a person: x, zeros, spaces, a neutral date."""
    plain = re.sub(rb"[\s\0]", b"", text)
    return not plain.strip(b"xX0") or plain.replace(b":", b"-", 2).startswith(b"2000-01-01")


def _head(path: Path) -> bytes:
    if not path.is_file():
        return b""
    with path.open("rb") as handle:
        return handle.read(132)


def _in_name(name: str) -> Iterator[Trace]:
    if re.fullmatch(r"(s-[0-9a-f]{12}|\d\d\d)(\.\w+)+", name):  # names that a clean copy is given
        return
    if _DATE.search(name.encode()):
        yield Trace("file name", "a date")
    elif _LONG_NUMBER.search(name):
        yield Trace("file name", "a long number")
    if re.search(r"[A-Z][a-z]+[ _,]+[A-Z][a-z]+(?![a-z])", Path(name).stem):
        yield Trace("file name", "two words like a name")


def _in_tiff(path: Path) -> Iterator[Trace]:
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        for page in tiff.pages:
            description = _bytes_of(page.tags.get(270))
            kind = associated(description)
            if kind is not None:
                yield Trace("label image", kind)
            for tag in page.tags:
                if tag.code in TEXT_TAGS and not is_blank(_bytes_of(tag)):
                    yield Trace("header", TEXT_TAGS[tag.code])
            yield from in_description(description)


def associated(description: bytes) -> str | None:
    """label or macro, where a page of Aperio is one of them."""
    if not description.startswith(b"Aperio"):
        return None
    found = re.search(rb"[\r\n](label|macro) ", description)
    return found[1].decode() if found else None


def in_description(text: bytes) -> Iterator[Trace]:
    """Traces in an ImageDescription: Aperio's keys, OME's elements, or plain text with dates and names."""
    if text.startswith(b"Aperio"):
        for part in text.split(b"|")[1:]:
            key, _, value = part.partition(b"=")
            if key.strip().decode("latin-1").casefold() not in APERIO_KEPT and not is_blank(value):
                yield Trace("header", f"Aperio {key.strip().decode('latin-1')[:40]}")
    elif b"<OME" in text[:2000]:
        for name in OME_PRIVATE:
            if any(not is_blank(v) for v in re.findall(rb"\s%s=\"([^\"]*)\"" % name.encode(), text)):
                yield Trace("header", f"OME {name}")
        if any(not is_blank(v) for v in re.findall(rb"<(?:\w+:)?AcquisitionDate>([^<]*)<", text)):
            yield Trace("header", "OME AcquisitionDate")
        if any(not is_blank(v) for block in ome_free_text(text) for _, _, v in block):
            yield Trace("header", "OME descriptions and annotations")
    elif (_DATE.search(text) or _NAMING.search(text)) and not is_blank(text):
        yield Trace("header", "ImageDescription")


def ome_free_text(text: bytes) -> Iterator[list[tuple[int, int, bytes]]]:
    """Begin, end and bytes of the texts of Description elements and of everything in StructuredAnnotations."""
    for block in re.finditer(rb"<(?:\w+:)?(Description|StructuredAnnotations)\b[^>]*>(.*?)</(?:\w+:)?\1>", text, re.S):
        inner = re.finditer(rb"(?:^|>)([^<>]+)(?:<|$)", block[2])
        yield [(block.start(2) + m.start(1), block.start(2) + m.end(1), m[1]) for m in inner]


def _bytes_of(tag: Any) -> bytes:
    """The value of a tag as bytes, whatever type it has."""
    value = getattr(tag, "value", None)
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "replace")
    if isinstance(value, (tuple, list)) and all(isinstance(v, int) and 0 <= v < 256 for v in value):
        return bytes(value)
    return b"" if value is None else str(value).encode()


def _in_dicom(path: Path) -> Iterator[Trace]:
    import pydicom

    data = pydicom.dcmread(path, stop_before_pixels=True)
    if is_label(data):
        yield Trace("label image", "/".join(map(str, data.ImageType))[:60])
    if str(data.get("BurnedInAnnotation", "NO")) == "YES":
        yield Trace("DICOM", "BurnedInAnnotation says YES")
    for element in data.iterall():
        if element.tag.is_private:
            yield Trace("DICOM", "private attributes")
        elif element.keyword in DICOM_BLANK and str(element.value or "") not in ("", DICOM_BLANK[element.keyword]):
            yield Trace("DICOM", element.keyword)


def is_label(data: Any) -> bool:
    """Whether a DICOM image shows the label of the slide, alone or in an overview."""
    kinds = {str(k).upper() for k in data.get("ImageType", [])}
    return bool(kinds & {"LABEL", "OVERVIEW"}) or str(data.get("SpecimenLabelInImage", "NO")) == "YES"
