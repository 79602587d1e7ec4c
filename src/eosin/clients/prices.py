"""A table of prices: what a model costs per million tokens."""

from __future__ import annotations

import difflib
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from eosin.core.errors import EosinError
from eosin.core.settings.scoring import Price
from eosin.core.store.artifacts import read_json


def read_price(table: Path, model: str) -> Price:
    """The price of a model in a JSON file such as {"a-model": {"input": 0.5, "output": 1.5}}.

    Raises:
        EosinError: the file is no such table, or the model is not in it.
    """
    try:
        prices = TypeAdapter(dict[str, Price]).validate_python(read_json(table))
    except ValidationError as exc:
        first = exc.errors()[0]
        raise EosinError(
            "This is no table of prices.",
            expected='{"a-model": {"input": 0.5, "output": 1.5}}, per million tokens',
            found=f"{'.'.join(map(str, first['loc'])) or 'the whole'}: {first['msg']}",
            where=table,
        ) from None
    if model not in prices:
        near = difflib.get_close_matches(model, prices, n=1)
        raise EosinError(
            "The table has no price for this model.",
            expected=", ".join(sorted(prices)[:20]) or "at least one model",
            found=model,
            where=table,
            next_step=f"did you mean {near[0]!r}?" if near else f"add {model!r} to the table",
        )
    return prices[model]
