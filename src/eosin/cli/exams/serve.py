"""`eosin serve`: the reading room, and a model behind an OpenAI-compatible address."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from eosin.core.errors import EosinError

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
MppOption = Annotated[float | None, typer.Option(help="µm per pixel of level 0, for slides that do not state it.")]
BlindedOption = Annotated[
    bool, typer.Option("--blinded", help="Reader study: the model's reply is shown after the reader has signed.")
]
ViewerOption = Annotated[
    bool, typer.Option("--get-viewer", help="Fetch OpenSeadragon from npm for the page, and stop.")
]


def serve(
    checkpoint: CheckpointArgument = None,
    slides: SlidesOption = None,
    host: HostOption = "127.0.0.1",
    port: PortOption = 8000,
    name: NameOption = None,
    token_env: TokenOption = None,
    batch_size: BatchOption = 32,
    max_new_tokens: LengthOption = 1024,
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
    """
    from eosin.chain.room.viewer import fetch_viewer
    from eosin.core.extras import need as need_of

    for package in ("fastapi", "uvicorn", "sqlalchemy"):
        need_of(package, "serve")
    if get_viewer:
        print(f"OpenSeadragon: {fetch_viewer()}")
        return
    if checkpoint is None:
        raise EosinError("Nothing to serve.", expected="a checkpoint, or a run's folder",
                         next_step="eosin serve runs/demo-slide")  # fmt: skip
    from eosin.chain.room.open_room import RoomOptions, opened_room, place_of
    from eosin.cli.training.run import need
    from eosin.serve.settings import ServeSettings, check_doors

    need("torch")
    place = place_of(checkpoint)
    settings = ServeSettings(
        model_name=name or _called(place.checkpoint), host=host, port=port, token=_token(token_env),
        slides=slides or place.slides, batch_size=batch_size, max_new_tokens=max_new_tokens, blinded=blinded,
    )  # fmt: skip
    check_doors(settings)
    options = RoomOptions(work, corrections, knowledge, calibration, max_risk, slide_mpp)
    with opened_room(place, settings, options) as app:
        _listen(app, settings, place.data.get("data") or {})


def _listen(app: object, settings: object, data: dict[str, str]) -> None:
    import socket

    import uvicorn

    from eosin.serve.app import NOTE
    from eosin.serve.pages import viewer_file
    from eosin.serve.settings import ServeSettings

    assert isinstance(settings, ServeSettings)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    licence = f"   data: {data.get('name', '?')} ({data.get('licence', 'licence not stated')})" if data else ""
    console.print(f"model: {escape(settings.model_name)}{escape(licence)}   {NOTE}")
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
