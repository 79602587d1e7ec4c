"""JSON sources: a file read within bounds, its objects put into a form; what does not fit becomes `Refused` here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from eosin.knowledge.sources.base import UNPACKING_ERRORS, Refused, open_bytes

MAX_DOCUMENT_BYTES = 256 << 20


def _encodable(text: str) -> str:
    text.encode("utf-8")  # JSON may hold half a surrogate pair, which no file can: UnicodeEncodeError is a ValueError
    return text


Text = Annotated[str, AfterValidator(_encodable)]


class Form(BaseModel):
    """An object of a file. What Eosin does not read is left out; what it reads must be of the right kind."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


SomeForm = TypeVar("SomeForm", bound=Form)


def read_document(path: Path) -> Any:
    """The parsed file, or what is wrong with it as `Refused`. No more than MAX_DOCUMENT_BYTES are unpacked."""
    with open_bytes(path) as handle:
        try:
            data = handle.read(MAX_DOCUMENT_BYTES + 1)
            if len(data) > MAX_DOCUMENT_BYTES:
                more = (
                    f"over {MAX_DOCUMENT_BYTES >> 20} MiB; `robot convert --format obo` makes one that is read by lines"
                )
                return Refused("file too large", more)
            return json.loads(data.decode("utf-8-sig"))
        except UnicodeDecodeError as exc:
            return Refused("not UTF-8", f"byte {exc.start + 1}")
        except UNPACKING_ERRORS as exc:
            return Refused("file is cut off or damaged", str(exc)[:160])
        except (ValueError, RecursionError) as exc:
            return Refused("not valid JSON", str(exc)[:160], getattr(exc, "lineno", 0))


def checked(kind: type[SomeForm], raw: Any, name: str, where: str) -> SomeForm | Refused:
    """An object of the file in its form, or its first fault. All that JSON can hold is sorted out at this one place.

    Args:
        name: of the kind, for the reason: "node", "relation".
        where: of the object in the file.
    """
    try:
        return kind.model_validate(raw)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, (where, *first["loc"])))
        return Refused(f"{name} of the wrong form", f"{place}: {first['msg']}")
