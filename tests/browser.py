"""Headless Chromium for tests: opens pages, runs scripts in them, keeps their errors, takes pictures.

It is driven by the DevTools protocol through a pair of pipes (--remote-debugging-pipe): messages of JSON, each ended by
a zero byte. See https://chromedevtools.github.io/devtools-protocol/.
"""

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
SWITCHES = (
    "--headless", "--no-sandbox", "--remote-debugging-pipe", "--disable-gpu", "--disable-dev-shm-usage",
    "--disable-extensions", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-breakpad", "--no-first-run", "--no-default-browser-check", "--password-store=basic", "--mute-audio",
    "--hide-scrollbars",
)  # fmt: skip
SECONDS = 60  # for an answer; two busy cores start Chromium slowly


class Page:
    """One page that is open; `errors` are what its console showed of errors, `requests` the addresses it asked for."""

    def __init__(self, browser: "Browser", session: str):
        self.browser, self.session = browser, session
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.loaded = False

    def evaluate(self, expression: str):
        """The value of a JavaScript expression, as JSON would carry it; a promise is awaited."""
        told = self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in told, described(told["exceptionDetails"])
        return told["result"].get("value")

    def dom(self) -> str:
        """The document as scripts have left it."""
        return self.evaluate("document.documentElement.outerHTML")

    def screenshot(self, path: Path, whole: bool = True) -> Path:
        """Write a PNG of the whole page, or of what the window shows."""
        told = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(told["data"]))
        return path

    def resize(self, width: int, height: int) -> None:
        """Give the window this size; below 600 pixels wide it is a phone's."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.send("Emulation.setDeviceMetricsOverride", **size)

    def colours(self, scheme: str) -> None:
        """Prefer a `light` or a `dark` colour scheme."""
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def send(self, method: str, **parameters: object) -> dict:
        """Call a method of the protocol in this page; its result. What happened before it is in the fields then."""
        return self.browser.send(method, parameters, self.session)

    def note(self, method: str, told: dict) -> None:
        """Take in an event."""
        match method:
            case "Page.loadEventFired":
                self.loaded = True
            case "Network.requestWillBeSent" if not told["request"]["url"].startswith(("data:", "blob:")):
                self.requests.append(told["request"]["url"])
            case "Runtime.exceptionThrown":
                self.errors.append(described(told["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if told["type"] in ("error", "assert"):
                self.errors.append(" ".join(str(each.get("value", each.get("description"))) for each in told["args"]))
            case "Log.entryAdded" if told["entry"]["level"] == "error":
                self.errors.append(f"{told['entry']['text']} ({told['entry'].get('url', '')})")


class Browser:
    """A Chromium that runs, with a profile of its own; `with` ends it and all of its processes."""

    def __init__(self):
        self.program = chromium()
        self.stack, self.pages, self.number, self.buffer = contextlib.ExitStack(), {}, 0, b""

    def __enter__(self) -> "Browser":
        profile = self.stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        theirs, to = os.pipe()
        self.back, ours = os.pipe()
        self.to = os.fdopen(to, "wb")
        pipes = f"3<&{theirs} 4>&{ours}"  # the protocol's: it reads from 3 and writes to 4
        words = ["bash", "-c", f'exec "$@" {pipes}', "bash", self.program, *SWITCHES, f"--user-data-dir={profile}"]
        with (Path(profile) / "log").open("w") as log:
            self.process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(theirs, ours)
            )
        os.close(theirs)
        os.close(ours)
        self.stack.callback(self.end)
        return self

    def __exit__(self, *what) -> None:
        self.stack.close()

    def end(self) -> None:
        """Kill all of its processes: nothing in its profile is to be saved."""
        self.to.close()
        os.close(self.back)
        with contextlib.suppress(psutil.NoSuchProcess):
            family = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]
            for process in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(family, timeout=SECONDS)
        self.process.wait(SECONDS)

    @contextlib.contextmanager
    def open(self, where: Path | str, width: int = 1280, height: int = 900, scheme: str = "light") -> Iterator[Page]:
        """A page of a file or a URL in a window of this size, once it has loaded; it is closed in the end."""
        target = self.send("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self.send("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        page = self.pages[session] = Page(self, session)
        try:
            for domain in ("Page", "Runtime", "Log", "Network"):
                page.send(f"{domain}.enable")
            page.resize(width, height)
            page.colours(scheme)
            url = where.resolve().as_uri() if isinstance(where, Path) else where
            failed = page.send("Page.navigate", url=url).get("errorText")
            assert not failed, f"{url}: {failed}"
            self.receive(lambda: page.loaded)
            yield page
        finally:
            del self.pages[session]
            self.send("Target.closeTarget", {"targetId": target})

    def send(self, method: str, parameters: dict, session: str | None = None) -> dict:
        """Call a method of the protocol and wait for its result."""
        self.number += 1
        number, answers = self.number, []
        call = {"id": number, "method": method, "params": parameters} | ({"sessionId": session} if session else {})
        self.to.write(json.dumps(call).encode() + b"\0")
        self.to.flush()
        self.receive(lambda: answers, answers)
        assert "error" not in answers[0], f"{method}: {answers[0]['error']}"
        return answers[0]["result"]

    def receive(self, done, answers: list[dict] | None = None) -> None:
        """Take in messages until `done()`, for SECONDS at most; the answer to the last call goes to `answers`."""
        deadline = time.monotonic() + SECONDS
        while not done():
            message, end, rest = self.buffer.partition(b"\0")
            if not end:
                assert select.select([self.back], [], [], max(deadline - time.monotonic(), 0))[0], "no answer in time"
                more = os.read(self.back, 2**16)
                assert more, f"Chromium has ended with status {self.process.wait(SECONDS)}"
                self.buffer += more
                continue
            self.buffer = rest
            told = json.loads(message)
            if "id" in told:
                if told["id"] == self.number and answers is not None:
                    answers.append(told)
            elif page := self.pages.get(told.get("sessionId")):
                page.note(told["method"], told["params"])


def chromium() -> str:
    """The path of Chromium; skips the test where there is none, fails it with GRID_REQUIRED=1."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        why = "no browser: chromium is not installed"
        (pytest.fail if os.environ.get("GRID_REQUIRED") == "1" else pytest.skip)(why)
    return found


def described(details: dict) -> str:
    """What a script threw, with its place."""
    return details.get("exception", {}).get("description") or f"{details['text']} (line {details['lineNumber'] + 1})"
