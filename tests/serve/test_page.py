"""The page in Debian's Chromium: opened, asked, corrected, signed, exported, reloaded; by mouse and by keys.

With EOSIN_SCREENSHOTS=FOLDER the pictures of docs/serve.md are written there.
"""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from tests.serve.scripted import scripted_engine, scripted_room
from tests.serve.served import serving

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
if CHROMIUM is None:
    pytest.skip("no chromium on this machine (apt-get install chromium)", allow_module_level=True)

from playwright.sync_api import Browser, Page, expect, sync_playwright  # noqa: E402

LONG_MS = 120_000
CUT = "net::ERR_FAILED"  # what the browser says of a request that a test cuts
SIZE = (1600, 1200)
AXE = """() => {
  const named = (e) => (e.getAttribute('aria-label') || e.title || e.textContent || e.placeholder || '').trim()
    || e.labels && e.labels.length;
  const shown = (e) => e.offsetParent !== null;
  const faults = [];
  for (const e of document.querySelectorAll('button, input, textarea, select, a[href]'))
    if (shown(e) && !named(e)) faults.push('no name: ' + e.outerHTML.slice(0, 80));
  const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);
  if (new Set(ids).size < ids.length) faults.push('an id twice');
  for (const e of document.querySelectorAll('img')) if (!e.hasAttribute('alt')) faults.push('no alt');
  const light = (c) => { const v = c.match(/[0-9.]+/g).map(Number).slice(0, 3).map((x) => x / 255)
    .map((x) => x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
    return 0.2126 * v[0] + 0.7152 * v[1] + 0.0722 * v[2]; };
  const back = (e) => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
    if (!/^rgba.*, 0\\)$|transparent/.test(c)) return c; } return 'rgb(255, 255, 255)'; };
  for (const e of document.querySelectorAll('p, h1, h2, button, label, span, summary, li, dt, dd, .said, .sure')) {
    if (!shown(e) || !e.textContent.trim() || e.disabled || e.closest('[disabled]')) continue;
    const a = light(getComputedStyle(e).color), b = light(back(e));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) faults.push(ratio.toFixed(2) + ': ' + e.className + ' ' + e.textContent.trim().slice(0, 40));
  }
  return faults;
}"""
"""What matters most of axe's rules, without a file of another project: names, ids, alternatives, contrast of 4.5."""


WATCH = """() => {
  window.seenBlocks = [];
  const look = () => { for (const p of document.querySelectorAll('#reading .stream[data-block]'))
    if (!window.seenBlocks.includes(p.dataset.block)) window.seenBlocks.push(p.dataset.block); };
  new MutationObserver(look).observe(document.querySelector('#reading'), { childList: true, subtree: true });
}"""
"""Notes which blocks were streamed, in order: a busy machine may look too late for itself."""


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slide with tissue in its middle, and the slide of EOSIN_SCREENSHOT_SLIDES in its place where that is given."""
    root = tmp_path_factory.mktemp("slides")
    for given in sorted(Path(os.environ.get("EOSIN_SCREENSHOT_SLIDES", "/nowhere")).glob("*.*")):
        shutil.copy(given, root)
    if not list(root.iterdir()):
        y, x = np.mgrid[0 : SIZE[1], 0 : SIZE[0]]
        tissue = ((x - 800) / 600) ** 2 + ((y - 600) / 450) ** 2 < 1
        noise = np.random.default_rng(0).integers(-20, 20, (*tissue.shape, 3))
        pixels = np.where(tissue[..., None], np.array([190, 90, 150]), np.array([242, 240, 243])) + noise
        for name in ("a.tif", "b.tif"):
            tifffile.imwrite(root / name, pixels.clip(0, 255).astype(np.uint8), tile=(256, 256), photometric="rgb",
                             resolution=(20000, 20000), resolutionunit=3, compression="jpeg")  # fmt: skip
    return root


@pytest.fixture(scope="module")
def room(slides: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Any]]:
    made = scripted_room(tmp_path_factory.mktemp("store") / "c.sqlite")
    with serving(scripted_engine(0.03), made, slides=slides) as (url, _):
        yield url, made


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as play:
        found = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def page(browser: Browser, room: tuple[str, Any]) -> Iterator[Page]:
    """A page whose faults fail the test, and which can reach nothing but the server."""
    size = {"width": 1280, "height": 800}
    context = browser.new_context(viewport=size, accept_downloads=True, reduced_motion="reduce")  # type: ignore[arg-type]
    opened = context.new_page()
    opened.set_default_timeout(LONG_MS)
    expect.set_options(timeout=LONG_MS)
    faults: list[str] = []
    opened.on("pageerror", lambda e: faults.append(str(e)))
    opened.on("console", lambda m: faults.append(m.text) if m.type == "error" and CUT not in m.text else None)
    opened.on("request", lambda r: None if r.url.startswith((room[0], "blob:")) else faults.append(f"outside: {r.url}"))
    yield opened
    context.close()
    assert faults == []


def shot(page: Page, name: str) -> None:
    """A picture for the docs, where they are asked for."""
    if out := os.environ.get("EOSIN_SCREENSHOTS"):
        png = Path(out) / f"{name}.png"
        page.screenshot(path=png)
        picture = Image.open(png).convert("RGB")
        picture.thumbnail((960, 1400))
        picture.save(png.with_suffix(".jpg"), quality=70, optimize=True)
        png.unlink()


def ink(page: Page, layer: str) -> int:
    """Pixels of a canvas that are not clear."""
    script = """(s) => { const c = document.querySelector(s);
      const all = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
      return all.filter((v, i) => i % 4 === 3 && v).length; }"""
    return int(page.evaluate(script, layer))


def ask(page: Page, room: tuple[str, Any]) -> None:
    page.goto(room[0])
    page.locator(".slide").last.click()
    page.locator("#usual button").first.click()
    page.evaluate(WATCH)
    page.keyboard.press("Control+Enter")


def test_from_a_slide_to_a_signed_correction(page: Page, room: tuple[str, Any], tmp_path: Path) -> None:
    url, made = room
    ask(page, room)
    page.wait_for_selector("#sign")
    # the whole reading may take the place of the last block before the page is drawn again
    assert page.evaluate("window.seenBlocks") in (["findings", "reasoning"], ["findings", "reasoning", "answer"])
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
