"""OHIF, as npm has it, over an Orthanc and in Debian's Chromium: one origin, no other network."""

import functools
import hashlib
import http.server
import json
import os
import shutil
import subprocess
import tarfile
import threading
import time
import urllib.parse
from pathlib import Path

import pytest
import requests

from tests.review import browser

VERSION = "3.12.10"
SHA512 = (
    "d24b85eba32af5cf5d303fbe6d4b138ccac9a57270699873f41e2e4b6e380dac"
    "008d2913c0860553dde9c4fb915108b16918bb4001e517715ed6ab9d06566b98"
)
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mammoscan-tests" / f"ohif-{VERSION}"
_SOURCE = {
    "friendlyName": "test", "name": "test", "wadoUriRoot": "/wado", "qidoRoot": "/dicom-web", "wadoRoot": "/dicom-web",
    "qidoSupportsIncludeField": False, "imageRendering": "wadors", "thumbnailRendering": "wadors",
    "enableStudyLazyLoad": True, "supportsFuzzyMatching": False, "supportsWildcard": True,
    "omitQuotationForMultipartRequest": True, "bulkDataURI": {"enabled": True},
}  # fmt: skip
_SETTINGS = {
    "routerBasename": None, "extensions": [], "modes": [], "customizationService": {}, "showStudyList": True,
    "maxNumberOfWebWorkers": 1, "showLoadingIndicator": True, "strictZSpacingForVolumeViewport": True,
    "maxNumRequests": {"interaction": 10, "thumbnail": 5, "prefetch": 5}, "investigationalUseDialog": {"option": "never"},
    "defaultDataSourceName": "dicomweb",
    "dataSources": [{
        "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb", "sourceName": "dicomweb",
        "configuration": _SOURCE,
    }],
}  # fmt: skip
PATIENCE = 180.0  # seconds until the program and a first picture are there
# The tour for newcomers would lie over everything.
CONFIG = f"localStorage.setItem('shownTours', '[\"basicViewerTour\"]'); window.config = {json.dumps(_SETTINGS)};"

# What is drawn over the picture of the viewport, in pixels of the page and of the image; what it is called.
_DRAWN = """
if (!window.services || !document.querySelector("[data-cy=viewport-overlay-top-left]")) return null;
const viewport = services.cornerstoneViewportService.getCornerstoneViewport(services.viewportGridService.getActiveViewportId());
if (!viewport || !viewport.getCurrentImageId) return null;
const image = viewport.getCurrentImageId();
if (!image) return null;
const points = (node) => node.getAttribute("points").trim().split(/\\s+(?=[-\\d.]+,)/).map((p) => p.split(",").map(Number));
const layer = viewport.element.querySelector("svg.svg-layer");
const lines = layer ? [...layer.querySelectorAll("polyline")].filter((n) => points(n).length > 2) : [];
return {
  image: image.match(/instances\\/([\\d.]+)/)[1],
  width: viewport.canvas.clientWidth, height: viewport.canvas.clientHeight,
  page: lines.map(points),
  pixels: lines.map((n) => points(n).map((p) => cornerstone.utilities.worldToImageCoords(image, viewport.canvasToWorld(p)))),
  captions: layer ? [...layer.querySelectorAll("text")].map((n) => [...n.children].map((c) => c.textContent)) : [],
};
"""

# Whether a series is what the viewport shows; of a report of marks, with the image of its first.
_OPENED = """
if (document.querySelector("[data-cy=viewport-grid]") === null) return true; // the page broke: troubles() says so
const active = services.viewportGridService.getActiveViewportId();
const shown = services.viewportGridService.getDisplaySetsUIDsForViewport(active) || [];
const one = shown.map((uid) => services.displaySetService.getDisplaySetByUID(uid)).find((s) => s.SeriesDescription === arguments[0]);
// What it says itself that it cannot show (presentation states) is not opened by a double click.
const listed = services.displaySetService.getActiveDisplaySets().find((s) => s.SeriesDescription === arguments[0]);
if (listed && listed.unsupported) return true;
if (!one) return false;
if (!one.isImagingMeasurementReport) return true;
const viewport = services.cornerstoneViewportService.getCornerstoneViewport(active);
return Boolean(one.measurements && viewport && viewport.getCurrentImageId() === one.measurements[0].imageId);
"""


def program() -> Path:
    """The folder of the built viewer, fetched once; the test is skipped where it cannot be."""
    built = CACHE / "package" / "dist"
    if (built / "index.html").exists():
        return built
    if shutil.which("npm") is None:
        pytest.skip("needs npm, to fetch @ohif/app")
    CACHE.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["npm", "pack", f"@ohif/app@{VERSION}", "--pack-destination", str(CACHE)],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"npm does not reach @ohif/app: {done.stderr.strip()[-200:]}")
    packed = CACHE / f"ohif-app-{VERSION}.tgz"
    assert hashlib.sha512(packed.read_bytes()).hexdigest() == SHA512
    with tarfile.open(packed) as tar:
        tar.extractall(CACHE / "whole", filter="data")
    (CACHE / "whole" / "package").rename(CACHE / "package")  # whole or not at all
    packed.unlink()
    return built


