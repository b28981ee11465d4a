"""A real browser: Debian's chromium without a screen, spoken to by the DevTools protocol, every request of it noted."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import aiohttp
from support.waiting import until

T = TypeVar("T")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS: tuple[str, ...] = (
    "--headless=new",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-sync",
)
FLAGS += ("--disable-component-update", "--disable-dev-shm-usage", "--remote-debugging-port=0", "--hide-scrollbars")


class Browser:
    """One browser with one page. `requested` is every address it has asked for something, `said` its complaints."""

    def __init__(self) -> None:
        self.requested: list[str] = []
        self.said: list[str] = []
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="browser", daemon=True)

    def __enter__(self) -> Self:
        assert CHROMIUM is not None
        self._folder = Path(tempfile.mkdtemp(prefix="idsync-browser-"))
        root = ("--no-sandbox",) if os.geteuid() == 0 else ()  # chromium's own sandbox refuses to run as root
        line = [CHROMIUM, *FLAGS, *root, f"--user-data-dir={self._folder}", "about:blank"]
        self._process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._thread.start()
        told = self._folder / "DevToolsActivePort"
        until(lambda: told.exists() and told.read_text().count("\n"), "chromium listens")
        self._run(self._connect(int(told.read_text().split("\n")[0])))
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.tell(f"{domain}.enable")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    # -- the wire ---------------------------------------------------------------------------------------------------

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _connect(self, port: int) -> None:
        self._http = aiohttp.ClientSession()
        async with self._http.get(f"http://127.0.0.1:{port}/json") as answer:
            [page] = [target for target in await answer.json() if target["type"] == "page"]
        self._socket = await self._http.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0)
        self._reading = asyncio.create_task(self._read())

    async def _close(self) -> None:
        self._reading.cancel()
        await self._http.close()

    async def _read(self) -> None:
        async for message in self._socket:
            told = json.loads(message.data)
            if "id" in told:
                self._answers.pop(told["id"]).set_result(told)
            elif told["method"] == "Network.requestWillBeSent":
                self.requested.append(told["params"]["request"]["url"])
            elif told["method"] == "Log.entryAdded":
                self.said.append(told["params"]["entry"]["text"])

    async def _tell(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        number = next(self._numbers)
        self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": params})
        return await self._answers[number]

    def tell(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command of the protocol and return its result."""
        told = self._run(self._tell(method, params))
        assert "error" not in told, told
        result: dict[str, Any] = told["result"]
        return result

    # -- what a person does -------------------------------------------------------------------------------------------

    def ask(self, script: str) -> Any:
        """Return what an expression is in the page; the page itself has no script."""
        found = self.tell("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def go(self, address: str) -> None:
        self._leaving()
        failed = self.tell("Page.navigate", url=address).get("errorText")
        assert not failed, f"{address}: {failed}"
        self._arrived()

    def click(self, selector: str) -> None:
        """Click on what is there with the mouse, and wait for the page that follows."""
        place = "(e => { e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2] })"
        x, y = self.ask(f"{place}(document.querySelector({json.dumps(selector)}))")
        self._leaving()
        for kind in ("mousePressed", "mouseReleased"):
            self.tell("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
        self._arrived()

    def tick(self, selector: str) -> None:
        self.ask(f"document.querySelector({json.dumps(selector)}).focus()")
        self.key(" ")

    def write(self, selector: str, text: str) -> None:
        self.ask(f"document.querySelector({json.dumps(selector)}).focus()")
        self.tell("Input.insertText", text=text)

    def key(self, key: str) -> None:
        """Press a key."""
        codes = {"Tab": 9, "Enter": 13, " ": 32}
        more = {"text": "\r"} if key == "Enter" else {"text": " "} if key == " " else {}
        pressed = {"key": key, "windowsVirtualKeyCode": codes[key], **more}
        self.tell("Input.dispatchKeyEvent", type="keyDown", **pressed)
        self.tell("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=codes[key])

    def enter(self) -> None:
        """Press Enter, and wait for the page that follows."""
        self._leaving()
        self.key("Enter")
        self._arrived()

    def _leaving(self) -> None:
        self.ask("window.isOldPage = true")

    def _arrived(self) -> None:
        until(
            lambda: self.ask("!window.isOldPage && document.readyState === 'complete'"),
            "the next page is there",
            told=self._here,
        )

    def _here(self) -> Any:
        return [self.ask("[location.href, document.readyState, window.isOldPage]"), self.requested[-3:], self.said[-3:]]

    @property
    def path(self) -> str:
        return urlsplit(str(self.ask("location.href"))).path

    @property
    def text(self) -> str:
        return str(self.ask("document.body.innerText"))

    def look(self, width: int, height: int, *, dark: bool = False) -> None:
        """Be a screen of that size, with light or dark colours."""
        self.tell(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.tell("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, file: Path) -> None:
        """Save what the whole page looks like."""
        shot = self.tell("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(shot["data"]))

    def origins(self) -> set[str]:
        """Return where anything was asked for."""
        return {f"{part.scheme}://{part.netloc}" for part in map(urlsplit, self.requested) if part.scheme != "about"}
