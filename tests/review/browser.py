"""Debian's Chromium over a folder of pages, from its files or over HTTP, with all that it asked for and complained of."""

import contextlib
import functools
import http.server
import json
import shutil
import threading
import time
from pathlib import Path

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
try:
    from selenium import webdriver
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
except ImportError:
    webdriver = None
MISSING = (
    "needs Debian's packages chromium and chromium-driver, which .ci/run installs"
    if not (CHROMIUM and DRIVER)
    else "needs selenium, of the extra `test`"
    if webdriver is None
    else ""
)
ARGUMENTS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--force-device-scale-factor=1",
    "--window-size=1600,1000",
)  # fmt: skip
# WebGL in software, for pages that draw with it; names that are not this machine's lead nowhere.
DRAWING = (
    *(argument for argument in ARGUMENTS if argument != "--disable-gpu"), "--use-gl=angle", "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)  # fmt: skip
PATIENCE = 60.0  # seconds: the machine may be busy


class Browser:
    """A browser of its own, with the few hands that a reader has."""

    def __init__(self, folder: Path, arguments: tuple[str, ...] = ARGUMENTS) -> None:
        self.downloads = folder / "downloads"
        self.downloads.mkdir(parents=True)
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for argument in (*arguments, f"--user-data-dir={folder / 'profile'}"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        options.add_experimental_option(
            "prefs", {"download.default_directory": str(self.downloads), "download.prompt_for_download": False}
        )
        self.driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))

    def open(self, address: str) -> float:
        """Open a page; seconds until the list or a study is drawn."""
        self.driver.get("about:blank")
        began = time.perf_counter()
        self.driver.get(address)
        self.wait("table.list tbody tr, .grid")
        return time.perf_counter() - began

    def all(self, selector: str) -> list:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str):
        (found,) = self.all(selector)
        return found

    def texts(self, selector: str) -> list[str]:
        return self.js("return [...document.querySelectorAll(arguments[0])].map((n) => n.textContent)", selector)

    def js(self, script: str, *arguments):
        return self.driver.execute_script(script, *arguments)

    def wait(self, selector: str):
        return self.until(lambda: self.all(selector), selector)

    def until(self, holds, what: str = "it", patience: float = PATIENCE):
        end = time.monotonic() + patience
        while time.monotonic() < end:
            if found := holds():
                return found
            time.sleep(0.02)
        raise AssertionError(f"waited in vain for {what}")

    def keys(self, text: str) -> None:
        webdriver.ActionChains(self.driver).send_keys(text).perform()

    def drag(self, element, start, end) -> None:
        """Press at one place of an element, shares of its width and height from its corner, and let go at another."""
        size = element.size
        at = [(round((x - 0.5) * size["width"]), round((y - 0.5) * size["height"])) for x, y in (start, end)]
        chain = (
            webdriver.ActionChains(self.driver, duration=0)
            .move_to_element_with_offset(element, *at[0])
            .click_and_hold()
        )
        chain.move_to_element_with_offset(element, *at[1]).release().perform()

    def button(self, text: str):
        (found,) = (b for b in self.all("button") if b.text == text)
        return found

    def complaints(self) -> list[str]:
        """What the console holds since it was asked last."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def asked_for(self) -> set[str]:
        """Addresses that were asked for since this was asked last, but for those that lie in the page itself."""
        messages = (json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance"))
        asked = {m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"}
        return {address for address in asked if not address.startswith(("data:", "blob:", "about:", "chrome"))}

    def close(self) -> None:
        self.driver.quit()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """Nothing on the terminal."""


@contextlib.contextmanager
def served(folder: Path):
    """The folder over HTTP; its address."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


__all__ = ["DRAWING", "MISSING", "Browser", "By", "Keys", "served", "webdriver"]
