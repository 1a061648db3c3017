"""The errors that fastmlp raises on purpose.

Every one carries a single sentence that names the value, the place and the way out; the command line prints that
sentence and ends with the class's `exit_code`. Anything else that escapes is a defect of ours.
"""

from __future__ import annotations

LONGEST_SENTENCE = 2000


class FastMLPError(Exception):
    r"""Base of all errors below; `exit_code` is what the command line ends with.

    What a sentence quotes may come from a stranger's file. Control characters, which could move a terminal's cursor or
    forge a line of a log, are written as escapes, and the middle of what is very long is left out.

    Examples
    --------
    >>> print(DataError("pets.csv has no column named \x1b[2Jkind"))
    pets.csv has no column named \x1b[2Jkind
    """

    exit_code = 2

    def __init__(self, message: str = "") -> None:
        super().__init__(_one_sentence(message))


def _one_sentence(text: str) -> str:
    if len(text) > LONGEST_SENTENCE:
        text = f"{text[:LONGEST_SENTENCE // 2]} ... {text[-LONGEST_SENTENCE // 4:]}"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


class ConfigError(FastMLPError, ValueError):
    """An option has a value it cannot take, or two options contradict each other."""


class DataError(FastMLPError, ValueError):
    """Data that cannot be trained on or read: damaged, missing, of the wrong shape or kind."""


class ModelFileError(DataError):
    """A file that is not a whole model written by fastmlp."""


class CheckpointError(DataError):
    """A training cannot go on from a checkpoint: it is absent or damaged, or something is not as it was."""


class DeviceError(FastMLPError, RuntimeError):
    """The asked-for device cannot be used; the sentence says what is missing."""


class OutputError(FastMLPError, OSError):
    """Results cannot be written where they were asked for."""


class MissingExtraError(FastMLPError, ImportError):
    """An optional dependency is needed; the sentence names the extra that brings it."""


class DivergenceError(FastMLPError, ArithmeticError):
    """The loss became NaN or infinite.

    The network holds the parameters of the last good epoch when this is raised.

    Attributes
    ----------
    step : int
        The first update step (counted from 1) whose loss was not finite.
    lr : float
        The learning rate of that step.
    """

    exit_code = 3

    def __init__(self, message: str, *, step: int, lr: float) -> None:
        super().__init__(message)
        self.step = step
        self.lr = lr
