"""Headless Chromium over its own pipe: pages are opened, pressed and looked at as a reader would."""

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Browser:
    """One tab. Faults that the page raises or logs are collected in ``faults``, what it asks for in ``requests``."""

    def __init__(self) -> None:
        assert CHROMIUM
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()
        words = [
            CHROMIUM, "--headless=new", "--remote-debugging-pipe", f"--user-data-dir={self._profile.name}",
            "--no-first-run", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
            *(["--no-sandbox"] if os.getuid() == 0 else []), "about:blank",
        ]  # fmt: skip

        def pipes() -> None:  # Chromium reads commands from 3 and writes to 4
            first, second = os.dup(to_read), os.dup(to_write)
            os.dup2(first, 3)
            os.dup2(second, 4)

        self._process = subprocess.Popen(
            words, preexec_fn=pipes, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(to_read)
        os.close(to_write)
        self._number, self._rest = 0, b""
        self._session: str | None = None
        self.faults: list[str] = []
        self.requests: list[str] = []
        (tab, *_) = [one for one in self.do("Target.getTargets")["targetInfos"] if one["type"] == "page"]
        self._session = self.do("Target.attachToTarget", targetId=tab["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.do(f"{domain}.enable")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError, EOFError):
            self._session = None
            self.do("Browser.close")
        self._process.wait(30)
        os.close(self._read)
        os.close(self._write)
        self._profile.cleanup()

    def _messages(self) -> Iterator[dict[str, Any]]:
        while True:
            while b"\0" not in self._rest:
                piece = os.read(self._read, 1 << 16)
                if not piece:
                    raise EOFError("the browser is gone")
                self._rest += piece
            text, _, self._rest = self._rest.partition(b"\0")
            message = json.loads(text)
            name, found = message.get("method"), message.get("params", {})
            if name == "Runtime.exceptionThrown":
                self.faults.append(str(found["exceptionDetails"].get("exception", found)))
            elif name == "Runtime.consoleAPICalled" and found["type"] in ("error", "warning", "assert"):
                self.faults.append(str(found["args"]))
            elif name == "Log.entryAdded" and found["entry"]["level"] in ("error", "warning"):
                self.faults.append(found["entry"]["text"])
            elif name == "Network.requestWillBeSent":
                self.requests.append(found["request"]["url"])
            yield message

    def do(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command of the DevTools protocol and return its result."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            command["sessionId"] = self._session
        data = json.dumps(command).encode() + b"\0"
        while data:
            data = data[os.write(self._write, data) :]
        for message in self._messages():
            if message.get("id") == self._number:
                assert "error" not in message, (method, message["error"])
                return message["result"]
        raise AssertionError

    def open(self, page: Path | str, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Open a file or an address at a size, and wait until it is loaded."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.do("Emulation.setEmulatedMedia", features=scheme)
        self.do("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.do("Page.navigate", url=page if isinstance(page, str) else page.absolute().as_uri())
        for message in self._messages():
            if message.get("method") == "Page.loadEventFired":
                return

    def evaluate(self, script: str) -> Any:
        """Return the value of an expression in the page; a promise is waited for."""
        found = self.do("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def press(self, key: str) -> None:
        """Press and release a key, such as Tab or Enter."""
        codes = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32}
        text = {"Enter": "\r", " ": " "}.get(key, "")
        down = {"type": "keyDown" if text else "rawKeyDown", "key": key, "windowsVirtualKeyCode": codes[key]}
        self.do("Input.dispatchKeyEvent", **down, **({"text": text} if text else {}))
        self.do("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=codes[key])

    def type(self, text: str) -> None:
        """Type text into the field that has the focus."""
        for character in text:
            self.do("Input.dispatchKeyEvent", type="keyDown", key=character, text=character)
            self.do("Input.dispatchKeyEvent", type="keyUp", key=character)

    def wait(self, script: str, seconds: float = 60) -> None:
        """Wait until an expression is true in the page."""
        end = time.monotonic() + seconds
        while not self.evaluate(script):
            assert time.monotonic() < end, f"not true after {seconds} s: {script}"
            time.sleep(0.05)

    def picture(self, path: Path, whole: bool = True) -> None:
        """Save a picture of the page as PNG."""
        import base64

        data = self.do("Page.captureScreenshot", format="png", captureBeyondViewport=whole, **self._clip(whole))
        path.write_bytes(base64.b64decode(data["data"]))

    def _clip(self, whole: bool) -> dict[str, Any]:
        if not whole:
            return {}
        size = self.do("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}}

    def paper(self, path: Path) -> None:
        """Save the page as it prints."""
        import base64

        path.write_bytes(base64.b64decode(self.do("Page.printToPDF", preferCSSPageSize=True)["data"]))
