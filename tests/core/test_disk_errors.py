"""A full disk is told as such, whichever library met it."""

from __future__ import annotations

import errno
import resource
from pathlib import Path

import pytest
from tests.support import forked

from eosin.core.errors import EosinError, disk_errors


class SafetensorError(Exception):
    """As safetensors has it: no OSError, and no number."""


CASES = [
    (OSError(errno.ENOSPC, "No space left on device", "x"), "The disk is full"),
    (OSError(errno.EDQUOT, "Disk quota exceeded"), "quota"),
    (OSError(errno.EFBIG, "File too large"), "larger than is allowed"),
    (PermissionError(errno.EACCES, "Permission denied"), "not permitted"),
    (SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"), "The disk is full"),
    (SafetensorError("Error while serializing: I/O error: File too large (os error 27)"), "larger than is allowed"),
    (RuntimeError("[enforce fail at inline_container.cc:672] PytorchStreamWriter failed writing file"), "full"),
    (ValueError("[Errno 30] Read-only file system"), "read-only"),
]  # fmt: skip


@pytest.mark.parametrize(("error", "message"), CASES, ids=lambda c: str(c)[:30])
def test_what_a_library_says_of_the_disk_is_understood(error: Exception, message: str, tmp_path: Path) -> None:
    with pytest.raises(EosinError, match=message) as caught, disk_errors(tmp_path):
        raise error
    assert caught.value.next_step and str(tmp_path) in str(caught.value)


def test_all_other_errors_pass(tmp_path: Path) -> None:
    for error in (ValueError("no such class"), RuntimeError("shape mismatch"), OSError("odd"), KeyError("x")):
        with pytest.raises(type(error)), disk_errors(tmp_path):
            raise error
    told = EosinError("No space left on device")
    with pytest.raises(EosinError) as caught, disk_errors(tmp_path):
        raise told
    assert caught.value is told


_SAVE = """
import resource, sys, torch
from pathlib import Path
from eosin.core.errors import EosinError
from eosin.models import checkpoint
from tests.train.conftest import new_model
loaded = new_model()
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    checkpoint.save(loaded.model, loaded.processor, Path(sys.argv[1]) / "c")
except EosinError as exc:
    print("told:", exc.message)
"""


def test_a_checkpoint_that_does_not_fit_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    """A limit on the size of files, which any user can set: weights are written by Rust, with errors of its own."""
    done = forked.run(["-c", _SAVE, tmp_path])
    assert done.returncode == 0, done.stderr[-1500:]
    assert "told: The" in done.stdout
    assert list(tmp_path.iterdir()) == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 100_000
