"""`eosin serve`: the reading room, and a model behind an OpenAI-compatible address."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from eosin.cli.exams.server import KeyOption, MaxCallsOption, ServedModelOption, ServerOptions, is_address
from eosin.core.errors import EosinError

if TYPE_CHECKING:
    from eosin.chain.room.models import ModelPlace
    from eosin.chain.room.open_room import RoomOptions
    from eosin.clients.settings import ServerSettings

CheckpointArgument = Annotated[
    str | None, typer.Argument(help="Checkpoint folder, a run's folder, or a model's name on the hub.")
]
SlidesOption = Annotated[
    Path | None, typer.Option(help="Folder whose slides are shown. Default: those that a run made.")
]
HostOption = Annotated[str, typer.Option(help="Address to listen on. Others than this machine need --token-env.")]
PortOption = Annotated[int, typer.Option(help="Port; 0: any free one.", min=0, max=65535)]
NameOption = Annotated[str | None, typer.Option(help="What clients call the model. Default: its folder or hub name.")]
TokenOption = Annotated[str | None, typer.Option(help="Variable that holds the token which clients must send.")]
BatchOption = Annotated[int, typer.Option(help="Questions that are answered together.", min=1)]
LengthOption = Annotated[int, typer.Option(help="Length cap of any reply, in tokens.", min=1)]
KnowledgeOption = Annotated[
    Path | None, typer.Option(help="Graph that statements are held against. Default: Eosin's own tables.")
]
WorkOption = Annotated[
    Path | None, typer.Option(help="Folder of features and corrections. Default: eosin-room, or RUN/room.")
]
CorrectionsOption = Annotated[
    str | None,
    typer.Option(help="SQLite file or URL (postgresql+psycopg://...). Default: WORK/corrections.sqlite; 'none'."),
]
CalibrationOption = Annotated[
    Path | None, typer.Option(help="Exam with --option-probabilities: confidence is calibrated on it.")
]
RiskOption = Annotated[
    float,
    typer.Option(help="Abstain below the confidence where more of the exam's answers are wrong.", min=0, max=1),
]
MppOption = Annotated[
    float | None, typer.Option(help="µm per pixel of level 0 of all the slides, where their files do not state it.")
]
BlindedOption = Annotated[
    bool, typer.Option("--blinded", help="Reader study: the model's reply is shown after the reader has signed.")
]
ViewerOption = Annotated[
    bool, typer.Option("--get-viewer", help="Fetch OpenSeadragon from npm for the page, and stop.")
]

EngineOption = Annotated[
    str | None,
    typer.Option(help="An OpenAI-compatible server whose model answers. What is shown of slides goes there."),
]
GrammarOption = Annotated[
    str | None, typer.Option(help="Form of the server's replies. Default: the CHECKPOINT's, else think/answer.")
]
TimeoutOption = Annotated[float, typer.Option("--timeout", help="Seconds for one reply of the server.")]
CasesOption = Annotated[
    Path | None,
    typer.Option(help="Slides of one case: csv with slide,case, or samples. Default: TCGA names, a run's samples."),
]
BesideOption = Annotated[
    str | None, typer.Option(help="A second model, asked the same: checkpoint, run, hub name or a server's address.")
]
BesideNameOption = Annotated[str | None, typer.Option(help="What the second model is called.")]
BesideModelOption = Annotated[str | None, typer.Option(help="Its name at its server. Default: the only one there.")]
BesideKeyOption = Annotated[str, typer.Option(help="Variable that holds the key of its server.")]
BesideCalibrationOption = Annotated[Path | None, typer.Option(help="Exam that its confidence is calibrated on.")]


def serve(
    checkpoint: CheckpointArgument = None,
    slides: SlidesOption = None,
    host: HostOption = "127.0.0.1",
    port: PortOption = 8000,
    name: NameOption = None,
    token_env: TokenOption = None,
    batch_size: BatchOption = 32,
    max_new_tokens: LengthOption = 1024,
    engine: EngineOption = None,
    model: ServedModelOption = None,
    grammar: GrammarOption = None,
    api_key_env: KeyOption = "EOSIN_API_KEY",
    timeout: TimeoutOption = 300.0,
    max_calls: MaxCallsOption = None,
    beside: BesideOption = None,
    beside_name: BesideNameOption = None,
    beside_model: BesideModelOption = None,
    beside_key_env: BesideKeyOption = "EOSIN_BESIDE_KEY",
    beside_calibration: BesideCalibrationOption = None,
    cases: CasesOption = None,
    knowledge: KnowledgeOption = None,
    work: WorkOption = None,
    corrections: CorrectionsOption = None,
    calibration: CalibrationOption = None,
    max_risk: RiskOption = 0.1,
    slide_mpp: MppOption = None,
    blinded: BlindedOption = False,
    get_viewer: ViewerOption = False,
) -> None:
    """Serve a model: a page to read slides, ask and correct; /v1/chat/completions and /v1/models for any OpenAI client.
    Research use only, not for diagnosis.

    Example: eosin serve runs/demo-slide

    Example: eosin serve --engine http://127.0.0.1:8001/v1 --slides slides/
    """
    _run(locals())


def _run(given: dict[str, Any]) -> None:
    from eosin.chain.room.viewer import fetch_viewer
    from eosin.core.extras import need as need_of

    for package in ("fastapi", "uvicorn", "sqlalchemy"):
        need_of(package, "serve")
    if given["get_viewer"]:
        print(f"OpenSeadragon: {fetch_viewer()}")
        return
    checkpoint, engine = given["checkpoint"], given["engine"]
    if checkpoint is None and engine is None:
        raise EosinError("Nothing to serve.", expected="a checkpoint, a run's folder, or --engine ADDRESS",
                         next_step="eosin serve runs/demo-slide")  # fmt: skip
    if checkpoint is not None and is_address(checkpoint):
        raise EosinError("A model behind a server is named by --engine.", found=checkpoint,
                         next_step=f"eosin serve --engine {checkpoint}")  # fmt: skip
    from eosin.chain.room.open_room import opened_room, place_of
    from eosin.cli.training.run import need
    from eosin.serve.settings import ServeSettings, check_doors

    if engine is None or (given["beside"] is not None and not is_address(given["beside"])):
        need("torch")
    place = place_of(checkpoint) if checkpoint is not None else place_of("")
    server = _server(engine, given["model"], given["api_key_env"], given) if engine else None
    settings = ServeSettings(
        model_name=given["name"] or (server.model if server else _called(place.checkpoint)), host=given["host"],
        port=given["port"], token=_token(given["token_env"]), slides=given["slides"] or place.slides,
        cases=_cases(given["cases"], place.samples), batch_size=given["batch_size"],
        max_new_tokens=given["max_new_tokens"], blinded=given["blinded"], slide_mpp=given["slide_mpp"],
    )  # fmt: skip
    check_doors(settings)
    with opened_room(place, settings, _options(given, server, settings.model_name)) as app:
        _listen(app, settings, place.data.get("data") or {})


def _cases(told: Path | None, samples: Path | None) -> dict[str, str]:
    """Case by slide, as the table or the run says."""
    from eosin.chain.room.cases import read_cases

    place = told or samples
    return {} if place is None else read_cases(place)


def _options(given: dict[str, Any], server: ServerSettings | None, first: str) -> RoomOptions:
    from eosin.chain.room.open_room import RoomOptions

    if server is None and given["grammar"] is not None:
        raise EosinError("--grammar is for --engine; a checkpoint has its own.", found=given["grammar"],
                         next_step="leave --grammar out")  # fmt: skip
    return RoomOptions(
        given["work"], given["corrections"], given["knowledge"], given["calibration"], given["max_risk"],
        given["slide_mpp"], server, given["grammar"], _beside(given, first),
    )  # fmt: skip


def _beside(given: dict[str, Any], first: str) -> ModelPlace | None:
    """The second model. Where both would be called the same, the second gets a number."""
    from eosin.chain.room.models import ModelPlace
    from eosin.chain.room.open_room import place_of

    beside, name = given["beside"], given["beside_name"]
    if beside is None:
        return None
    if is_address(beside):
        server = _server(beside, given["beside_model"], given["beside_key_env"], given)
        called, checkpoint, grammar = server.model, "", given["grammar"]
    else:
        server, checkpoint, grammar = None, place_of(beside).checkpoint, None
        called = _called(checkpoint)
    name = name or (called if called != first else f"{called}-2")
    return ModelPlace(name, checkpoint, server, grammar, given["beside_calibration"])


def _server(url: str, model: str | None, key_env: str, given: dict[str, Any]) -> ServerSettings:
    """How a server is asked. A key goes to the one address that it was set for."""
    options = ServerOptions(model, 8, given["timeout"], 2, given["max_calls"], None, None, key_env)
    return options.settings(url, given["max_new_tokens"])


def _listen(app: object, settings: object, data: dict[str, str]) -> None:
    import socket

    import uvicorn

    from eosin.serve.app import NOTE
    from eosin.serve.pages import viewer_file
    from eosin.serve.settings import ServeSettings

    assert isinstance(settings, ServeSettings)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    licence = "   data and licence: not stated"
    if data:
        licence = f"   data: {data.get('name', '?')} ({data.get('licence', 'licence not stated')})"
    seats = app.state.seats.values()  # type: ignore[attr-defined]
    console.print(f"model: {escape(' beside '.join(s.name for s in seats))}{escape(licence)}   {NOTE}")
    for server in (s.reader.about["server"] for s in seats if s.reader and "server" in s.reader.about):
        console.print(f"answers come from {escape(server)}: what is asked about is sent there")
    listening = socket.create_server((settings.host, settings.port), family=_family(settings.host))
    address = f"http://{settings.host}:{listening.getsockname()[1]}"
    shelf = app.state.shelf  # type: ignore[attr-defined]
    if shelf is not None:
        console.print(f"slides: {len(shelf.slides)}, set aside {len(shelf.dropped)}   page: {address}/")
        if viewer_file() is None:
            console.print("viewer: the built-in one (eosin serve --get-viewer fetches OpenSeadragon from npm)")
    console.print(f"address: {address}/v1   (stop with Ctrl-C)")
    logging.getLogger("eosin.serve.audit").setLevel(logging.INFO)
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=5)  # type: ignore[arg-type]
    uvicorn.Server(config).run(sockets=[listening])


def _family(host: str) -> int:
    import socket

    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _called(checkpoint: str) -> str:
    """A short name: the stage of a run's checkpoint, else the last part of the path or hub name."""
    parts = [p for p in Path(checkpoint).parts if p not in ("checkpoint", "/", ".")]
    return parts[-1] if parts else "eosin"


def _token(variable: str | None) -> str | None:
    if variable is None:
        return None
    value = os.environ.get(variable, "")
    if len(value) < 16:
        raise EosinError("The token is too short to be one.", expected="16 letters or more", where=f"${variable}",
                         next_step="python -c 'import secrets; print(secrets.token_urlsafe(32))'")  # fmt: skip
    return value
