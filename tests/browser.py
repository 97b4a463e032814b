"""A headless Chromium, driven over its debugging pipe: scripts, keys, taps, sizes of the window, and pictures."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import tempfile
from pathlib import Path

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = next(filter(None, map(shutil.which, PROGRAMS)), None)
# Without these, a container's small /dev/shm and missing privileges end the browser.
OPTIONS = ("--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
           "--no-first-run", "--disable-extensions", "--mute-audio", "--hide-scrollbars", "--force-color-profile=srgb")  # fmt: skip


def _high(file: int) -> int:
    """The same open file under a number that the browser's own, 3 and 4, cannot replace."""
    found = fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(file)
    return found


class Browser:
    """One page of a browser. ``errors`` are its exceptions, and what its console reports as errors or warnings."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="perfmodel-browser-", ignore_cleanup_errors=True)
        commands, self._write = map(_high, os.pipe())
        self._read, answers = map(_high, os.pipe())
        arguments = [str(CHROMIUM), *OPTIONS, f"--user-data-dir={self._folder.name}", "about:blank"]
        actions = [(os.POSIX_SPAWN_DUP2, commands, 3), (os.POSIX_SPAWN_DUP2, answers, 4),
                   (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)]  # fmt: skip
        self._process = os.posix_spawn(arguments[0], arguments, os.environ, file_actions=actions)
        os.close(commands)
        os.close(answers)
        self._rest, self._number, self._session = b"", 0, None
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._events: list[dict] = []
        target = next(one for one in self.send("Target.getTargets")["targetInfos"] if one["type"] == "page")
        self._session = self.send("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self.send("Browser.close")
        os.close(self._write)
        os.waitpid(self._process, 0)
        os.close(self._read)
        self._folder.cleanup()

    def send(self, method: str, **params: object) -> dict:
        """Returns the result of a command of the DevTools protocol."""
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            found = self._message()
            if found.get("id") == number:
                if "error" in found:
                    raise RuntimeError(f"{method}: {found['error']['message']}")
                return found["result"]

    def _message(self) -> dict:
        while b"\0" not in self._rest:
            part = os.read(self._read, 1 << 20)
            if not part:
                raise RuntimeError("the browser has ended")
            self._rest += part
        text, _, self._rest = self._rest.partition(b"\0")
        found = json.loads(text)
        self._note(found.get("method", ""), found.get("params", {}))
        return found

    def _note(self, method: str, params: dict) -> None:
        self._events.append({"method": method})
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.errors.append(" ".join(str(one.get("value", one.get("description"))) for one in params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.errors.append(params["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])

    def open(self, address: str) -> None:
        """Opens an address and waits until the page has loaded."""
        self._events.clear()
        self.send("Page.navigate", url=address)
        while not any(one["method"] == "Page.loadEventFired" for one in self._events):
            self._message()

    def run(self, script: str) -> object:
        """Returns the value of an expression; promises are awaited."""
        found = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            details = found["exceptionDetails"]
            raise RuntimeError(details.get("exception", {}).get("description") or details["text"])
        return found["result"].get("value")

    def window(self, width: int, height: int, *, dark: bool = False, phone: bool = False) -> None:
        """Sets the size of the window, and whether the system prefers dark colours."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send(
            "Emulation.setEmulatedMedia", features=[scheme, {"name": "prefers-reduced-motion", "value": "reduce"}]
        )

    def key(self, name: str, **more: object) -> None:
        """Presses and releases a key."""
        codes = {"Tab": 9, "Enter": 13, "ArrowRight": 39, "ArrowLeft": 37, " ": 32, "Escape": 27}
        common = {"key": name, "windowsVirtualKeyCode": codes.get(name, 0), "code": name, **more}
        text = {"text": "\r" if name == "Enter" else name} if name in ("Enter", " ") else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", **text, **common)
        self.send("Input.dispatchKeyEvent", type="keyUp", **common)

    def picture(self, path: Path, *, whole: bool = True) -> None:
        """Writes a picture of the page, of its whole height if ``whole``."""
        size = self.send("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}} if whole else {}
        data = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole, **clip)["data"]
        path.write_bytes(base64.b64decode(data))
