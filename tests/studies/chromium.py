"""Headless Chromium, spoken to over a pipe; `python tests/studies/chromium.py PAGE DIR` takes pictures of a page."""

import base64
import contextlib
import fcntl
import json
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Page:
    """A page in a browser of its own; `messages` are the console's warnings and errors."""

    def __init__(self, commands, answers, folder):
        self.commands, self.answers, self.folder = commands, answers, folder
        self.number, self.session, self.messages, self.events = 0, None, [], set()
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        self.commands.write(json.dumps(message).encode() + b"\0")
        self.commands.flush()
        while (answer := self.receive()).get("id") != self.number:
            pass
        assert "error" not in answer, (method, answer)
        return answer["result"]

    def receive(self):
        text = bytearray()
        while (byte := self.answers.read(1)) != b"\0":
            assert byte, "the browser is gone"
            text += byte
        answer = json.loads(text)
        self.events.add(answer.get("method"))
        said = answer.get("params", {})
        if answer.get("method") == "Log.entryAdded" and said["entry"]["level"] in ("warning", "error"):
            self.messages.append(said["entry"]["text"])
        elif answer.get("method") in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown"):
            self.messages.append(json.dumps(said))
        return answer

    def open(self, path, width, height, *, dark=False):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                  mobile=width < 700)
        self.call("Emulation.setEmulatedMedia",
                  features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
        self.events.discard("Page.loadEventFired")
        self.call("Page.navigate", url=Path(path).resolve().as_uri())
        while "Page.loadEventFired" not in self.events:
            self.receive()

    def value(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def picture(self, *, whole=False):
        data = self.call("Page.captureScreenshot", captureBeyondViewport=whole, **({"clip": {
            "x": 0, "y": 0, "width": self.value("innerWidth"), "height": self.value("document.body.scrollHeight"),
            "scale": 1}} if whole else {}))["data"]
        return base64.b64decode(data)

    def pdf(self):
        return base64.b64decode(self.call("Page.printToPDF", preferCSSPageSize=True, printBackground=False)["data"])


@contextlib.contextmanager
def browser():
    """A page of a browser with a profile of its own, ended with all its processes."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, contextlib.ExitStack() as files:
        # Numbers above those that the browser expects, so that no copy lands on another.
        ends = []
        for end in (*os.pipe(), *os.pipe()):
            ends.append(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10))
            os.close(end)
        read_commands, write_commands, read_answers, write_answers = ends
        commands, answers = files.enter_context(open(write_commands, "wb")), files.enter_context(   # noqa: PTH123
            open(read_answers, "rb"))                                                               # noqa: PTH123
        process = os.posix_spawn(PROGRAM, [
            PROGRAM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--hide-scrollbars", "--disable-background-networking", "--remote-debugging-pipe",
            f"--user-data-dir={folder}"], os.environ, setpgroup=0, file_actions=[
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0), (os.POSIX_SPAWN_DUP2, 1, 2),
                (os.POSIX_SPAWN_DUP2, read_commands, 3), (os.POSIX_SPAWN_DUP2, write_answers, 4)])
        os.close(read_commands)
        os.close(write_answers)
        try:
            yield Page(commands, answers, folder)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process, signal.SIGKILL)
            os.waitpid(process, 0)


if __name__ == "__main__":
    source, out = sys.argv[1], Path(sys.argv[2])
    with browser() as page:
        for name, width, dark in (("phone", 360, False), ("phone-dark", 360, True), ("tablet", 768, False),
                                  ("desktop", 1280, False), ("desktop-dark", 1280, True)):
            page.open(source, width, 800, dark=dark)
            (out / f"{name}.png").write_bytes(page.picture(whole=True))
        (out / "print.pdf").write_bytes(page.pdf())
