"""The train extra alone runs tiles: no room that they need imports what only slides need."""

from __future__ import annotations

from tests.support import forked

_CODE = """
import sys

BLOCKED = {"cv2", "h5py", "openslide", "tifffile", "wsidicom", "imagecodecs"}
for name in [n for n in sys.modules if n.split(".")[0] in {"eosin", *BLOCKED}]:
    del sys.modules[name]  # Eosin is imported anew, beside libraries that are there

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, Blocked())
import eosin.chain.exam, eosin.chain.recipe.data, eosin.chain.recipe.previews, eosin.chain.recipe.run
import eosin.chain.recipe.stages
import eosin.cli.main, eosin.curate, eosin.evaluate.exam.entry, eosin.evaluate.exam.exam, eosin.sources
import eosin.train.stages.rl, eosin.train.stages.sft, eosin.train.warmup.stage
from eosin.chain.recipe.data import read_source
from eosin.core.settings.data import PhantomSlidesData
from eosin.core.errors import MissingExtraError
from pathlib import Path
try:
    read_source(PhantomSlidesData(), 0, Path("nowhere"))
except MissingExtraError as exc:
    assert "slides" in str(exc), str(exc)
else:
    raise SystemExit("phantom slides were made without the packages that write them")
"""


def test_tiles_need_no_package_of_slides() -> None:
    done = forked.run(["-c", _CODE])
    assert done.returncode == 0, done.stderr[-2000:]
