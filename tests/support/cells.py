"""Run the code cells of notebooks as a kernel does, without its messages: `python -m tests.support.cells BOOK`."""

from __future__ import annotations

import sys

import nbformat
from IPython.core.interactiveshell import InteractiveShell


def main(path: str) -> None:
    """Each cell in turn, in IPython's own `__main__`; what it shows is printed. Ends at the first error."""
    shell = InteractiveShell.instance()
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            shell.run_cell(cell.source, store_history=True).raise_error()


if __name__ == "__main__":
    main(sys.argv[1])
