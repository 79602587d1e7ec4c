"""Folders that lmms-eval, VLMEvalKit and inspect_ai run. They need no Eosin where they run.

Each harness scores in its own way; its log can be scored again by Eosin's strict reading. A task says so in its files.
"""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from eosin.core.errors import EosinError, disk_errors
from eosin.core.formats.parquet import IMAGES_TYPE, hugging_face_metadata
from eosin.core.store import artifacts as store
from eosin.evaluate.exams.export.rows import ExportRow, picture_name, task_name

HARNESSES = ("lmms-eval", "vlmevalkit", "inspect")

_READ = '''

def read(text, choices, answer):
    """Whether a reply names the right option: its letter, its text, or both; of an open question the same text."""
    said = text.rsplit("</think>", 1)[-1]
    if "<answer>" in said:
        said = said.rsplit("<answer>", 1)[1].split("</answer>", 1)[0]
    said = " ".join(said.split()).strip(" .*").casefold()
    if not choices:
        return said == " ".join(answer.split()).casefold()
    right = " ".join(choices[ord(answer) - ord("A")].split()).strip(" .").casefold()
    letter = answer.casefold()
    forms = [letter, f"({letter})", f"{letter})", right]
    forms += [f"{front} {right}" for front in (f"{letter}.", f"{letter})", f"({letter})", f"{letter}:")]
    return said in forms
'''
_LMMS_UTILS = (
    '''"""Written by Eosin for lmms-eval. Research use only, not for diagnosis."""
'''
    + _READ
    + """

def doc_to_visual(doc):
    return [image.convert("RGB") for image in doc["images"]]


def doc_to_text(doc, lmms_eval_specific_kwargs=None):
    return doc["prompt"]


def process_results(doc, results):
    return {"accuracy": float(read(results[0], list(doc["choices"]), doc["answer"]))}
"""
)
_INSPECT_TASK = (
    '''"""Written by Eosin for inspect_ai: inspect eval NAME.py. Research use only, not for diagnosis."""

import json
from pathlib import Path

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ChatMessageUser, ContentImage, ContentText
from inspect_ai.scorer import CORRECT, INCORRECT, Score, accuracy, scorer, stderr
from inspect_ai.solver import generate

HERE = Path(__file__).parent
'''
    + _READ
    + """

def samples():
    for line in (HERE / "questions.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        content = [ContentImage(image=str(HERE / "images" / name)) for name in row["images"]]
        content.append(ContentText(text=row["prompt"]))
        yield Sample(
            input=[ChatMessageUser(content=content)], target=row["answer"], id=row["id"],
            metadata={"choices": row["choices"], "subset": row["subset"], "group": row["group"]},
        )


@scorer(metrics=[accuracy(), stderr(cluster="group")])
def option():
    async def score(state, target):
        right = read(state.output.completion, state.metadata["choices"], target.text)
        return Score(value=CORRECT if right else INCORRECT, answer=state.output.completion)

    return score


@task
def NAME():
    return Task(dataset=MemoryDataset(list(samples())), solver=generate(), scorer=option())
"""
)


def write_export(rows: Sequence[ExportRow], to: str, exam: str, version: str, out: Path) -> list[Path]:
    """Write the folder of a harness; returns the files that a person names to it.

    Raises:
        EosinError: no such harness; no rows; the folder is there already.
    """
    writers = {"lmms-eval": _lmms, "vlmevalkit": _vlmevalkit, "inspect": _inspect}
    if to not in writers:
        raise EosinError("There is no such form.", expected=", ".join(HARNESSES), found=to)
    if not rows:
        raise EosinError("No question of this exam can be exported.", next_step="eosin exams verify NAME --root DIR")
    if out.exists() and any(out.iterdir()):
        raise EosinError("There is something at this place already.", where=out, next_step="choose another --out")
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        return writers[to](rows, task_name(exam), version, out)


def _lmms(rows: Sequence[ExportRow], name: str, version: str, out: Path) -> list[Path]:
    """A task folder: NAME.yaml, utils.py and data/test.parquet; `--include_path` names it."""
    schema = _schema()
    (out / "data").mkdir()
    table = [{**r.facts(), "images": [{"bytes": d, "path": None} for d in r.images]} for r in rows]
    pq.write_table(pa.Table.from_pylist(table, schema=schema), out / "data" / "test.parquet")
    (out / "utils.py").write_text(_LMMS_UTILS, "utf-8")
    data = json.dumps(str((out / "data" / "test.parquet").resolve()))
    (out / f"{name}.yaml").write_text(
        f"# Written by Eosin, {version}. lmms-eval --tasks {name} --include_path THIS_FOLDER\n"
        f"task: {name}\ndataset_path: parquet\ndataset_kwargs:\n  data_files:\n    test: {data}\n"
        "test_split: test\noutput_type: generate_until\n"
        "doc_to_visual: !function utils.doc_to_visual\ndoc_to_text: !function utils.doc_to_text\n"
        "doc_to_target: answer\nprocess_results: !function utils.process_results\n"
        "generation_kwargs:\n  max_new_tokens: 1024\n  temperature: 0\n  do_sample: false\n"
        "metric_list:\n  - metric: accuracy\n    aggregation: mean\n    higher_is_better: true\n"
        "metadata:\n  - version: 1.0\n",
        "utf-8",
    )
    return [out / f"{name}.yaml"]


