"""The status page in a real browser. Needs Debian's chromium (apt-get install chromium); skips where there is none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.directory import mail

from page.browser import CHROMIUM, Browser
from page.conftest import Scene

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium")

CONTRAST = """
(() => {
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c } return [255, 255, 255] };
  const weak = [];
  for (const e of document.querySelectorAll('body *')) {
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()) || !e.checkVisibility() || e.tagName === 'title') continue;
    const style = getComputedStyle(e), text = light(rgb(e.closest('svg') ? style.fill : style.color)), under = light(ground(e));
    const ratio = (Math.max(text, under) + 0.05) / (Math.min(text, under) + 0.05);
    if (ratio < 4.5) weak.push(`${e.tagName}.${e.className.baseVal ?? e.className} ${ratio.toFixed(2)} ${e.textContent.slice(0, 30)}`);
  }
  return weak;
})()
"""
"""Every text that is seen with a contrast under 4.5 (WCAG 2.2, 1.4.3, AA)."""
WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as running:
        yield running


def test_from_the_door_to_a_dead_key(scene: Scene, browser: Browser) -> None:
    """Logged out shows nothing; log in by keyboard, read the plan, approve with the mouse; nothing from elsewhere."""
    base = f"http://127.0.0.1:{scene.served.port}"
    token = scene.served.token()["token"]
    browser.requested.clear()
    browser.look(1280, 800)
    browser.go(f"{base}/holds")
    assert "Log in" in browser.text
    assert mail("leo") not in browser.ask("document.documentElement.outerHTML")
    browser.write("#token", token)
    browser.enter()
    assert browser.path == "/holds"
    assert browser.ask("document.cookie") == "", "no script could read it"
    browser.click("table a[href^='/holds/']")
    assert mail("leo") in browser.text
    browser.click("a.button.approve")
    browser.tick("#sure")
    assert scene.gateway.answers(scene.leo.keys) == {200}
    browser.click("form button.approve")
    assert (browser.path, "operator:ada" in browser.text) == (scene.path, True)
    scene.served.home.wait_until_verified("leo")
    scene.gateway.assert_gone(scene.leo)
    browser.go(base)
    browser.click("header form button")
    assert "Log in" in browser.text
    assert browser.origins() == {base}
    assert not [line for line in browser.said if "401" not in line], "the browser had nothing to complain about"
    browser.ask(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = 1'}))"
    )
    assert browser.ask("typeof window.ran") == "undefined", "a script that got in would not run"


def test_it_can_be_looked_at(scene: Scene, browser: Browser, tmp_path: Path) -> None:
    """Every page on a phone and on a screen, light and dark: nothing to scroll sideways, every text in contrast."""
    home, base = scene.served.home, f"http://127.0.0.1:{scene.served.port}"
    folder = Path(os.environ.get("IDSYNC_SCREENSHOTS", tmp_path))
    home.revoke("ann")
    home.wait_until_verified("ann")
    paths = {"home": "/", "departures": "/departures", "hold": scene.path, "health": "/components"}
    paths["departure"] = f"/departures/{home.departure('ann').id}"
    token = scene.served.token()["token"]
    browser.look(360, 800)
    browser.go(f"{base}/")
    browser.picture(folder / "door.png")
    browser.write("#token", token)
    browser.enter()
    browser.go(f"{base}{scene.path}")
    paths["question"] = str(browser.ask("document.querySelector('a.button.approve').getAttribute('href')"))
    for name, path in paths.items():
        for width in (360, 1280):
            for dark in (False, True):
                browser.look(width, 800, dark=dark)
                browser.go(base + path)
                assert browser.ask(WIDER) <= 0, f"{name} at {width} is wider than the screen"
                assert browser.ask(CONTRAST) == [], f"{name} at {width}, dark={dark}"
                browser.picture(folder / f"{name}-{width}-{'dark' if dark else 'light'}.png")
    browser.look(360, 800)
    browser.go(base)
    browser.key("Tab")
    skip = "(e => [e.className, e.getBoundingClientRect().left >= 0, getComputedStyle(e).outlineStyle])(document.activeElement)"
    assert browser.ask(skip) == ["skip", True, "solid"], "the first stop of the keyboard leads past the navigation"
