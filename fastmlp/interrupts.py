"""Ctrl-C and a request to end (SIGTERM): training ends between two steps, in a whole state, and is saved."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

#: By the shells' convention, a process that a signal ended has the exit code 128 + its number.
EXIT_CODES = {"SIGINT": 130, "SIGTERM": 143}


class Interruption:
    """Whether a signal has come: call it.

    Attributes
    ----------
    by : str or None
        The signal's name.
    """

    def __init__(self) -> None:
        self.by: str | None = None

    def __call__(self) -> bool:
        """Whether to stop."""
        return self.by is not None


def exit_code(result: dict[str, Any]) -> int:
    """What the command line ends with after a run of this result."""
    return code_of(result.get("interrupted_by")) if result["status"] == "interrupted" else 0


def code_of(signal_name: str | None) -> int:
    """What a signal, or Ctrl-C that came as an exception, has the command line end with."""
    return EXIT_CODES[signal_name or "SIGINT"]


@contextmanager
def stop_on_interrupt(quiet: bool = False) -> Iterator[Interruption]:
    """Within this context the first signal only makes what is yielded say yes; a second one ends things as usual.

    In threads other than the main one signals cannot be caught and nothing is changed. A signal that the process was
    told to ignore, as a shell tells what runs in the background, stays ignored.
    """
    seen = Interruption()

    def note(number: int, _: Any) -> None:
        seen.by = signal.Signals(number).name
        restore()
        if not quiet:
            with contextlib.suppress(OSError):      # not print: the stream may be amid a line of its own
                os.write(2, b"\nstopping and saving; Ctrl-C again to hurry\n" if number == signal.SIGINT else
                         b"\nasked to end: stopping and saving\n")

    if threading.current_thread() is not threading.main_thread():
        yield seen
        return
    handlers = {name: signal.getsignal(getattr(signal, name)) for name in EXIT_CODES}
    # None: not Python's, so that it could not be put back.
    before = {name: handler for name, handler in handlers.items() if handler not in (signal.SIG_IGN, None)}

    def restore() -> None:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)

    for name in before:
        signal.signal(getattr(signal, name), note)
    try:
        yield seen
    finally:
        restore()
