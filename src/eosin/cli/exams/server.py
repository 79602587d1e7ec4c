"""Options of `eosin evaluate` for a model behind a server, and for replies that another harness logged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from eosin.clients.settings import ServerSettings

ServedModelOption = Annotated[
    str | None, typer.Option("--model", help="Name of the model at the server. Default: the only one it offers.")
]
InFlightOption = Annotated[int, typer.Option(help="Questions put to the server at one time.")]
TimeoutOption = Annotated[float, typer.Option("--timeout", help="Seconds for one attempt at the server.")]
RetriesOption = Annotated[int, typer.Option(help="Further attempts at a question that the server did not answer.")]
MaxCallsOption = Annotated[int | None, typer.Option(help="Ask the server at most so often.")]
MaxCostOption = Annotated[
    float | None, typer.Option(help="Stop asking the server before this cost can be exceeded; needs --prices.")
]
PricesOption = Annotated[
    Path | None, typer.Option(help='JSON: {"MODEL": {"input": 0.5, "output": 1.5}}, per million tokens.')
]
KeyOption = Annotated[str, typer.Option("--api-key-env", help="Environment variable that holds the server's key.")]
AnswersOption = Annotated[
    Path | None, typer.Option("--cache", help="Folder where the server's answers are kept. Default: OUT/answers.")
]
PredictionsOption = Annotated[
    Path | None,
    typer.Option(help="Score this file of lmms-eval, VLMEvalKit or inspect_ai instead: --predictions FILE EXAM."),
]

SameJudgeOption = Annotated[
    bool, typer.Option("--allow-same-judge", help="Allow the judge that also gave the rewards. The report says so.")
]

ProbabilitiesOption = Annotated[
    bool, typer.Option("--option-probabilities", help="Also record how probable each option was, for calibration.")
]


def is_address(model: str) -> bool:
    """Whether a model is named by the address of a server."""
    return model.startswith(("http://", "https://"))


@dataclass(frozen=True)
class ServerOptions:
    """What the command line says about a server."""

    model: str | None
    in_flight: int
    timeout: float
    retries: int
    max_calls: int | None
    max_cost: float | None
    prices: Path | None
    api_key_env: str

    def settings(self, url: str, max_new_tokens: int) -> ServerSettings:
        """How this server is asked.

        Raises:
            EosinError: an option out of range, no price for the model, or no name where the server offers several.
        """
        from dataclasses import replace

        from eosin.clients.prices import read_price
        from eosin.clients.settings import ServerSettings
        from eosin.engines.server_engine import only_model

        plain = ServerSettings(
            url, self.model or "?", api_key_env=self.api_key_env, timeout_s=self.timeout, retries=self.retries,
            concurrency=self.in_flight, max_calls=self.max_calls, max_tokens=max_new_tokens,
        )  # fmt: skip
        model = self.model or only_model(plain)
        price = None if self.prices is None else read_price(self.prices, model)
        return replace(
            plain, model=model, max_cost=self.max_cost, price_in=price.input if price else 0.0,
            price_out=price.output if price else 0.0,
        )  # fmt: skip
