"""`eosin serve`: a model behind an OpenAI-compatible address, and slides for a viewer."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from eosin.core.errors import EosinError


def serve(
    checkpoint: Annotated[str, typer.Argument(help="Checkpoint folder, or a model's name on the hub.")],
    slides: Annotated[Path | None, typer.Option(help="Folder whose slides are shown.")] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on. Others than this machine need --token-env.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0: any free one.", min=0, max=65535)] = 8000,
    name: Annotated[
        str | None, typer.Option(help="What clients call the model. Default: its folder or hub name.")
    ] = None,
    token_env: Annotated[
        str | None, typer.Option(help="Variable that holds the token which clients must send.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Questions that are answered together.", min=1)] = 32,
    max_new_tokens: Annotated[int, typer.Option(help="Length cap of any reply, in tokens.", min=1)] = 1024,
) -> None:
    """Serve a model to any OpenAI client: /v1/chat/completions with images and streaming, /v1/models; and slides as
    DeepZoom tiles. Research use only, not for diagnosis.

    Example: eosin serve runs/demo/stages/rl/checkpoint --slides slides/
    """
    from eosin.cli.training.run import need
    from eosin.core.extras import need as need_of

    need("torch")
    for package in ("fastapi", "uvicorn"):
        need_of(package, "serve")
    import uvicorn

    from eosin.engines.transformers_engine import TransformersEngine
    from eosin.models.load import load
    from eosin.serve.app import NOTE, create_app
    from eosin.serve.settings import ServeSettings, check_doors

    settings = ServeSettings(
        model_name=name or _called(checkpoint), host=host, port=port, token=_token(token_env), slides=slides,
        batch_size=batch_size, max_new_tokens=max_new_tokens,
    )  # fmt: skip
    check_doors(settings)
    app = create_app(TransformersEngine(load(checkpoint)), settings)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(f"model: {escape(settings.model_name)}   {NOTE}")
    if app.state.shelf is not None:
        console.print(f"slides: {len(app.state.shelf.slides)}, set aside {len(app.state.shelf.dropped)}")
    console.print(f"address: http://{host}:{port}/v1   (stop with Ctrl-C)")
    logging.getLogger("eosin.serve.audit").setLevel(logging.INFO)
    uvicorn.run(app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=5)


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
