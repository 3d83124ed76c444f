"""A headless Chromium that keeps account of what pages do wrong."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--disable-extensions", "--hide-scrollbars",
)  # fmt: skip
_ALLOWED = ("file:", "data:", "blob:")


def find_chromium() -> tuple[str, str]:
    """Returns the browser and its driver; skips without them, but fails where CI is set."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    if browser is not None and driver is not None:
        return browser, driver
    reason = "needs Debian's packages chromium and chromium-driver"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


class Browser:
    """One window; `problems` collects console errors and requests that leave the page."""

    def __init__(self, profile: Path) -> None:
        browser, driver = find_chromium()
        options = webdriver.ChromeOptions()
        options.binary_location = browser
        for flag in (*_FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(driver))
        self.driver.set_script_timeout(60)
        # The browser's own first page is none of ours.
        self.driver.get("about:blank")
        self.problems()
        self.resize(1400, 900)

    def close(self) -> None:
        self.driver.quit()

    def resize(self, width: int, height: int, *, dark: bool = False) -> None:
        """Sets the size of the window's inside, and the colours that its user prefers."""
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def open(self, path: Path) -> None:
        """Opens a page from disk and waits until it is ready."""
        self.driver.get(path.as_uri())
        self.wait("document.body.dataset.ready === 'yes'")

    def wait(self, condition: str, seconds: float = 60) -> None:
        """Waits until a JavaScript expression is true."""
        until = time.monotonic() + seconds
        while not self.run(f"return Boolean({condition})"):
            if time.monotonic() > until:
                raise AssertionError(f"never true: {condition}; {self.problems()}")
            time.sleep(0.05)

    def run(self, script: str, *arguments: Any) -> Any:
        """Runs JavaScript in the page and returns its result."""
        return self.driver.execute_script(script, *arguments)

    def problems(self) -> list[str]:
        """Returns and forgets console errors, exceptions, and requests that leave the page."""
        found = [
            entry["message"]
            for entry in self.driver.get_log("browser")
            if entry["level"] in ("SEVERE", "ERROR")
        ]
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] in ("Network.requestWillBeSent", "Network.webSocketCreated"):
                parameters = message["params"]
                url = parameters.get("request", parameters)["url"]
                found += [] if url.startswith(_ALLOWED) else [f"request of {url[:200]}"]
        return found
