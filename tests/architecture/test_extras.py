"""The train extra alone runs tiles: no room that they need imports what only slides need."""

from __future__ import annotations

import subprocess
import sys

_CODE = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"cv2", "h5py", "openslide", "tifffile", "wsidicom", "imagecodecs"}:
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, Blocked())
import eosin.chain.data, eosin.chain.exam, eosin.chain.previews, eosin.chain.run, eosin.chain.stages
import eosin.cli.main, eosin.curate, eosin.evaluate.entry, eosin.evaluate.exam, eosin.sources
import eosin.train.rl, eosin.train.sft, eosin.train.warmup
from eosin.chain.data import read_source
from eosin.core.data_settings import PhantomSlidesData
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
    done = subprocess.run([sys.executable, "-c", _CODE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
