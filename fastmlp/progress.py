"""What a person sees while a network trains: a bar in a terminal, plain lines in a log file, or nothing.

Training calls `start` once, `step` after every update, `epoch_done` with every new row of the history, and `finish` in
the end, also after an error.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt

from fastmlp.errors import ConfigError

_SECONDS_BETWEEN_REDRAWS = 0.1
_SECONDS_BETWEEN_LINES = 1.0


class Progress:
    """A watcher that shows nothing; the others say where they differ."""

    def start(self, total_steps: int, total_epochs: int, description: str, first: int = 0) -> None:
        """Training begins, or goes on.

        Parameters
        ----------
        total_steps, total_epochs : int
            How many updates and epochs are planned; training may end earlier.
        description : str
            A few words on what is trained, shown as they are.
        first : int, default 0
            Updates that were made before.
        """

    def step(self, step: int) -> None:
        """Update number `step`, counted from 1, is done. Called in the innermost loop, so it must cost nothing."""

    def epoch_done(self, row: Mapping[str, Any]) -> None:
        """A row of the history is complete.

        Parameters
        ----------
        row : mapping
            `step`, `epoch`, `lr`, `train_loss`, `train_accuracy` and, where there is a validation part,
            `val_accuracy`. Absent, None and NaN all mean that there is no such number. Of a population they are arrays
            (M,), and `frozen` (M,) says who diverged: shown are the means of the others, and how many diverged.
        """

    def finish(self) -> None:
        """Training has ended, one way or another. Calling it twice is harmless."""


def make_progress(mode: str = "auto", stream: TextIO | None = None) -> Progress:
    """The watcher that suits a stream.

    Parameters
    ----------
    mode : {"auto", "quiet"}, default "auto"
        "auto" draws a bar where the stream is a terminal and writes plain lines where it is not; "quiet" shows nothing.
    stream : text stream, default standard error
        Where to show it.

    Returns
    -------
    Progress
        Not yet started.

    Raises
    ------
    ConfigError
        The mode is neither of the two.

    Examples
    --------
    >>> progress = make_progress("auto", sys.stdout)
    >>> progress.start(total_steps=100, total_epochs=1, description="digits")
    digits: 1 epoch, 100 steps
    >>> progress.finish()
    """
    if mode not in ("auto", "quiet"):
        raise ConfigError(f"progress mode {mode!r} is unknown; take 'auto' or 'quiet'")
    stream = sys.stderr if stream is None else stream
    if mode == "quiet" or stream is None:  # Python without a console has no standard error
        return Progress()
    return _Bar(stream) if stream.isatty() and _has_width(stream) else _Lines(stream)


class _Lines(Progress):
    """One line an epoch, at most about one a second, and always the last."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._held_back: str | None = None  # the newest line that came too early to be shown

    def start(self, total_steps: int, total_epochs: int, description: str, first: int = 0) -> None:
        self._first, self._total_steps, self._total_epochs = first, total_steps, total_epochs
        self._started = time.perf_counter()
        self._next_line = -math.inf
        self._print(f"{description}: {_count(total_epochs, 'epoch')}, {_count(total_steps, 'step')}")

    def epoch_done(self, row: Mapping[str, Any]) -> None:
        now = time.perf_counter()
        elapsed = now - self._started
        epoch = f"{row['epoch']:{len(str(self._total_epochs))}}/{self._total_epochs}"
        line = f"epoch {epoch}  {_numbers(row)}  {_duration(elapsed):>7}"
        if self._first < row["step"] < self._total_steps:
            left = (self._total_steps - row["step"]) / (row["step"] - self._first)
            line += f"  {_duration(elapsed * left):>7} left"
        self._held_back = line
        if now >= self._next_line:
            self._next_line = now + _SECONDS_BETWEEN_LINES
            self._release()

    def finish(self) -> None:
        self._release()

    def _release(self) -> None:
        if self._held_back is not None:
            self._print(self._held_back)
            self._held_back = None

    def _print(self, line: str) -> None:
        with contextlib.suppress(OSError):      # a full disk or a closed pipe behind the stream must not end training
            print(line, file=self._stream, flush=True)


class _Bar(Progress):
    """A tqdm bar over the steps of all epochs, with the newest row's numbers behind it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._bar: Any = None

    def start(self, total_steps: int, total_epochs: int, description: str,     # noqa: ARG002 - it does not fit
              first: int = 0) -> None:
        from tqdm import tqdm

        # tqdm starts a thread that watches over slow bars. A training loop needs none beside it, and the program around
        # us may use tqdm too, so it is turned off in a class of our own.
        bar_class: Any = type("Bar", (tqdm,), {"monitor_interval": 0})
        self._total_epochs = total_epochs
        self._next_redraw = 0.0
        self._bar = bar_class(
            total=total_steps, initial=first, desc=self._title(epochs_done=0), file=self._stream, dynamic_ncols=True,
            mininterval=0, miniters=1,  # `step` does the throttling
            bar_format="{desc} {remaining} left |{bar}|",       # numbers first: what does not fit is cut off behind
        )

    def step(self, step: int) -> None:
        now = time.perf_counter()
        if now >= self._next_redraw:
            self._next_redraw = now + _SECONDS_BETWEEN_REDRAWS
            self._bar.update(step - self._bar.n)

    def epoch_done(self, row: Mapping[str, Any]) -> None:
        self._bar.set_description_str(f"{self._title(row['epoch'])} {' '.join(_numbers(row).split())}", refresh=False)
        self._next_redraw = 0.0
        self.step(row["step"])

    def finish(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def _title(self, epochs_done: int) -> str:
        return f"epoch {min(epochs_done + 1, self._total_epochs)}/{self._total_epochs}"


def _numbers(row: Mapping[str, Any]) -> str:
    """Loss, accuracies and learning rate in columns; a column without a number is left out."""
    columns = [("loss", "train_loss", "7.4f"), ("train acc", "train_accuracy", ".4f"),
               ("val acc", "val_accuracy", ".4f"), ("lr", "lr", ".2e")]
    frozen = np.ravel(row.get("frozen", False))                         # (M,)
    present = [(label, _mean(row.get(key), ~frozen), form) for label, key, form in columns]
    numbers = [f"{label} {value:{form}}" for label, value, form in present if not math.isnan(value)]
    if frozen.any():
        numbers.append(f"{frozen.sum()} of {frozen.size} diverged")
    return "  ".join(numbers)


def _mean(values: Any, counting: npt.NDArray[np.bool_]) -> float:
    """Mean of one number, or of those of a population's members that count; NaN where there is none."""
    if values is None or not counting.any():
        return math.nan
    return float(np.mean(np.broadcast_to(values, counting.shape)[counting]))


def _has_width(terminal: TextIO) -> bool:
    """Whether a bar fits: the pseudo-terminals of some containers and recorders are 0 columns wide."""
    try:
        return os.get_terminal_size(terminal.fileno()).columns > 0
    except OSError:
        return True  # a terminal that does not tell


def _duration(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
