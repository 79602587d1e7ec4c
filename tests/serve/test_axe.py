"""axe-core on the page in its states: no serious accessibility fault. axe-core is no part of the repository.

npm pack axe-core && tar xzf axe-core-*.tgz && EOSIN_AXE=package/axe.min.js python -m pytest tests/serve/test_axe.py
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from tests.serve.browsing import Page, a_browser, a_page, write_tissue
from tests.serve.scripted import scripted_engine, scripted_room
from tests.serve.served import serving

AXE = os.environ.get("EOSIN_AXE", "")
pytestmark = pytest.mark.skipif(not Path(AXE).is_file(), reason="axe-core is not here: EOSIN_AXE names no axe.min.js")
RUN = """async () => (await axe.run(document, { resultTypes: ['violations'] })).violations
  .filter((v) => ['serious', 'critical', 'moderate'].includes(v.impact))
  .map((v) => `${v.impact} ${v.id}: ${v.help}: ${v.nodes.map((n) => n.html.slice(0, 140)).slice(0, 4).join(' | ')}`)"""


def faults(page: Page, state: str) -> list[str]:
    return [f"{state}: {told}" for told in page.evaluate(RUN)]


def states(page: Page, url: str, last: str) -> list[str]:
    """Faults of the page as it stands at the beginning, read, dark, with its dialog, and on a tablet."""
    page.goto(url)
    page.wait_for_selector(".slide[aria-current=true]", state="attached")
    page.evaluate(Path(AXE).read_text("utf-8"))
    found = faults(page, "begun")
    page.locator("#usual button").first.click()
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(last)
    page.locator(".statement", has_text="region 1").nth(4).wait_for()
    page.keyboard.press("Escape")
    found += faults(page, "read")
    page.keyboard.press("d")
    found += faults(page, "dark")
    page.keyboard.press("?")
    found += faults(page, "keys")
    page.keyboard.press("Escape")
    page.get_by_label("Edit s1").first.click()
    found += faults(page, "edited")
    page.keyboard.press("Escape")
    page.set_viewport_size({"width": 820, "height": 1180})
    page.locator("#list-button").click()
    page.wait_for_timeout(200)
    return found + faults(page, "tablet")


@pytest.mark.parametrize("beside", [None, "second"])
def test_axe_finds_no_serious_fault(tmp_path: Path, beside: str | None) -> None:
    (tmp_path / "slides").mkdir()
    slides = write_tissue(tmp_path / "slides", "a.tif", "b.tif")
    cases: dict[str, Any] = {p.stem: "case 7" for p in slides.iterdir()}
    made = scripted_room(tmp_path / "c.sqlite", beside=beside)
    with (
        serving(scripted_engine(), made, slides=slides, cases=cases, model_name="first") as (url, _),
        a_browser() as browser, a_page(browser, url) as page,
    ):  # fmt: skip
        found = states(page, url, "#sign" if beside is None else "#sign-2")
        assert not found, "\n".join(found)
