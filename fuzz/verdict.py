"""What a reader did with a file: read it, refused it in one sentence, or something that it must not do."""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastmlp.errors import FastMLPError
from fuzz.corpus import Reader

LONGEST_SENTENCE = 2000
#: What no file may make a reader do, by the names of Python's audit events.
FORBIDDEN = ("pickle.find_class", "os.system", "subprocess.Popen", "os.exec", "os.fork", "os.posix_spawn", "os.spawn",
             "os.startfile", "socket.connect", "os.rename", "os.rmdir", "os.mkdir", "os.symlink",
             "os.link", "os.truncate", "shutil.rmtree", "ctypes.dlopen")

TEMPORARY = (Path(tempfile.gettempdir()), Path("/var/tmp"))

READ, REFUSED, UNCAUGHT = "read", "refused", "uncaught"


@dataclass(frozen=True)
class Verdict:
    """The outcome, and in words what is wrong with it, if anything."""

    outcome: str
    words: str = ""


class _Watch:
    """Notes forbidden events while it is switched on; Python keeps an audit hook for good, so there is one."""

    def __init__(self) -> None:
        self.on, self.seen, self.installed = False, list[str](), False

    def __enter__(self) -> list[str]:
        if not self.installed:
            sys.addaudithook(self._note)
            self.installed = True
        self.on, self.seen = True, []
        return self.seen

    def __exit__(self, *_: object) -> None:
        self.on = False

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.on and _forbidden(event, arguments):
            self.seen.append(f"{event}{arguments!r:.100}")


def _forbidden(event: str, arguments: tuple[Any, ...]) -> bool:
    """Whether a reader must not do this. A temporary file without a name, or whose name goes at once, it may have."""
    if event not in ("open", "os.remove"):
        return event in FORBIDDEN
    path = Path(os.fsdecode(arguments[0])) if isinstance(arguments[0], str | bytes) else None
    writes = event != "open" or arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    return bool(path is not None and writes and not path.is_dir()
                and not (path.name.startswith("tmp") and path.parent in TEMPORARY))


WATCH = _Watch()


def prepare(reader: Reader, folder: Path) -> None:
    """Have a reader read its samples, unwatched: what is imported, compiled and cached on first use is then there."""
    for sample in reader.samples():
        reader.read(reader.place(folder, sample))


def judge(reader: Reader, content: bytes, folder: Path) -> Verdict:
    """Give a reader a file and see what comes of it. Warnings count as errors."""
    path = reader.place(folder, content)
    with warnings.catch_warnings(), WATCH as seen:
        warnings.simplefilter("error")
        try:
            reader.read(path)
            verdict = Verdict(READ)
        except FastMLPError as error:
            complaint = sentence_problem(str(error), path)
            verdict = Verdict(UNCAUGHT, f"{complaint}: {error}") if complaint else Verdict(REFUSED, str(error))
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:      # a panic of Rust is no Exception
            verdict = Verdict(UNCAUGHT, f"{type(error).__module__}.{type(error).__name__}: {error}")
    return Verdict(UNCAUGHT, f"forbidden: {seen[0]}") if seen else verdict


def sentence_problem(sentence: str, path: Path) -> str | None:
    """Why this is not one sentence that names the file, if it is not."""
    if not sentence.isprintable():
        return "control characters or several lines"
    if len(sentence) > LONGEST_SENTENCE:
        return f"a sentence of {len(sentence)} characters"
    if path.name not in sentence and path.parent.name not in sentence:
        return "the file is not named"
    return None
