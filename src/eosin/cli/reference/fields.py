"""Every field of a recipe: type, default, unit and meaning, read from the settings themselves."""

from __future__ import annotations

import inspect
import json
import re
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, Tag
from pydantic.fields import FieldInfo

from eosin.core.settings.recipe import Recipe

__all__ = ["FieldNote", "Group", "groups", "matching"]

# End of a field's name -> its unit. The first that fits; a name that says nothing has none.
_UNITS = (
    (r"(^|_)mpp$", "µm per pixel"), (r"_um$", "µm"), (r"max_pixels$", "pixels"), (r"(_px|patch_size)$", "pixels"),
    (r"_s$", "seconds"), (r"_gib$", "GiB"), (r"(max|num)_(new_)?tokens$|^context_length$", "tokens"),
    (r"(_fraction|_share|^max_unscored|^max_unparsed|^freeze_first)$", "share, 0 to 1"), (r"_(cases)$", "cases"),
    (r"^epochs$", "passes over the data"), (r"(^steps|_every)$", "optimiser steps"), (r"_iter$", "iterations"),
    (r"_samples$", "samples"), (r"^min_entropy$", "nats"), (r"_per_case$", "pictures"), (r"^workers$", "processes"),
)  # fmt: skip
_TAGS = ("kind", "source", "step")
_ENTRY = re.compile(r"(\w+(?:, \w+)*): (.*)")


@dataclass(frozen=True)
class FieldNote:
    """One field.

    Attributes:
        kind: its type in words, with its bounds. default: as YAML reads it; "required" where there is none.
        unit: "" where the value has none.
        text: what it means.
    """

    name: str
    kind: str
    default: str
    unit: str
    text: str


@dataclass(frozen=True)
class Group:
    """The fields of one class of settings.

    Attributes:
        places: where it stands in a recipe, such as "stages.NAME (kind: sft)".
        text: what its docstring says of the whole.
    """

    name: str
    places: tuple[str, ...]
    text: str
    fields: tuple[FieldNote, ...]


def groups() -> list[Group]:
    """All classes of settings that a recipe can hold, the recipe itself first."""
    places: dict[type[BaseModel], list[str]] = {}
    _walk(Recipe, "", places, ())
    return [_group(cls, tuple(dict.fromkeys(at))) for cls, at in places.items()]


def matching(name: str) -> list[tuple[str, FieldNote]]:
    """Fields of a dotted place, such as stages.rl.temperature; where no place fits, those of the same last name.

    Returns:
        (place, field), the place with the kind it stands in: "stages.NAME (kind: rl).temperature".
    """
    wanted = name.strip()
    everywhere = [(f"{place}.{f.name}".strip("."), f) for g in groups() for place in g.places for f in g.fields]
    whole = [(p, f) for p, f in everywhere if _same_place(re.sub(r" \(.*?\)", "", p), wanted)]
    return whole or [(p, f) for p, f in everywhere if f.name == wanted.split(".")[-1]]


def _same_place(dotted: str, wanted: str) -> bool:
    have, want = dotted.split("."), wanted.split(".")
    return len(have) == len(want) and all(h in (w, "NAME") for h, w in zip(have, want, strict=True))


def _walk(cls: type[BaseModel], place: str, places: dict[type[BaseModel], list[str]], above: tuple[type, ...]) -> None:
    if cls in above:
        return
    tag = next((f"{n}: {f.default}" for n, f in cls.model_fields.items() if n in _TAGS and f.default), "")
    here = f"{place} ({tag})" if tag and place else place
    places.setdefault(cls, []).append(here)
    for name, field in cls.model_fields.items():
        for inner, many in _models(field.annotation):
            step = f"{name}.NAME" if many == "dict" else name
            _walk(inner, f"{place}.{step}".strip("."), places, (*above, cls))


def _models(annotation: Any, many: str = "") -> Iterator[tuple[type[BaseModel], str]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, many
        return
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        yield from _models(args[0], many)
    elif origin in (typing.Union, types.UnionType, list, tuple):
        for one in args:
            yield from _models(one, many)
    elif origin is dict:
        yield from _models(args[1], "dict")


def _group(cls: type[BaseModel], places: tuple[str, ...]) -> Group:
    told: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if isinstance(base, type) and issubclass(base, BaseModel) and base is not BaseModel:
            told |= _attributes(base)
    notes = []
    for name, field in cls.model_fields.items():
        kind = _kind_of_field(field)
        text = (
            told.get(name) or field.description or ("this word, which names this kind" if _is_tag(name, field) else "")
        )
        notes.append(FieldNote(name, kind, _default(field), _unit(name, kind), text))
    return Group(cls.__name__, places, _summary(cls), tuple(notes))


def _is_tag(name: str, field: FieldInfo) -> bool:
    return name in _TAGS and typing.get_origin(field.annotation) is typing.Literal


def _summary(cls: type[BaseModel]) -> str:
    text = inspect.cleandoc(cls.__doc__ or "") if "__doc__" in vars(cls) else ""
    return text.split("\nAttributes:")[0].strip()


def _attributes(cls: type[BaseModel]) -> dict[str, str]:
    """Name -> meaning, from the docstring's "Attributes:"; several names before one colon share it."""
    text = inspect.cleandoc(vars(cls).get("__doc__") or "")
    _, _, block = text.partition("\nAttributes:\n")
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for line in block.splitlines():
        match = _ENTRY.match(line.strip()) if re.match(r" {4}\S", line) else None
        if match and set(match[1].split(", ")) <= set(cls.model_fields):
            current = match[1].split(", ")
            for name in current:
                found[name] = [match[2]]
        elif line.strip():
            for name in current:
                found[name].append(line.strip())
    return {name: " ".join(lines) for name, lines in found.items()}


def _unit(name: str, kind: str) -> str:
    if not re.match(r"(integer|number|list of (integer|number))", kind):
        return ""
    return next((unit for pattern, unit in _UNITS if re.search(pattern, name)), "")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return "its defaults"
    if isinstance(value, (list, tuple)) and any(isinstance(v, BaseModel) for v in value):
        value = [v.model_dump() for v in value if isinstance(v, BaseModel)]
    if isinstance(value, dict):
        return "its defaults" if any(isinstance(v, BaseModel) for v in value.values()) else json.dumps(value)
    return json.dumps(value, ensure_ascii=False)


def _kind_of_field(field: FieldInfo) -> str:
    return _kind(field.annotation) + _bounds(field.metadata)


def _kind(annotation: Any) -> str:
    simple = {int: "integer", float: "number", str: "text", bool: "true or false", type(None): "null", Any: "anything"}
    if annotation in simple:
        return simple[annotation]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation.__name__
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _kind(args[0]) + _bounds([m for m in args[1:] if not isinstance(m, Tag)])
    if origin is typing.Literal:
        return " or ".join(json.dumps(a) for a in args)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(_kind(a) for a in args))
    if origin is list:
        return f"list of {_kind(args[0])}"
    if origin is tuple:
        return f"list of {len(args)}: {_kind(args[0])}"
    if origin is dict:
        return f"mapping of names to {_kind(args[1])}"
    return str(getattr(annotation, "__name__", annotation))


def _bounds(metadata: list[Any]) -> str:
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    parts = []
    for one in metadata:
        for meta in [one, *getattr(one, "metadata", [])]:
            parts += [f"{sign} {getattr(meta, name):g}" for name, sign in signs.items() if _is_number(meta, name)]
    return f" ({', '.join(parts)})" if parts else ""


def _is_number(meta: Any, name: str) -> bool:
    return isinstance(getattr(meta, name, None), (int, float))
