"""Writing results: whole files or none, and never over a finished run."""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import math
import os
import re
import secrets
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from fastmlp.errors import OutputError

#: The file that marks a run folder as finished; it is written last.
RESULT_FILE = "result.json"
#: The files that mark a folder as that of a run, from its beginning on ...
FIRST_FILES = ("config.json", "environment.json")
#: ... and those that may lie there from a run that was killed.
LATER_FILES = ("history.csv", "members.csv", "summary.csv", "model.safetensors", "curves.png", "weights.png",
               "lr-range.csv", "lr-range.png")

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
    temporary = path.parent / f".fastmlp-{secrets.token_hex(8)}.tmp"
    try:
        with temporary.open("xb") as file:
            # File names can hold bytes that are no text; as \\udc.. they are readable, and valid JSON too.
            file.write(data.encode("utf-8", "backslashreplace") if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {_reason(error)}") from error
    finally:
        with contextlib.suppress(OSError):  # gone after a rename; where it is not, the first error is the one to tell
            temporary.unlink()


def make_run_folder(out: str | Path | None = None) -> Path:
    """Make the folder that receives a run's results and prove that it can be written to.

    Parameters
    ----------
    out : str, Path or None
        The folder, made with its parents where it is missing; an unfinished run's folder is taken again. None makes
        `runs/<YYYYmmdd-HHMMSS>` under the current folder, with -2, -3, ... appended where the name is taken, so that
        runs started in the same second never share a folder.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    OutputError
        The folder holds a finished run (a file `result.json`), is not a folder, or cannot be written to.

    Examples
    --------
    >>> import tempfile
    >>> make_run_folder(Path(tempfile.mkdtemp()) / "first").name
    'first'
    """
    if out is None:
        return make_folder(_new_folder(Path("runs"), time.strftime("%Y%m%d-%H%M%S")))
    folder = make_folder(Path(out))
    try:
        _clear_unfinished(folder)
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write results to {out}: {_reason(error)}; name another folder") from error
    return folder


def make_folder(folder: Path) -> Path:
    """Make a folder, with its parents, unless it is there, and prove that it can be written to.

    Raises
    ------
    OutputError
        It is not a folder, or cannot be written to.
    """
    try:
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"cannot write results to {folder}: it is not a folder; name another")
        folder.mkdir(parents=True, exist_ok=True)
        # Permission bits tell too little (the root user, read-only and full disks): write, and let it vanish.
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"\0")
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write results to {folder}: {_reason(error)}; name another folder") from error
    return folder


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


def _clear_unfinished(folder: Path) -> None:
    """Remove what a killed run left in its folder; refuse a folder whose content is a result or somebody else's."""
    if (folder / RESULT_FILE).exists():
        raise OutputError(f"{folder} already holds a finished run ({RESULT_FILE}); name another folder")
    present = [name for name in (*FIRST_FILES, *LATER_FILES) if (folder / name).exists()]
    if present and not set(FIRST_FILES) <= set(present):
        raise OutputError(f"{folder} holds {present[0]}, which is not an unfinished run's and would be overwritten; "
                          f"name another folder")
    for name in present:
        (folder / name).unlink()


def _new_folder(parent: Path, name: str) -> Path:
    """Make `parent/name`, or the first free of `name-2`, `name-3`, ...; two processes never get the same one."""
    make_folder(parent)
    for attempt in itertools.count(1):
        folder = parent / (name if attempt == 1 else f"{name}-{attempt}")
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            return folder
    raise AssertionError("itertools.count never ends")


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
