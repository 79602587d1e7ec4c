"""docs/python.md is true: its examples run, in their order, and every name that `eosin` offers is in one of them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import eosin
from eosin.core.formats import write_parquet
from eosin.core.settings.data import PhantomData
from eosin.core.store import artifacts as store
from eosin.sources.phantom import read_phantom
from tests.support.slide_files import write_slide
from tests.support.toys import toy_table

PAGE = Path(__file__).resolve().parents[1] / "docs" / "python.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
RECIPE = {
    "data": {
        "source": "table", "name": "toy", "root": "tiles", "label_column": "label", "group_column": "slide",
        "hold_out": {"slide": ["s2", "s3"]}, "hold_out_valid": {"slide": ["s4"]},
        "descriptions": {c: [f"The field is {c}."] for c in ("red", "green", "blue")},
    },
    "prompt": {"instruction": False, "answer": "text"},
    "model": {
        "kind": "tiny", "image_px": 56, "vocab_size": 400,
        "vision": {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2},
        "text": {"hidden_size": 48, "intermediate_size": 96, "num_layers": 2, "num_heads": 2, "num_kv_heads": 1},
    },
    "stages": {"sft": {"steps": 3, "batch_size": 8, "learning_rate": 6e-3, "exam": False},
               "rl": {"steps": 1, "batch_size": 8, "num_generations": 4, "max_new_tokens": 8}},
    "base_exam": False,
    "exams": {"heldout": {"max_new_tokens": 16, "probe_samples": 4, "bootstrap": 200}},
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("python api")
    write_slide(place / "slide.tiff", 768)
    collection = read_phantom(PhantomData(train_cases=6, valid_cases=0, test_cases=6), 0, workers=1)
    with store.writing(place / "samples", "samples") as writer:
        writer.counts["samples"] = write_parquet(list(collection.kept), writer.dir / "samples.parquet")
    toy_table(place / "tiles")
    (place / "recipe.yaml").write_text(yaml.safe_dump(RECIPE, sort_keys=False), "utf-8")
    return place


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_the_examples_run_in_order(folder: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    exec(compile(EXAMPLES[number], f"docs/python.md, example {number + 1}", "exec"), {"__name__": "example"})


def test_every_name_loads_and_stands_on_the_page() -> None:
    text = PAGE.read_text("utf-8")
    for name in eosin.__all__:
        assert getattr(eosin, name) is not None
        assert name == "__version__" or re.search(rf"`{name}`|eosin\.{name}\b", text), name
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        eosin.nonsense  # noqa: B018


def test_importing_eosin_loads_nothing_else() -> None:
    code = "import sys, eosin; print(sorted(m for m in sys.modules if m.startswith('eosin.')), 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] False"


def test_type_hints_are_offered() -> None:
    assert (Path(eosin.__file__).parent / "py.typed").exists()
