"""From the text of an option to its value; what is none is a ValueError that says what it should be."""

from __future__ import annotations

import math
import string
from pathlib import Path

LONGEST_RANGE = 1000    # of `number_ranges`; it names batches, of which there are a few
UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
         "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


def count_or_fraction(text: str) -> int | float:
    """`5000` examples, or `0.1` of them.

    Examples
    --------
    >>> count_or_fraction("5000"), count_or_fraction("0.1")
    (5000, 0.1)
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if 0 < value < 1:
        return value
    if not (math.isfinite(value) and value == int(value) and value >= 0):
        raise ValueError("a whole number of examples, or a fraction between 0 and 1")
    return int(value)


def memory_size(text: str) -> int:
    """`500MB` or `1.5 GiB` as bytes.

    Examples
    --------
    >>> memory_size("500MB"), memory_size("1.5 GiB"), memory_size("4096")
    (500000000, 1610612736, 4096)
    """
    number = text.strip().rstrip("".join(string.ascii_letters))
    unit = text.strip()[len(number):].upper()
    try:
        return int(float(number) * UNITS[unit])
    except (ValueError, KeyError, OverflowError):
        raise ValueError("a size such as 500MB or 2GB") from None


def folder(text: str) -> Path:
    """A folder's path; empty text is none."""
    if not text:
        raise ValueError("a folder")
    return Path(text)


def number_ranges(text: str) -> tuple[int, ...]:
    """`3`, `1-5`, or `1,3-4` as whole numbers.

    Examples
    --------
    >>> number_ranges("1,3-5")
    (1, 3, 4, 5)
    """
    numbers: list[int] = []
    for piece in text.split(","):
        first, dash, last = piece.partition("-")
        wanted = range(int(first), int(last if dash else first) + 1)
        if wanted.stop - wanted.start > LONGEST_RANGE:          # len counts no further than a processor's word
            raise ValueError(f"{piece} is too long a range")
        numbers.extend(wanted)
    return tuple(numbers)
