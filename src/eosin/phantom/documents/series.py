"""A series of phantom documents in a folder, with their truth beside them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from eosin.core.errors import EosinError
from eosin.phantom.documents.jats import write_article
from eosin.phantom.documents.pdf import Truth, write_pdf
from eosin.phantom.documents.plan import plan_document
from eosin.phantom.documents.scan import write_scan

TRUTH = "truth.jsonl"


def write_documents(out: Path, num: int, seed: int, *, articles: int = 0, scans: int = 0) -> list[Truth]:
    """Write `num` PDFs, `articles` JATS articles with their pictures, and `scans` PDFs without a text layer.

    `truth.jsonl` has a line a document.

    Raises:
        EosinError: something stands at `out` already.
    """
    if out.exists():
        raise EosinError("There is something at this place already, and Eosin never overwrites.", where=out,
                         next_step="choose another folder")  # fmt: skip
    out.mkdir(parents=True)
    truths = []
    for number in range(num):
        plan = plan_document(seed, number)
        truths.append(write_pdf(plan, out / f"{plan.name}.pdf", seed))
    for number in range(num, num + articles):
        plan = plan_document(seed, number)
        truths.append(write_article(plan, out / f"PMC{9000 + number}.1", seed))
    for number in range(num + articles, num + articles + scans):
        plan = plan_document(seed, number)
        path, plain = out / f"{plan.name}-scan.pdf", out / f".{plan.name}.pdf"
        truth = write_pdf(plan, plain, seed)
        write_scan(plain, path, seed + number)
        plain.unlink()
        truth.file = path.name
        truths.append(truth)
    (out / TRUTH).write_text("".join(json.dumps(asdict(t), ensure_ascii=False) + "\n" for t in truths), "utf-8")
    return truths


def read_truth(out: Path) -> list[Truth]:
    """The truth of a series."""
    return [Truth(**json.loads(line)) for line in (out / TRUTH).read_text("utf-8").split("\n") if line.strip()]
