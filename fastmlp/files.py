"""Writing files: whole or not at all."""

from __future__ import annotations

import contextlib
import csv
import json
import math
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from fastmlp.errors import OutputError

#: What a file is called while it is written; a process that is killed leaves it behind.
TEMPORARY = ".fastmlp-*.tmp"

#: Text that a spreadsheet would run: behind apostrophes and blanks a sign that begins a formula, and more than that.
FORMULA = re.compile(r"'*(\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n]).", re.DOTALL)
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def write_atomically(path: str | Path, data: bytes | str) -> None:
    """Write a file so that readers see the old content or the new, never a part.

    Parameters
    ----------
    path : str or Path
        The file; its folder must exist. An existing file is replaced.
    data : bytes or str
        The whole content; a string is written as UTF-8.

    Raises
    ------
    OutputError
        The file cannot be written. What was there before is untouched and nothing is left behind.

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "notes.txt"
    >>> write_atomically(target, "learned")
    >>> target.read_text()
    'learned'
    """
    path = Path(path)
    # Beside the target, because a rename is atomic only within one file system. Opened by hand rather than by
    # `tempfile`, whose files only their owner can read: the umask decides here.
    temporary = path.parent / TEMPORARY.replace("*", secrets.token_hex(8))
    try:
        with temporary.open("xb") as file:
            # File names can hold bytes that are no text; as \\udc.. they are readable, and valid JSON too.
            file.write(data.encode("utf-8", "backslashreplace") if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {reason(error)}") from error
    finally:
        with contextlib.suppress(OSError):  # gone after a rename; where it is not, the first error is the one to tell
            temporary.unlink()


def write_csv(path: str | Path, columns: Mapping[str, Sequence[Any]]) -> None:
    r"""Write columns as a CSV file with one header line, atomically.

    Labels and names of columns come from strangers' files, and a spreadsheet runs text such as `=1+1` or `@x` as a
    formula. Such text gets an apostrophe before it, by which spreadsheets know text, or one more where it has some
    already, so that a program that wants the text itself takes one off wherever `FORMULA` matches behind it. Numbers,
    also those that are text, and lone signs stay as they are.

    Parameters
    ----------
    path : str or Path
        The file.
    columns : mapping of str to sequence
        Names and values, all of one length n. Numbers are written so that they read back exactly; None becomes an
        empty field, NaN becomes `nan`.

    Raises
    ------
    ValueError
        The columns differ in length.
    OutputError
        The file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "history.csv"
    >>> write_csv(target, {"step": [0, 100], "train_loss": [2.5, None]})
    >>> target.read_text()
    'step,train_loss\n0,2.5\n100,\n'
    >>> write_csv(target, {"prediction": ["=1+1", "-", "-0.5"], "p_=1+1": [0.9, 0.2, 0.1]})
    >>> target.read_text()
    "prediction,p_=1+1\n'=1+1,0.9\n-,0.2\n-0.5,0.1\n"
    """
    lines: list[str] = []
    # It quotes what holds a character of the line's end: with both, a label cannot begin a line that was not there.
    writer = csv.writer(SimpleNamespace(write=lines.append), lineterminator="\r\n")
    writer.writerow(map(_as_text, columns))
    writer.writerows(map(_as_text, row) for row in zip(*columns.values(), strict=True))
    write_atomically(path, "".join(line.removesuffix("\r\n") + "\n" for line in lines))


def _as_text(cell: Any) -> Any:
    """A cell, with an apostrophe before what a spreadsheet would run."""
    runs = isinstance(cell, str) and FORMULA.match(cell) and not NUMBER.fullmatch(cell)
    return f"'{cell}" if runs else cell


def write_json(path: str | Path, obj: Any) -> None:
    """Write an object as indented JSON, atomically.

    Parameters
    ----------
    path : str or Path
        The file.
    obj : object
        Dicts, lists, tuples, strings, numbers, None, and NumPy's arrays and numbers and paths among them. NaN and the
        infinities are written as null: JSON has no word for them and strict readers refuse the file.

    Raises
    ------
    TypeError
        Something in `obj` has no JSON form.
    OutputError
        The file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "result.json"
    >>> write_json(target, {"val_accuracy": np.float32(0.5), "test_loss": float("nan")})
    >>> json.loads(target.read_text())
    {'val_accuracy': 0.5, 'test_loss': None}
    """
    write_atomically(path, json.dumps(_plain(obj), indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def without_password(text: str) -> str:
    """An address as it may be shown and written.

    Examples
    --------
    >>> without_password("postgresql://me:secret@host/searches?password=secret")
    'postgresql://me:***@host/searches?password=***'
    """
    return re.sub(r"(password=)[^&\s]*", r"\1***", re.sub(r"(://[^:/@\s]*:)\S*@", r"\1***@", text))


def _plain(obj: Any) -> Any:
    """The same content in JSON's own types."""
    if isinstance(obj, Mapping):
        return {key: _plain(value) for key, value in obj.items()}
    if isinstance(obj, list | tuple):
        return [_plain(value) for value in obj]
    if isinstance(obj, np.ndarray | np.generic):
        return _plain(obj.tolist())
    if isinstance(obj, Path):
        return str(obj)
    if isinstance(obj, float) and not math.isfinite(obj):
        return None
    return obj


def _sync_folder(folder: Path) -> None:
    """Have a rename in the folder outlive a loss of power, where folders can be synchronised."""
    with contextlib.suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def reason(error: OSError) -> str:
    """What the system says about an error, in its own words."""
    return error.strerror or str(error)
