"""YAML from files that anybody may have written: plain values only, of a size that was looked at first."""

from __future__ import annotations

import os
from typing import Any

import yaml

from eosin.core.errors import EosinError

__all__ = ["parse_yaml"]

MAX_CHARS = 4_000_000
MAX_VALUES = 200_000  # with every alias written out; a recipe has some hundreds


def parse_yaml(text: str, where: str | os.PathLike[str]) -> Any:
    """The values of a YAML text.

    Raises:
        EosinError: it is no YAML, holds more than plain values, refers to itself, or would grow out of all proportion
            when its aliases are written out.
    """
    if len(text) > MAX_CHARS:
        raise EosinError("This YAML is too large.", expected=f"at most {MAX_CHARS} characters", found=str(len(text)),
                         where=str(where))  # fmt: skip
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _check_size(node, where)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as exc:
        raise EosinError("This is not valid YAML.", found=str(exc), where=str(where)) from None
    except RecursionError:
        raise EosinError("This YAML is nested too deeply.", where=str(where)) from None
    except (TypeError, ValueError) as exc:  # a key that is a list; a number or date that Python cannot hold
        raise EosinError(
            "This YAML holds a value that cannot be read.", found=str(exc)[:160], where=str(where)
        ) from None


def _check_size(root: yaml.Node, where: str | os.PathLike[str]) -> None:
    """Values with every alias written out, counted without writing them out."""
    sizes: dict[int, int] = {}
    above: set[int] = set()

    def size(node: yaml.Node) -> int:
        if id(node) in sizes:
            return sizes[id(node)]
        if id(node) in above:
            raise EosinError("This YAML refers to itself.", where=str(where))
        above.add(id(node))
        inside = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
        found = 1 + (sum(map(size, inside)) if isinstance(node, yaml.CollectionNode) else 0)
        above.discard(id(node))
        sizes[id(node)] = found
        return found

    num = size(root)
    if num > MAX_VALUES:
        raise EosinError("This YAML grows out of proportion when its aliases are written out.",
                         expected=f"at most {MAX_VALUES} values", found=f"{num:.3g}", where=str(where))  # fmt: skip
