"""How often something is done: every so many epochs, or seconds."""

from __future__ import annotations

import math
from dataclasses import dataclass

UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Interval:
    """A number of epochs, or of seconds; the other one is None."""

    epochs: int | None = None
    seconds: float | None = None

    def __str__(self) -> str:
        if self.seconds is None:
            return str(self.epochs)
        unit = max((unit for unit, size in UNITS.items() if self.seconds % size == 0), key=UNITS.__getitem__,
                   default="s")
        return f"{self.seconds / UNITS[unit]:.17g}{unit}"


def parse_interval(text: str) -> Interval:
    """`10` epochs, or a time such as `30s`, `5min` or `2h`.

    Raises
    ------
    ValueError
        The text is none; the message says what it should be.

    Examples
    --------
    >>> parse_interval("10"), parse_interval("5min")
    (Interval(epochs=10, seconds=None), Interval(epochs=None, seconds=300.0))
    >>> str(parse_interval("90s")), str(parse_interval("0.5 h"))
    ('90s', '30min')
    """
    number = text.strip().rstrip("hmins").strip()
    unit = text.strip()[len(number):].strip()
    try:
        value = float(number) if unit else int(number)
        seconds = value * UNITS[unit] if unit else 0.0
        if unit and math.isfinite(seconds) and seconds > 0:
            return Interval(seconds=seconds)
        if not unit and value > 0:
            return Interval(epochs=int(value))
    except (ValueError, KeyError, OverflowError):
        pass
    raise ValueError("a number of epochs from 1 on, or a time such as 30s, 5min or 2h")
