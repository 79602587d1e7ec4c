"""A blinded study of two models in Debian's Chromium: Model A and Model B until both replies are signed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.serve.browsing import AXE, Page, a_browser, a_page, shot, write_tissue
from tests.serve.scripted import scripted_engine, scripted_room
from tests.serve.served import serving

FIRST, SECOND = "#reading", "#reading-2"
NAMED = """() => [...document.querySelectorAll('*')].some((e) => [...e.attributes].some((a) =>
  /alder|birch/.test(a.value))) || /alder|birch/.test(document.documentElement.textContent + document.title)"""


def title(page: Page, column: str) -> str:
    return page.locator(f"{column} .whose button").inner_text()


def sign(page: Page, number: str) -> None:
    page.locator(f"#sign{number}").click()
    page.wait_for_selector(f"#reading{number} .history li")
    page.wait_for_function("() => document.querySelector('#message').textContent.includes('Signed and kept')")


def test_two_models_without_names_until_both_are_signed(tmp_path: Path) -> None:
    (tmp_path / "slides").mkdir()
    slides = write_tissue(tmp_path / "slides", "a.tif")
    made: Any = scripted_room(tmp_path / "c.sqlite", beside="birch")
    with (
        serving(scripted_engine(), made, slides=slides, model_name="alder", blinded=True) as (url, _),
        a_browser() as browser, a_page(browser, url) as page,
    ):  # fmt: skip
        page.goto(url)
        page.locator("#usual button").first.click()
        page.keyboard.press("Control+Enter")
        page.wait_for_selector("#sign-2")
        page.wait_for_selector("#sign")
        assert (title(page, FIRST), title(page, SECOND)) == ("Model A", "Model B")
        assert page.locator(".message.info", has_text="Blinded").count() == 2 and not page.evaluate(NAMED)
        page.fill("#initials", "AB")
        page.keyboard.press("Tab")
        page.get_by_label("Add a finding").or_(page.locator("#add")).first.click()
        page.keyboard.type("Glands are crowded")
        page.keyboard.press("Enter")
        sign(page, "")
        page.wait_for_function("() => document.querySelector('#reading .answer .said').textContent !== '(hidden)'")
        said = page.locator(f"{FIRST} .revealed")
        assert said.locator("li").count() >= 3 and page.locator(f"{SECOND} .revealed").count() == 0
        assert page.locator(f"{FIRST} .statement").count() == 1  # what the reader wrote stands beside it
        assert not page.evaluate(NAMED)  # the reply of one is shown, and no name
        page.locator("#comment-2").fill("not signed yet")
        page.reload()
        page.wait_for_selector(f"{FIRST} .history li")
        assert (title(page, FIRST), title(page, SECOND)) == ("Model A", "Model B") and not page.evaluate(NAMED)
        shot(page, "room-blinded")
        assert page.evaluate(AXE) == []
        sign(page, "-2")
        page.wait_for_function("() => /: (alder|birch)$/.test(document.querySelector('#reading .whose').textContent)")
        told = {
            made.store.reading(v.reading)["label"]: made.store.reading(v.reading)["model"]
            for v in made.store.versions()
        }
        assert title(page, FIRST) == f"Model A: {told['Model A']}"
        assert title(page, SECOND) == f"Model B: {told['Model B']}"
