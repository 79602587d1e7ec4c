"""XML of strangers as a tree: no entity that it declares is taken, nothing outside of it is read, depth is bounded."""

from __future__ import annotations

import html.entities
from collections.abc import Iterator
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from eosin.core.errors import EosinError

MAX_DEPTH = 200
MAX_BYTES = 200 * 2**20
MAX_ELEMENTS = 3_000_000


class _RefusedError(Exception):
    """Raised inside the parser; its text is the reason."""


def parsed(data: bytes, where: str) -> Element:
    """The root of a document, its names without namespaces, its white space as it stands.

    Named letters of HTML that the document's DTD would declare (&alpha;) are known; any other name stays a question
    mark in diamonds.

    Raises:
        EosinError: with a short reason: empty, too large, entities declared, nested too deep, not XML.
    """
    if not data.strip():
        raise EosinError("file empty", where=where)
    if len(data) > MAX_BYTES:
        raise EosinError("XML too large", expected=f"at most {MAX_BYTES:,} bytes", found=f"{len(data):,}", where=where)
    builder = TreeBuilder()
    parser = expat.ParserCreate(namespace_separator=None)
    parser.buffer_text = True
    parser.UseForeignDTD(False)
    parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
    _Handlers(builder, parser)
    try:
        parser.Parse(data, True)
        return builder.close()
    except _RefusedError as exc:
        raise EosinError(str(exc), where=where) from None
    except expat.ExpatError as exc:
        raise EosinError("not well-formed XML", found=str(exc)[:120], where=where) from None
    except (ValueError, LookupError) as exc:  # an encoding that does not exist
        raise EosinError("not well-formed XML", found=str(exc)[:120], where=where) from None


class _Handlers:
    def __init__(self, builder: TreeBuilder, parser: Any) -> None:
        self._builder, self._depth, self._count = builder, 0, 0
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = builder.data
        parser.EntityDeclHandler = self._declares
        parser.SkippedEntityHandler = self._skipped
        parser.ExternalEntityRefHandler = lambda *_: 1  # passed over, never opened

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        self._count += 1
        if self._depth > MAX_DEPTH or self._count > MAX_ELEMENTS:
            raise _RefusedError("XML nested too deep" if self._depth > MAX_DEPTH else "XML has too many elements")
        self._builder.start(local(name), {local(k): v for k, v in attributes.items()})

    def _end(self, name: str) -> None:
        self._depth -= 1
        self._builder.end(local(name))

    def _declares(self, *_: object) -> None:
        raise _RefusedError("XML declares entities")

    def _skipped(self, name: str, is_parameter: bool) -> None:
        if not is_parameter:
            self._builder.data(html.entities.html5.get(f"{name};", "\ufffd"))


def local(name: str) -> str:
    """A name without its namespace's prefix."""
    return name.rpartition(":")[2]


def first(element: Element, path: str) -> Element | None:
    """The first element at a path, or None."""
    return element.find(path)


def own_text(element: Element | None) -> str:
    """All text below an element, white space folded."""
    return " ".join("".join(element.itertext()).split()) if element is not None else ""


def walk(element: Element, stop: frozenset[str] = frozenset()) -> Iterator[Element]:
    """An element and all below it in order, without what lies below elements named in `stop`."""
    stack = [element]
    while stack:
        here = stack.pop()
        yield here
        if here.tag not in stop or here is element:
            stack.extend(reversed(list(here)))