def _schema() -> pa.Schema:
    text = ("id", "question", "prompt", "answer", "answer_text", "subset", "group")
    fields = [pa.field(n, pa.string()) for n in text]
    fields += [pa.field("choices", pa.list_(pa.string())), pa.field("images", IMAGES_TYPE)]
    told: dict[str, Any] = json.loads(hugging_face_metadata([*text, "images"])[b"huggingface"])
    told["info"]["features"]["choices"] = {"feature": {"dtype": "string", "_type": "Value"}, "_type": "List"}
    return pa.schema(fields, metadata={b"huggingface": json.dumps(told).encode()})


def _vlmevalkit(rows: Sequence[ExportRow], name: str, version: str, out: Path) -> list[Path]:
    """A TSV with index, image (base64; several as a list in text), question, A, B, ..., answer, category."""
    most = max(len(r.choices) for r in rows)
    letters = [chr(ord("A") + i) for i in range(most)]
    path = out / f"{name}.tsv"
    text = io.StringIO()
    writer = csv.DictWriter(
        text, ["index", "id", "image", "question", *letters, "answer", "category", "split"], delimiter="\t",
        lineterminator="\n",
    )  # fmt: skip
    writer.writeheader()
    for number, row in enumerate(rows):
        encoded = [base64.b64encode(d).decode("ascii") for d in row.images]
        writer.writerow(
            {
                "index": number, "id": row.id,
                "image": encoded[0] if len(encoded) == 1 else str(encoded) if encoded else "",
                "question": row.question, **dict(zip(row.letters, row.choices, strict=True)), "answer": row.answer,
                "category": row.subset, "split": "test",
            }
        )  # fmt: skip
    path.write_text(text.getvalue(), "utf-8")
    return [path]


def _inspect(rows: Sequence[ExportRow], name: str, version: str, out: Path) -> list[Path]:
    """A task file with questions.jsonl and images/."""
    (out / "images").mkdir()
    lines = []
    for row in rows:
        names = [picture_name(row, i) for i in range(len(row.images))]
        for picture, data in zip(names, row.images, strict=True):
            (out / "images" / picture).write_bytes(data)
        lines.append(json.dumps({**row.facts(), "images": names}, ensure_ascii=False))
    (out / "questions.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    (out / f"{name}.py").write_text(_INSPECT_TASK.replace("NAME", name), "utf-8")
    return [out / f"{name}.py"]


def model_index(model: str, exams: Sequence[Path]) -> dict[str, Any]:
    """Finished exams in the form of the hub's model-index.

    Args:
        exams: folders of finished exams (with summary.json).

    Raises:
        EosinError: a folder is no finished exam.
    """
    results = []
    for place in exams:
        folder = place if (place / "summary.json").is_file() else place / "exam"
        artifact = store.open_artifact(folder, "eval")
        summary = store.read_object(folder / "summary.json")
        record = artifact.manifest.get("record", {})
        kind = "multiple choice" if summary["chance"] else "open"
        name = str(record.get("exam") or record.get("samples") or folder.parent.name)
        low, high = summary["ci95"]
        results.append(
            {
                "task": {"type": "visual-question-answering", "name": kind},
                "dataset": {
                    "name": Path(name).name, "type": task_name(Path(name).name),
                    "split": str(record.get("exam_split", "test")),
                    "args": {k: record[k] for k in ("subset", "exam_digest", "prompt", "input") if k in record},
                },
                "metrics": [
                    {"type": "accuracy", "value": summary["accuracy"], "name": f"accuracy, strict reading, n "
                    f"{summary['n']}",
                     "args": {"ci95": [low, high], "n": summary["n"], "unparsed_rate": summary["unparsed_rate"]}},
                    {"type": "accuracy", "value": summary["tolerant_accuracy"], "name": "accuracy, tolerant reading"},
                ],
                "source": {"name": "Eosin; research use only, not for diagnosis"},
            }
        )  # fmt: skip
    return {"model-index": [{"name": model, "results": results}]}
