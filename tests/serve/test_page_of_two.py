"""Two models side by side in Debian's Chromium: two columns that stream, each with its own evidence and correction."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.serve.browsing import AXE, Browser, Page, a_browser, a_page, expect, ink, shot, write_tissue
from tests.serve.scripted import OTHER_REPLY, REPLY, scripted_room
from tests.serve.served import WordEngine, serving

FIRST, SECOND = "#reading", "#reading-2"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with a_browser() as found:
        yield found


@pytest.fixture
def room(tmp_path: Path) -> Iterator[tuple[str, Any, threading.Event]]:
    """Both models stop after some words, until the event is set."""
    (tmp_path / "slides").mkdir()
    slides = write_tissue(tmp_path / "slides", "a.tif", "b.tif")
    go_on = threading.Event()

    def engine(reply: str) -> WordEngine:
        return WordEngine(lambda request: reply, lambda step: step < 6 or go_on.wait(240))

    made = scripted_room(tmp_path / "c.sqlite", beside="second", beside_engine=engine(OTHER_REPLY))
    with serving(engine(REPLY), made, slides=slides, model_name="first") as (url, _):
        yield url, made, go_on
        go_on.set()


@pytest.fixture
def page(browser: Browser, room: tuple[str, Any, threading.Event]) -> Iterator[Page]:
    with a_page(browser, room[0]) as opened:
        yield opened


BOTH = "() => ['#reading', '#reading-2'].every((c) => document.querySelector(c + ' .stream.live'))"
"""Whether both columns are growing."""


def ask(page: Page, url: str, go_on: threading.Event) -> None:
    page.goto(url)
    page.locator("#usual button").first.click()
    page.keyboard.press("Control+Enter")
    page.wait_for_function(BOTH)
    go_on.set()
    for column in (FIRST, SECOND):
        page.locator(f"{column} .statement", has_text="region 1").nth(2).wait_for()


def test_one_question_two_columns_and_a_correction_of_the_second(
    page: Page, room: tuple[str, Any, threading.Event]
) -> None:
    url, made, go_on = room
    ask(page, url, go_on)
    assert page.locator(f"{FIRST} .answer .said").inner_text() == "adenocarcinoma"
    assert page.locator(f"{SECOND} .answer .said").inner_text() == "normal mucosa"
    assert "70 %" in page.locator(f"{FIRST} .answer").inner_text()
    assert "No confidence" in page.locator(f"{SECOND} .answer").inner_text()
    a, b = (page.locator(c).bounding_box() for c in (FIRST, SECOND))
    assert a and b and a["x"] + a["width"] <= b["x"] and abs(a["y"] - b["y"]) < 2  # side by side at 1280 px
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    view = page.locator("#viewer").bounding_box()
    assert view and view["width"] > 450

    before = page.evaluate("document.querySelector('canvas.layer').toDataURL()")
    assert ink(page, "canvas.layer") > 500
    page.keyboard.press("Escape")
    page.keyboard.press("2")
    page.wait_for_selector(f"{SECOND}.active")
    assert page.locator(f"{SECOND} .whose button").get_attribute("aria-pressed") == "true"
    assert page.evaluate("document.querySelector('canvas.layer').toDataURL()") != before  # the second one's evidence
    page.keyboard.press("j")
    page.wait_for_selector(f"{SECOND} .statement.now[data-id=s1]")
    shot(page, "room-two")
    page.keyboard.press("x")
    page.wait_for_selector(f"{SECOND} .statement.struck[data-id=s1]")
    assert page.locator(f"{FIRST} .statement.struck").count() == 0
    page.fill("#initials-2", "AB")
    page.keyboard.press("Tab")
    assert page.locator("#initials").input_value() == "AB"
    page.locator("#sign-2").click()
    page.wait_for_selector(f"{SECOND} .history li")
    assert "the reply of second" in page.locator("#message").inner_text()
    [kept] = made.store.versions()
    assert made.store.reading(kept.reading)["model"] == "second"
    assert [s.state for s in kept.correction.statements] == ["struck", "kept", "kept"]

    page.reload()  # both come back, each in its own column
    page.wait_for_selector(f"{SECOND} .history li")
    page.wait_for_selector(f"{FIRST} .answer")
    assert page.locator(f"{FIRST} .answer .said").inner_text() == "adenocarcinoma"
    assert page.locator(f"{FIRST} .history").count() == 0
    assert page.locator("#earlier option").count() == 2  # one question, and the head of the list


def test_two_columns_on_a_tablet_in_the_dark(page: Page, room: tuple[str, Any, threading.Event]) -> None:
    page.set_viewport_size({"width": 820, "height": 1180})
    ask(page, room[0], room[2])
    page.keyboard.press("Escape")
    page.keyboard.press("d")
    assert page.evaluate("document.documentElement.scrollWidth") <= 820
    a, b = (page.locator(c).bounding_box() for c in (FIRST, SECOND))
    assert a and b and a["x"] + a["width"] <= b["x"] and min(a["width"], b["width"]) > 320
    assert page.evaluate(AXE) == []
    page.locator(f"{SECOND} .text").first.scroll_into_view_if_needed()
    shot(page, "room-two-tablet")
    page.evaluate("window.scrollTo(0, 0)")
    page.locator("#list-button").click()
    expect(page.locator(".slide").last).to_be_visible()
