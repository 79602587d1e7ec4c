"""docling reads a PDF. This is the one module that imports it, and only when it is asked for.

Nothing is downloaded: the weights of docling's layout model must lie on this machine, where `docling-tools models
download` puts them, or an installed package brings a layout engine of its own by docling's plug-in door.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
from pathlib import Path
from typing import Any

from eosin.core.errors import EosinError, MissingExtraError
from eosin.core.extras import need

MODELS = "DOCLING_ARTIFACTS_PATH"
"""docling's own variable: the folder in which its models lie."""
FETCH = "docling-tools models download layout"
_CACHE = "DOCLING_CACHE_DIR"


def check_docling(engine: str | None) -> None:
    """Whether docling can read here, before the first document is begun.

    Args:
        engine: the layout engine that an installed package adds to docling; None: docling's own.

    Raises:
        MissingExtraError: docling is not installed.
        EosinError: its weights are not on this machine, or no package adds an engine of this name.
    """
    if importlib.util.find_spec("docling") is None:
        raise MissingExtraError("docling", "docling")
    if engine is None:
        models_of(_repository())
    else:
        _options(engine)


def read_layout(path: Path, engine: str | None) -> dict[str, Any]:
    """What docling finds in a PDF, as its DoclingDocument exports it.

    Returns:
        {"document": the exported DoclingDocument, "errors": what docling says of pages that it could not read}.

    Raises:
        EosinError: docling read no page of it; the message serves as the reason.
    """
    status = need("docling.datamodel.base_models", "docling").ConversionStatus
    try:
        result = _converter(engine).convert(path, raises_on_error=False)
    except EosinError:
        raise
    except Exception as exc:  # of docling's backends, of any kind
        raise EosinError("docling could not read it", found=f"{type(exc).__name__}: {exc}"[:200]) from None
    errors = [str(e.error_message)[:200] for e in result.errors]
    if result.status not in (status.SUCCESS, status.PARTIAL_SUCCESS):
        raise EosinError("docling could not read it", found="; ".join(errors)[:200] or str(result.status.value))
    return {"document": result.document.export_to_dict(), "errors": errors}


def models_of(repository: str) -> Path:
    """The folder in which weights of a repository of the hub lie, where docling's own command puts them.

    Raises:
        EosinError: they are not there.
    """
    named = os.environ.get(MODELS)
    cache = Path(os.environ.get(_CACHE) or Path.home() / ".cache" / "docling")
    place = Path(named).expanduser() if named else cache / "models"
    folder = repository.replace("/", "--")
    if not any((place / folder).glob("*.safetensors")):
        raise EosinError(
            "The weights of docling's layout model are not on this machine, and Eosin downloads nothing.",
            expected=f"{folder}/*.safetensors", where=place,
            next_step=f"{FETCH}   (or name the folder that has them: {MODELS}=FOLDER)",
        )  # fmt: skip
    return place


def _repository() -> str:
    """Where docling's own layout model comes from."""
    options = need("docling.datamodel.pipeline_options", "docling")
    return str(options.PdfPipelineOptions().layout_options.model_spec.repo_id)


def _options(engine: str) -> Any:
    """Options of a layout engine that an installed package adds to docling."""
    factory = need("docling.models.factories", "docling").get_layout_factory(allow_external_plugins=True)
    if engine not in factory.registered_kind:
        raise EosinError(
            "No installed package adds a layout engine of this name to docling.", found=engine,
            expected=", ".join(sorted(factory.registered_kind)),
            next_step="install the package that brings it, or leave the engine out: docling's own is used then",
        )  # fmt: skip
    return factory.create_options(engine)


@functools.cache
def _converter(engine: str | None) -> Any:
    """docling's converter, made once in a process: layout alone, no OCR, no structure of tables."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    options = need("docling.datamodel.pipeline_options", "docling")
    door = need("docling.document_converter", "docling")
    pdf = need("docling.datamodel.base_models", "docling").InputFormat.PDF
    logging.getLogger("docling").setLevel(logging.ERROR)
    asked: dict[str, Any] = {"do_ocr": False, "do_table_structure": False}
    if engine is None:
        asked["artifacts_path"] = models_of(_repository())
    else:
        asked |= {"allow_external_plugins": True, "layout_options": _options(engine)}
    pipeline = options.PdfPipelineOptions(**asked)
    return door.DocumentConverter(
        allowed_formats=[pdf], format_options={pdf: door.PdfFormatOption(pipeline_options=pipeline)}
    )