class _Handler(http.server.SimpleHTTPRequestHandler):
    """The viewer's files, and the DICOMweb server behind, as one origin."""

    protocol_version = "HTTP/1.1"
    behind = ""

    def log_message(self, *_):
        """Nothing on the terminal."""

    def _said(self, content: bytes, kind: str, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _asked_behind(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {k: v for k, v in self.headers.items() if k in {"Content-Type", "Accept"}}
        there = requests.request(self.command, self.behind + self.path, data=body, headers=headers, timeout=120)
        content, kind = there.content, there.headers.get("Content-Type", "")
        if "json" in kind:  # addresses of bulk data are the server's own
            port = self.behind.rsplit(":", 1)[1]
            for name in ("localhost", "127.0.0.1"):
                content = content.replace(f"http://{name}:{port}".encode(), f"http://{self.headers['Host']}".encode())
        self._said(content, kind, there.status_code)

    def do_POST(self):
        self._asked_behind()

    def do_GET(self):
        path = urllib.parse.urlsplit(self.path).path
        if path.startswith(("/dicom-web", "/wado")):
            self._asked_behind()
        elif path == "/app-config.js":
            self._said(CONFIG.encode(), "text/javascript")
        else:
            if not (Path(self.directory) / path.lstrip("/")).is_file():
                self.path = "/index.html"  # routes of the program
            super().do_GET()

    def end_headers(self):
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()


class Viewer:
    """OHIF over an Orthanc that runs, with the hands that a reader has."""

    def __init__(self, orthanc, folder: Path) -> None:
        self.folder, self.pictures = folder, 0
        handler = type("Behind", (_Handler,), {"behind": orthanc.root})
        self.server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), functools.partial(handler, directory=str(program()))
        )
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.root = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.browser = browser.Browser(folder / "browser", browser.DRAWING)

    def open(self, study: str) -> None:
        """A study, until its first picture and every series of the list is there."""
        self.browser.driver.get(f"{self.root}/viewer?StudyInstanceUIDs={study}")
        self.browser.until(lambda: self.drawn() is not None, "a picture", PATIENCE)
        self.browser.until(lambda: self._settled("return document.querySelectorAll('[data-cy^=study-browser]').length"))
        self.browser.complaints()

    def _settled(self, script: str):
        before = self.browser.js(script)
        time.sleep(1)
        return before and before == self.browser.js(script)

    def series(self) -> list[str]:
        """Descriptions of the series in the list that are no pictures."""
        return [one.text.split("\n")[1] for one in self._listed()]

    def _listed(self):
        return self.browser.all("[data-cy='study-browser-thumbnail-no-image']")

    def show(self, description: str) -> None:
        """Double click on a series of the list."""
        (one,) = (o for o in self._listed() if o.text.split("\n")[1] == description)
        browser.webdriver.ActionChains(self.browser.driver).double_click(one).perform()
        self.browser.until(lambda: self.browser.js(_OPENED, description), description, PATIENCE)
        self.browser.until(lambda: self._settled("return document.body.innerText"), description, PATIENCE)
        self.touch()

    def touch(self) -> None:
        """Move the mouse over the picture, as readers do: outlines are drawn then."""
        pane = self.browser.one("[data-cy='viewport-pane']")
        chain = browser.webdriver.ActionChains(self.browser.driver)
        chain.move_to_element_with_offset(pane, 10, 60).move_by_offset(7, 5).move_by_offset(-3, 8).perform()
        time.sleep(0.5)

    def arrow(self, forward: bool = True) -> None:
        """Press one of the arrows beside the name of the report."""
        arrows = self.browser.js(
            "return [...document.querySelectorAll('[data-cy=viewport-pane] title')].filter((n) => n.textContent === "
            "'arrow-left').map((n) => n.closest('div'))"
        )
        assert len(arrows) == 2
        arrows[int(forward)].click()
        self.touch()

    def drawn(self):
        return self.browser.js(_DRAWN)

    def words(self) -> str:
        return self.browser.js("return document.body.innerText")

    def troubles(self) -> list[str]:
        """Errors since this was asked last, of the console and of the page."""
        said = self.browser.driver.get_log("browser")
        # It takes offence at a source's EstimatedRadiographicMagnificationFactor of 1.
        found = [e["message"] for e in said if e["level"] == "SEVERE" and "Illegal ERMF value" not in e["message"]]
        found += [e["message"] for e in said if "No image URI found" in e["message"] or "rror Boundary" in e["message"]]
        return found + ["the page is empty"] * (not self.browser.all("[data-cy='viewport-grid']"))

    def picture(self) -> None:
        """A screenshot for people to look at."""
        self.pictures += 1
        self.browser.driver.save_screenshot(str(self.folder / f"{self.pictures:02d}.png"))

    def close(self) -> None:
        self.browser.close()
        self.server.shutdown()
        self.server.server_close()
