"""The folders that runs write to: never one that holds a finished run, and never the same at the same time."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shlex
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastmlp.errors import OutputError
from fastmlp.files import TEMPORARY, reason

#: The file that marks a run folder as finished; it is written last.
RESULT_FILE = "result.json"
#: The file that marks a folder as that of a run; it is written first ...
FIRST_FILE = "environment.json"
CONFIG_FILE = "config.json"
#: ... and those that may lie there from a run that was killed.
LATER_FILES = (CONFIG_FILE, "history.csv", "members.csv", "summary.csv", "model.safetensors", "curves.png",
               "weights.png", "lr-range.csv", "lr-range.png")
#: The file that marks a folder as that of a search, which may be gone on with.
SPACE_FILE = "space.json"
#: Those from which a run that was stopped goes on.
CHECKPOINTS = "checkpoint-*.safetensors"


@contextmanager
def run_folder(out: str | Path | None = None, *, resumed: bool = False) -> Iterator[Path]:
    """A run's folder, see `make_run_folder`; within this context no other run can have it.

    Parameters
    ----------
    out : str, Path or None
        As of `make_run_folder`.
    resumed : bool, default False
        The folder of a run that goes on: what is in it stays.

    Raises
    ------
    OutputError
        Another run has it; or as `make_run_folder`.
    """
    folder = make_folder(_new_folder(Path("runs"), time.strftime("%Y%m%d-%H%M%S")) if out is None else Path(out))
    with _locked(folder):
        if out is not None:
            try:
                _clear_temporary(folder)
                if not resumed:
                    _clear_unfinished(folder)
            except OutputError:
                raise
            except OSError as error:
                raise OutputError(f"cannot write results to {out}: {reason(error)}; name another folder") from error
        yield folder


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
    with run_folder(out) as folder:
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
        raise OutputError(f"cannot write results to {folder}: {reason(error)}; name another folder") from error
    return folder


def _clear_temporary(folder: Path) -> None:
    """Remove files that a run was writing when it was killed."""
    for path in folder.glob(TEMPORARY):
        path.unlink(missing_ok=True)


def _clear_unfinished(folder: Path) -> None:
    """Remove what a killed run left in its folder; refuse a folder whose content is a result or somebody else's."""
    if has_ended(folder):
        raise OutputError(f"{folder} already holds a finished run ({RESULT_FILE}); name another folder")
    if any(folder.glob(CHECKPOINTS)):
        raise OutputError(f"{folder} holds a training that was stopped: go on with it by fastmlp train --resume "
                          f"{shlex.quote(str(folder))}, or name another folder")
    if (folder / SPACE_FILE).exists():
        raise OutputError(f"{folder} holds a search ({SPACE_FILE}), which the same command fastmlp search goes on "
                          f"with; name another folder")
    if (folder / RESULT_FILE).exists():
        raise OutputError(f"{folder} already holds a run that was stopped ({RESULT_FILE}); name another folder")
    present = [name for name in (*LATER_FILES, FIRST_FILE) if (folder / name).exists()]
    if present and not _is_begun(folder):
        raise OutputError(f"{folder} holds {present[0]}, which is not an unfinished run's and would be overwritten; "
                          f"name another folder")
    for name in present:                                # the one that says whose the others are last
        (folder / name).unlink()


def has_ended(folder: Path) -> bool:
    """Whether there is nothing left to do; the result of a run that was stopped says so."""
    path = folder / RESULT_FILE
    try:
        stopped = json.loads(path.read_text(encoding="utf-8"))["status"] == "interrupted"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        stopped = any(folder.glob(CHECKPOINTS))
    return path.exists() and not stopped


def _is_begun(folder: Path) -> bool:
    """Whether the folder is that of a run: its first file says with which fastmlp it was begun."""
    try:
        return "fastmlp" in json.loads((folder / FIRST_FILE).read_text(encoding="utf-8"))["packages"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Within this context no other process or thread gets by here with the same folder; it ends with the process.

    Windows has no locks on folders, and some network file systems none at all: there nothing is locked.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    try:
        opened = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise OutputError(f"cannot lock {folder}: {reason(error)}; name another folder") from error
    try:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(f"{folder} is in use by another run: wait for its end, or name another folder") from error
        except OSError:
            pass
        yield
    finally:
        os.close(opened)


def _new_folder(parent: Path, name: str) -> Path:
    """Make `parent/name`, or the first free of `name-2`, `name-3`, ...; two processes never get the same one."""
    make_folder(parent)
    for attempt in itertools.count(1):
        folder = parent / (name if attempt == 1 else f"{name}-{attempt}")
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            return folder
    raise AssertionError("itertools.count never ends")
