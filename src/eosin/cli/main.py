"""The command line: `eosin VERB ...`. A user's mistake prints a message, never a traceback."""

from __future__ import annotations

import errno
import io
import os
import sys
import warnings

import typer
from rich.console import Console
from rich.markup import escape

from eosin import __version__
from eosin.cli.clip import group as clip
from eosin.cli.exams import ask, cite, corrections, evaluate, listed, prove, report, score, serve
from eosin.cli.material import audit, curate, documents, experts, knowledge, phantom, pmc, samples, slides
from eosin.cli.reference.verb import reference
from eosin.cli.start import doctor
from eosin.cli.training import demo, rl_data, train
from eosin.cli.training import export as export_verb
from eosin.cli.training import plan as plan_verb
from eosin.cli.training import push as push_verb
from eosin.cli.training import run as run_verb
from eosin.core import stopping
from eosin.core.errors import EosinError
from eosin.core.ranks import LOST_A_PROCESS, leave_processes, lost_a_process

app = typer.Typer(
    name="eosin",
    help="Vision-language models that reason about tissue. Research use only, not for diagnosis.",
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command("demo")(demo.demo)
app.command("run")(run_verb.run)
app.command("plan")(plan_verb.plan)
app.command("export")(export_verb.export)
app.command("push")(push_verb.push)
app.command("rl-data")(rl_data.rl_data)
app.command("evaluate")(evaluate.evaluate)
app.command("ask")(ask.ask)
app.command("serve")(serve.serve)
app.command("doctor")(doctor.doctor)
app.add_typer(corrections.app, name="corrections")
app.command("reference")(reference)
app.add_typer(report.app, name="report")
app.add_typer(listed.app, name="exams")
app.command("score")(score.score)
app.command("cite")(cite.cite)
app.command("prove")(prove.prove)
app.command("curate")(curate.curate)
app.command("documents")(documents.documents)
app.command("pmc")(pmc.pmc)
app.add_typer(samples.app, name="samples")
app.command("audit")(audit.audit)
app.command("reason-templates")(audit.reason_templates)
app.add_typer(experts.app, name="experts")
app.add_typer(slides.app, name="slides")
app.add_typer(knowledge.app, name="knowledge")
app.add_typer(phantom.app, name="phantom")
app.add_typer(train.app, name="train")
app.add_typer(clip.app, name="clip")


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context, version: bool = typer.Option(False, "--version", help="Print the version and stop.")
) -> None:
    if version:
        print(f"eosin {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        from eosin.cli.start.story import story

        print(story())


# What the system says of a place -> what is told, and the next step.
_DISK = {
    errno.ENOSPC: ("The disk is full", "Free some space, then give the same command again."),
    errno.EDQUOT: ("The disk is full: the quota is used up", "Free some space, then give the same command again."),
    errno.EROFS: ("The disk is read-only", "Choose another folder with --out."),
    errno.EACCES: ("Access is not permitted", "Choose another folder with --out, or ask for the right to this one."),
}


INTERRUPTED = 130
"""With this typer ends where a verb is interrupted, by Ctrl-C or by being asked to end, and says nothing itself."""


def run() -> None:
    """Entry point of the `eosin` command."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    warnings.filterwarnings("ignore", category=FutureWarning)
    for stream in (sys.stdout, sys.stderr):  # a terminal that cannot show a letter shows a question mark, no traceback
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    stopping.listen()
    try:
        app()
    except EosinError as exc:
        from eosin.cli.start.pages import page_of

        text, page = str(exc), page_of(exc.__traceback__)
        if page is not None and "docs/" not in text:
            text += f"\n  page:     {page}"
        console.print(f"[bold red]error:[/bold red] {text.replace('[', chr(92) + '[')}")
        sys.exit(2)
    except OSError as exc:
        if exc.errno not in _DISK:
            raise
        message, next_step = _DISK[exc.errno]
        where = f" ({escape(str(exc.filename))})" if exc.filename is not None else ""
        console.print(f"[bold red]error:[/bold red] {message}{where}. {next_step}")
        sys.exit(2)
    except RuntimeError as exc:  # of torch.distributed
        if not lost_a_process(exc):
            raise
        sys.exit(LOST_A_PROCESS)
    except SystemExit as exc:
        if exc.code != INTERRUPTED:
            raise
        if stopping.is_asked():
            console.print("asked to end (SIGTERM). What is done is saved; the same command goes on from there.")
            sys.exit(0)
        console.print("stopped. Give the same command again to go on where it stopped.")
        raise
    finally:
        leave_processes()


if __name__ == "__main__":
    run()
