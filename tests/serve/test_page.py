"""The page in Debian's Chromium: opened, asked, corrected, signed, exported, reloaded; by mouse and by keys."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.serve.browsing import AXE, WATCH, Browser, Page, a_browser, a_page, expect, ink, shot, write_tissue
from tests.serve.scripted import scripted_engine, scripted_room
from tests.serve.served import serving


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tissue(tmp_path_factory.mktemp("slides"), "a.tif", "b.tif")


@pytest.fixture(scope="module")
def room(slides: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Any]]:
    made = scripted_room(tmp_path_factory.mktemp("store") / "c.sqlite")
    with serving(scripted_engine(0.03), made, slides=slides) as (url, _):
        yield url, made


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with a_browser() as found:
        yield found


@pytest.fixture
def page(browser: Browser, room: tuple[str, Any]) -> Iterator[Page]:
    with a_page(browser, room[0]) as opened:
        yield opened


def ask(page: Page, room: tuple[str, Any]) -> None:
    page.goto(room[0])
    page.locator(".slide").last.click()
    page.locator("#usual button").first.click()
    page.evaluate(WATCH)
    page.keyboard.press("Control+Enter")


def test_a_slide_that_comes_late_does_not_take_the_place_of_the_one_chosen_after_it(
    page: Page, room: tuple[str, Any]
) -> None:
    late: list[Any] = []
    first, last = (s["key"] for s in page.request.get(f"{room[0]}/slides").json()["slides"])
    page.route(f"**/slides/{first}", lambda r: late.append(r))
    ask(page, room)
    page.wait_for_selector("#sign")
    (held,) = late
    with page.expect_response(lambda r: r.url.endswith(f"/slides/{first}")):
        held.continue_()
    page.wait_for_timeout(100)
    assert page.locator(f".slide[data-key='{last}']").get_attribute("aria-current") == "true"
    assert page.locator("#sign").is_visible() and f"slide={last}&reading=" in page.url


def test_from_a_slide_to_a_signed_correction(page: Page, room: tuple[str, Any], tmp_path: Path) -> None:
    url, made = room
    ask(page, room)
    page.wait_for_selector("#sign")
    # in order, and the first before the whole; on a busy machine the whole may come before the others are drawn
    seen = page.evaluate("window.seenBlocks")
    assert seen and seen == ["findings", "reasoning", "answer"][: len(seen)]
    assert page.locator(".answer .said").inner_text() == "adenocarcinoma"
    assert "70 %" in page.locator(".answer .sure").first.inner_text()
    assert page.locator(".statement .tag.supported").count() >= 2
    page.locator(".statement", has_text="region 1").nth(4).wait_for()
    page.wait_for_function("() => document.querySelector('#scale-text').textContent.includes('µm')")
    page.wait_for_function("""() => { const c = document.querySelector('canvas.picture');
      return c.getContext('2d').getImageData(c.width / 2, c.height / 2, 1, 1).data[3] > 0; }""")
    assert ink(page, "canvas.layer") > 1000
    shot(page, "room")

    before = page.locator("#magnification").inner_text()
    page.locator(".statement .text").first.click()  # flies to its region
    page.wait_for_function("(b) => document.querySelector('#magnification').textContent !== b", arg=before)
    page.locator(".statement details summary").first.click()
    assert "desmoplasia" in page.locator(".statement details").first.inner_text()
    shot(page, "room-finding")

    page.get_by_label("Edit s3").click()
    page.get_by_label("Text of s3").fill("Mitoses are rare.")
    page.keyboard.press("Enter")
    page.get_by_label("Strike s2").click()
    page.get_by_label("Draw a region of s3").click()
    box = page.locator("#viewer").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 200, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + 320, box["y"] + 300)
    page.mouse.up()
    page.select_option("#answer", "tubular adenoma")
    assert page.locator(".answer .said").inner_text() == "adenocarcinoma tubular adenoma"
    page.get_by_label("4", exact=True).check()
    page.fill("#initials", "AB")
    page.locator("#sign").click()
    page.wait_for_selector(".history li")
    assert "Signed" in page.locator("#message").inner_text()
    shot(page, "room-signed")
    [kept] = made.store.versions()
    said = {s.id: s for s in kept.correction.statements}
    assert (said["s3"].text, said["s3"].state, said["s2"].state) == ("Mitoses are rare.", "edited", "struck")
    assert said["s3"].regions and said["s3"].regions[0].area > 0
    assert (kept.correction.answer, kept.correction.rating, kept.correction.is_signed) == ("tubular adenoma", 4, True)

    with page.expect_download() as told:
        page.locator("#give-geojson").click()
    told.value.save_as(tmp_path / "a.geojson")
    shapes = json.loads((tmp_path / "a.geojson").read_text())
    assert any(f["properties"]["name"] == "s3: Mitoses are rare." for f in shapes["features"])
    with page.expect_download() as told:
        page.locator("#give-all").click()
    told.value.save_as(tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert "Mitoses are rare." in archive.read("pairs.jsonl").decode()

    page.reload()
    page.wait_for_selector(".history li")
    assert page.locator(".statement[data-id=s3] .text").inner_text() == "Mitoses are rare."
    assert page.locator(".statement[data-id=s2]").get_attribute("class") == "statement struck"


def test_without_a_mouse_in_the_dark_and_on_a_tablet(page: Page, room: tuple[str, Any]) -> None:
    ask(page, room)
    page.wait_for_selector("#sign")
    page.keyboard.press("Escape")
    page.keyboard.press("d")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.keyboard.press("j")
    page.wait_for_selector(".statement.now[data-id=s1]")
    page.keyboard.press("j")
    page.keyboard.press("x")
    page.wait_for_selector(".statement.struck[data-id=s2]")
    page.keyboard.press("t")
    page.wait_for_function("() => document.querySelector('#tissue').getAttribute('aria-pressed') === 'true'")
    page.keyboard.press("+")
    page.keyboard.press("m")
    assert page.locator("#measure").get_attribute("aria-pressed") == "true"
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    page.keyboard.press("Escape")
    shot(page, "room-dark")
    assert page.evaluate(AXE) == []
    page.keyboard.press("d")
    assert page.evaluate(AXE) == []
    page.set_viewport_size({"width": 820, "height": 1180})
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= 820
    for name in (".note", "#ask-button", "#viewer", "#list-button"):
        expect(page.locator(name)).to_be_visible()
    page.locator("#list-button").click()
    page.fill("#search", "no such slide")
    expect(page.locator(".slide")).to_have_count(0)
    page.fill("#search", "")
    page.locator(".slide").first.click()
    page.wait_for_function("() => !document.querySelector('#slides').classList.contains('shown')")
    shot(page, "room-tablet")


def test_a_failed_question_says_why_and_a_lost_server_loses_no_correction(page: Page, room: tuple[str, Any]) -> None:
    url, made = room
    ask(page, room)
    page.wait_for_selector("#sign")
    before = len(made.store.versions())
    page.fill("#initials", "CD")
    page.route("**/corrections", lambda route: route.abort())
    page.locator("#sign").click()
    page.wait_for_function("() => document.querySelector('#message').textContent.includes('Not sent yet')")
    assert len(made.store.versions()) == before
    page.unroute("**/corrections")
    with page.expect_response("**/corrections") as told:
        page.reload()
    assert told.value.status == 200
    assert len(made.store.versions()) == before + 1 and "CD" in {v.correction.reader for v in made.store.versions()}
