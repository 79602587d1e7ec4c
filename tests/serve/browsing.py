"""The page in Debian's Chromium: how a test opens it, looks at it and takes its picture.

With EOSIN_SCREENSHOTS=FOLDER the pictures of docs/serve.md are written there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

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


def write_tissue(root: Path, *names: str) -> Path:
    """Slides with tissue in their middle; the slides of EOSIN_SCREENSHOT_SLIDES in their place where that is given."""
    for given in sorted(Path(os.environ.get("EOSIN_SCREENSHOT_SLIDES", "/nowhere")).glob("*.*")):
        shutil.copy(given, root)
    if not list(root.iterdir()):
        y, x = np.mgrid[0 : SIZE[1], 0 : SIZE[0]]
        tissue = ((x - 800) / 600) ** 2 + ((y - 600) / 450) ** 2 < 1
        noise = np.random.default_rng(0).integers(-20, 20, (*tissue.shape, 3))
        pixels = np.where(tissue[..., None], np.array([190, 90, 150]), np.array([242, 240, 243])) + noise
        for name in names:
            tifffile.imwrite(root / name, pixels.clip(0, 255).astype(np.uint8), tile=(256, 256), photometric="rgb",
                             resolution=(20000, 20000), resolutionunit=3, compression="jpeg")  # fmt: skip
    return root


@contextmanager
def a_browser() -> Iterator[Browser]:
    with sync_playwright() as play:
        found = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@contextmanager
def a_page(browser: Browser, url: str) -> Iterator[Page]:
    """A page whose faults fail the test, and which can reach nothing but the server."""
    size = {"width": 1280, "height": 800}
    context = browser.new_context(viewport=size, accept_downloads=True, reduced_motion="reduce")  # type: ignore[arg-type]
    opened = context.new_page()
    opened.set_default_timeout(LONG_MS)
    expect.set_options(timeout=LONG_MS)
    faults: list[str] = []
    opened.on("pageerror", lambda e: faults.append(str(e)))
    opened.on("console", lambda m: faults.append(m.text) if m.type == "error" and CUT not in m.text else None)
    opened.on("request", lambda r: None if r.url.startswith((url, "blob:")) else faults.append(f"outside: {r.url}"))
    yield opened
    context.close()
    assert not faults, "\n".join(faults)


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
