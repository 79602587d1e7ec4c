"""Build the site into build/site: reference pages from the code, a strict build, equations as MathML, links checked.

Run by `make docs`, in an environment with `pip install -e '.[docs]'`. It needs no network and no torch.
"""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "build" / "site"
_MATH = re.compile(r'<(span|div) class="arithmatex">\s*\\([(\[])(.*?)\\[)\]]\s*</\1>', re.S)


def main() -> None:
    subprocess.run(
        [sys.executable, "-m", "eosin.cli.main", "reference", "--out", "docs/reference"], cwd=ROOT, check=True
    )
    for notebook in sorted((ROOT / "examples" / "notebooks").glob("*.ipynb")):
        (ROOT / "docs" / "reference" / f"{notebook.stem}.md").write_text(as_page(notebook), "utf-8")
    zensical = Path(sys.executable).with_name("zensical")
    subprocess.run([zensical, "build", "--clean", "--strict"], cwd=ROOT, check=True)
    pages = sorted(SITE.rglob("*.html"))
    if len(pages) < 30:
        sys.exit(f"only {len(pages)} pages were built")
    count = sum(as_mathml(page) for page in pages)
    broken = [fault for page in pages for fault in broken_links(page)]
    if broken:
        sys.exit("links that lead nowhere:\n" + "\n".join(broken))
    print(f"{len(pages)} pages, {count} equations, no broken link: {SITE.relative_to(ROOT)}/index.html")


def as_page(notebook: Path) -> str:
    """A notebook as a page of the site: its text, and its cells as code."""
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    parts = []
    for cell in cells:
        text = "".join(cell["source"])
        is_text = cell["cell_type"] == "markdown"
        parts.append(text.replace("../../docs/", "../") if is_text else f"```python\n{text}\n```")
    return "\n\n".join(parts) + "\n"


def as_mathml(page: Path) -> int:
    """Replace the TeX of a page by MathML, which browsers draw without any script. How many were replaced."""
    from latex2mathml.converter import convert

    def one(match: re.Match[str]) -> str:
        return str(convert(html.unescape(match[3]), display="block" if match[2] == "[" else "inline"))

    text, count = _MATH.subn(one, page.read_text("utf-8"))
    if count:
        page.write_text(text, "utf-8")
    return count


class _Links(HTMLParser):
    """Targets and anchors of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.anchors: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        self.anchors |= {value for key in ("id", "name") if (value := told.get(key))}
        self.targets += [value for key in ("href", "src") if (value := told.get(key))]


def broken_links(page: Path) -> list[str]:
    """Links of a page to files or anchors of the site that are not there."""
    found = _read(page)
    faults = []
    for target in found.targets:
        path, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:|//", target) or page.name == "404.html":
            continue
        file = (page.parent / path.split("?")[0]).resolve() if path else page
        if file.is_dir():
            file = file / "index.html"
        is_page = file.exists() and file.suffix == ".html" and not anchor.startswith("__")
        if not file.exists() or (anchor and is_page and anchor not in _read(file).anchors):
            faults.append(f"{page.relative_to(SITE)}: {target}")
    return faults


_seen: dict[Path, _Links] = {}


def _read(page: Path) -> _Links:
    if page not in _seen:
        _seen[page] = _Links()
        _seen[page].feed(page.read_text("utf-8"))
    return _seen[page]


if __name__ == "__main__":
    main()
