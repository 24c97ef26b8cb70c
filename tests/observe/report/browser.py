"""A real browser without a window: Chromium, driven over WebDriver with nothing but the standard library."""

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DRIVER, CHROMIUM = shutil.which("chromedriver"), shutil.which("chromium")
MISSING = "no chromium and chromedriver here: apt-get install chromium chromium-driver"
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
)


class Browser:
    """One tab."""

    def __init__(self, port: int, profile: Path) -> None:
        self._url = f"http://127.0.0.1:{port}/session"
        options = {"binary": CHROMIUM, "args": [*FLAGS, f"--user-data-dir={profile}"]}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        found = self._post("", {"capabilities": {"alwaysMatch": wanted}})
        self._url += "/" + found["sessionId"]

    def open(self, page: Path, width: int, dark: bool = False) -> None:
        """Show a file in a window of ``width`` pixels, without network."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.command("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", features=[scheme])
        self.command("Network.enable")
        self.command(
            "Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0
        )
        self._post("/url", {"url": page.absolute().as_uri()})

    def evaluate(self, script: str) -> Any:
        """What a script returns."""
        return self._post("/execute/sync", {"script": script, "args": []})

    def messages(self) -> list[str]:
        """What came to the console since the last call."""
        return [entry["message"] for entry in self._post("/se/log", {"type": "browser"})]

    def screenshot(self, file: Path) -> None:
        """The whole page as a PNG."""
        shot = self.command("Page.captureScreenshot", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(shot["data"]))

    def command(self, name: str, **parameters: Any) -> Any:
        """A command of the DevTools protocol."""
        return self._post("/goog/cdp/execute", {"cmd": name, "params": parameters})

    def close(self) -> None:
        """End the browser."""
        with urllib.request.urlopen(urllib.request.Request(self._url, method="DELETE"), timeout=60):
            pass

    def _post(self, path: str, body: dict) -> Any:
        request = urllib.request.Request(
            self._url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=240) as response:
            return json.load(response)["value"]


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """Start one, and end it."""
    assert DRIVER is not None, MISSING
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    driver = subprocess.Popen([DRIVER, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(port)
        tab = Browser(port, profile)
        try:
            yield tab
        finally:
            tab.close()
    finally:
        driver.terminate()
        driver.wait(30)


def _wait(port: int) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=5):
                return
        except (urllib.error.URLError, ConnectionError):
            assert time.monotonic() < deadline, "chromedriver does not answer"
            time.sleep(0.1)
