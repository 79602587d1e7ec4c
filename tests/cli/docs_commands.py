"""The command lines of the pages: how they are found, and what the test does with each of them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
_FENCE = re.compile(r"\s*```+(\w*)")


def lines_of(page: Path) -> list[str]:
    """The `eosin ...` lines in the blocks of a page that are no other language; a \\ at the end goes on."""
    found: list[str] = []
    language: str | None = None
    kept = ""
    for line in page.read_text("utf-8").splitlines():
        fence = _FENCE.match(line)
        if fence:
            language = None if language is not None else fence[1] or "sh"
            continue
        if language not in ("sh", "bash", "console"):
            continue
        line = kept + line.strip().removeprefix("$ ")
        if line.endswith("\\"):
            kept = line[:-1]
            continue
        kept = ""
        if line.startswith("eosin "):
            found.append(line)
    return found


def words_of(line: str) -> list[str]:
    """The words after `eosin`, without a comment at the end."""
    return shlex.split(line, comments=True)[1:]


def inline_of(page: Path) -> list[str]:
    """Commands in running text and tables: `eosin run RECIPE`. They may be the beginning of one."""
    return re.findall(r"`(eosin [a-z-][^`\n]*)`", page.read_text("utf-8"))


# Lines that are not run here: how they begin (after `eosin`) -> why, and the test that runs this verb.
NOT_RUN: dict[str, tuple[str, str]] = {
    "run my-tiles.yaml --out": ("trains for minutes", "tests/chain/test_run.py"),
    "run my-tiles.yaml data.root=": ("trains for minutes", "tests/chain/test_run.py"),
    "run recipes/colorectal.yaml": ("needs the tiles of Kather 2016", "tests/sources/test_colorectal_recipe.py"),
    "run recipes/demo.yaml": ("trains for minutes", "tests/chain/test_run.py"),
    "run recipes/patho-clip-demo.yaml": ("trains for minutes", "tests/chain/test_clip_run.py"),
    "run recipes/patho-clip-colorectal.yaml": ("needs the tiles of Kather 2016", "tests/chain/test_clip_run.py"),
    "run first.yaml --out": ("trains for minutes", "tests/chain/test_run.py"),
    "run mine.yaml --out": ("trains for minutes", "tests/chain/test_run.py"),
    "run curated.yaml --out": ("asks a server, and trains", "tests/chain/test_curated_run.py"),
    "evaluate": ("needs a trained checkpoint or a server", "tests/chain/test_exam_of_a_server.py"),
    "ask": ("needs a trained checkpoint", "tests/cli/test_ask_slide.py"),
    "serve": ("serves until it is stopped", "tests/serve/test_chat_server.py"),
    "report": ("needs exams of several models", "tests/report/test_compare_exams.py"),
    "rl-data": ("needs a trained checkpoint", "tests/cli/test_rl_data.py"),
    "train show-mask": ("needs a run", "tests/cli/test_train.py"),
    "clip": ("needs a trained CLIP", "tests/cli/test_clip_search.py"),
    "slides features slides/ --out out/features --encoder uni": (
        "uni's weights are asked for on the hub", "tests/slides/test_encoders_torch.py"),
    "phantom slide out/case2.tiff": ("400 megapixels", "tests/phantom/test_slide.py"),
    "documents articles/": ("names files of the reader's own", "tests/documents/test_jats.py"),
    "documents book.pdf": ("needs the extra docling and its weights", "tests/documents/test_docling_layout.py"),
    "documents scan.pdf": ("needs the extra ocr", "tests/documents/test_kinds_scans_second.py"),
    "pmc": ("asks a server on the network", "tests/documents/test_pmc.py"),
    "audit": ("names data of the reader's own", "tests/chain/test_audit.py"),
    "curate": ("names data of the reader's own", "tests/curate/test_curation_verbs.py"),
    "samples": ("names data of the reader's own", "tests/curate/test_curation_verbs.py"),
    "experts": ("needs samples, and readers", "tests/chain/test_experts.py"),
    "export": ("names data of the reader's own", "tests/chain/test_export.py"),
    "plan patho-r1": ("says with its status that the stages do not fit", "tests/chain/test_plan.py"),
    "corrections": ("needs a reading room", "tests/cli/test_corrections_verb.py"),
    "cite runs/": ("needs a run", "tests/report/test_cite.py"),
    "--install-completion": ("changes the user's shell", "tests/cli/test_first_hour.py"),
    "--show-completion": ("asks which shell it runs in", "tests/cli/test_first_hour.py"),
}  # fmt: skip


def reason_not_to_run(line: str) -> tuple[str, str] | None:
    """Why a line is not run, and which test runs its verb; None where it is run."""
    words = " ".join(words_of(line))
    return next((why for start, why in NOT_RUN.items() if words.startswith(start)), None)
