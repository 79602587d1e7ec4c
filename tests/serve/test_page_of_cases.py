"""Slides of one case in the browser: opened together, asked about together or, where a model cannot, one by one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.serve.browsing import AXE, Browser, Page, a_browser, a_page, ink, shot, write_tissue
from tests.serve.scripted import scripted_engine, scripted_room
from tests.serve.served import serving


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with a_browser() as found:
        yield found


@pytest.fixture
def room(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[str, Any]]:
    """A room whose model reads as many slides at a time as the test says; three, where it says nothing."""
    (tmp_path / "slides").mkdir()
    slides = write_tissue(tmp_path / "slides", "a.tif", "b.tif", "c.tif")
    own = sorted({p.stem for p in slides.iterdir()})
    made = scripted_room(tmp_path / "c.sqlite")
    made.reader.max_slides = getattr(request, "param", 3)  # type: ignore[union-attr]
    cases = {own[0]: "case 7", own[2]: "case 7"}
    with serving(scripted_engine(0.01), made, slides=slides, cases=cases) as (url, _):
        yield url, made


@pytest.fixture
def page(browser: Browser, room: tuple[str, Any]) -> Iterator[Page]:
    with a_page(browser, room[0]) as opened:
        yield opened


def ask_the_case(page: Page, url: str) -> None:
    page.goto(url)
    page.wait_for_selector(".case .tab")
    page.locator("#case-scope input").check()
    page.locator("#usual button").first.click()
    page.keyboard.press("Control+Enter")


def test_a_case_is_asked_about_together_and_a_region_leads_to_its_slide(page: Page, room: tuple[str, Any]) -> None:
    url, made = room
    ask_the_case(page, url)
    assert page.locator(".case-name").inner_text() == "Case case 7, 2 slides"
    tabs = page.locator(".case .tab")
    assert tabs.count() == 2 and tabs.first.get_attribute("aria-current") == "true"
    assert page.locator("#scope-note").inner_text() == "All 2 slides of the case are shown in one question."
    other = tabs.last.inner_text()
    region = page.locator(".statement", has_text=f"on {other}").last.locator("button", has_text=f"on {other}")
    page.locator(".statement", has_text=f"on {other}").nth(4).wait_for()
    page.wait_for_selector("#sign")
    region.first.click()
    page.wait_for_function(
        "() => document.querySelector('.case .tab:last-child').getAttribute('aria-current') === 'true'"
    )
    assert page.locator(".answer .said").inner_text() == "adenocarcinoma"  # the reading stays
    page.wait_for_timeout(200)
    assert ink(page, "canvas.layer") > 500
    shot(page, "room-case")
    page.keyboard.press("Escape")
    page.keyboard.press(",")  # back to the first slide of the case
    page.wait_for_function("() => document.querySelector('.case .tab').getAttribute('aria-current') === 'true'")
    assert page.locator(".statement").count() == 5
    assert page.evaluate(AXE) == []
    page.set_viewport_size({"width": 820, "height": 1180})
    page.wait_for_timeout(200)
    assert page.evaluate("document.documentElement.scrollWidth") <= 820
    page.locator(".case .tab").last.click()
    page.wait_for_load_state("networkidle")
    page.reload()  # from the other slide the reading is found again
    page.wait_for_selector("#earlier option", state="attached")
    [kept] = made.store.readings()
    assert len(kept["slides"]) == 2


@pytest.mark.parametrize("room", [1], indirect=True)
def test_a_model_of_one_slide_is_asked_slide_by_slide_and_the_page_says_so(page: Page, room: tuple[str, Any]) -> None:
    url, made = room
    ask_the_case(page, url)
    assert "reads one slide at a time: the question is put slide by slide" in page.locator("#scope-note").inner_text()
    page.wait_for_function("""() => [...document.querySelectorAll('.case .tab')]
      .every((t) => t.textContent.endsWith(': adenocarcinoma'))""")
    page.wait_for_function("() => document.querySelector('#stop').hidden")
    assert len({r["slide"] for r in made.store.readings()}) == 2
    assert len({r["asked"] for r in made.store.readings()}) == 1
    page.locator(".case .tab").first.click()
    page.wait_for_selector("#sign")  # the reading of that slide comes with it
    shot(page, "room-case-by-slide")
