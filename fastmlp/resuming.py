"""Going on with a run that was stopped: with its own options, and only if nothing else is different."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastmlp import __version__
from fastmlp.backend import Backend
from fastmlp.checkpoints import Keeper, clear_checkpoints, read_header
from fastmlp.config import TrainOptions
from fastmlp.data import Dataset
from fastmlp.data.fingerprint import fingerprint
from fastmlp.data.rows_on_disk import RowsOnDisk
from fastmlp.errors import CheckpointError, ConfigError, OutputError
from fastmlp.options import build, flag, from_table, plain
from fastmlp.run_folders import CONFIG_FILE, RESULT_FILE, SPACE_FILE, has_ended

#: Options that may be others when a run goes on: no number depends on them, or what they come to is compared, the data,
#: where these stay, and the device.
FREE = ("data", "target", "data_dir", "data_memory", "device", "threads", "checkpoint_every", "quiet")


def resumed_options(folder: Path, given: Mapping[str, Any]) -> TrainOptions:
    """The options of the run in a folder, with those of `FREE` that are given now.

    Raises
    ------
    CheckpointError
        There is no run to go on with, or it was begun by another version.
    ConfigError
        Another option is given with another value than the run has.
    """
    if not folder.is_dir():
        raise CheckpointError(f"--resume {folder}: " + (
            f"it is a file: name the folder, {folder.parent}" if folder.is_file() else "there is no such folder"))
    if has_ended(folder):
        clear_checkpoints(folder)                       # it was killed while it removed them
        raise CheckpointError(f"--resume {folder}: that run was not stopped; its result is in {RESULT_FILE}")
    if (folder / SPACE_FILE).exists():
        raise CheckpointError(f"--resume {folder}: it holds a search: the same command fastmlp search goes on with it")
    header = read_header(folder)
    if header.get("version") != __version__:
        raise CheckpointError(f"--resume {folder}: it was begun by fastmlp {header.get('version')}, and this is "
                              f"{__version__}, whose numbers may be others: go on with that version")
    table = header.get("options")
    if not isinstance(table, dict):
        raise CheckpointError(f"--resume {folder}: its checkpoint does not say with which options it was begun")
    try:
        known = {name: value for name, value in table.items() if value is not None}
        begun = build(TrainOptions, from_table(known, f"--resume {folder}", TrainOptions))
    except ConfigError as error:
        raise CheckpointError(f"--resume {folder}: the options in its checkpoint are not whole ({error})") from error
    wanted = build(TrainOptions, {**vars(begun), **{name: value for name, value in given.items() if name != "out"}})
    if "out" in given and Path(given["out"]).resolve() != folder.resolve():
        raise ConfigError(f"--out {given['out']}: a run that goes on stays in its folder, {folder}: leave it out")
    for name in given:
        old, new = getattr(begun, name), getattr(wanted, name)
        if name not in FREE and old != new:
            raise ConfigError(f"{flag(name)} {_shown(new)}: the run in {folder} was begun with {_shown(old)}; leave it "
                              f"out, or begin another run")
    return replace(wanted, out=folder)


def _computed_by(backend: Backend) -> str:
    """What the last digits depend on: with compiled kernels not on the number of threads."""
    computer, compiled, _ = backend.description.partition("compiled kernels")
    return computer + compiled


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def make_keeper(folder: Path, options: TrainOptions, data: Dataset, backend: Backend) -> Keeper:
    """What saves the checkpoints of a run whose config.json has been written."""
    memory = _memory(data)
    decided = {"out": None, "data_memory": memory or options.data_memory, "device": backend.name}
    if backend.name == "cpu":
        decided["kernels"] = "compiled" if backend.records else "numpy"         # whose last digits differ
    return Keeper(folder, options.checkpoint_every, lambda: {
        "version": __version__, "options": {**plain(options), **decided}, "config": _config(folder),
        "data": fingerprint(data), "data_memory": memory, "device": backend.name, "computed_by": _computed_by(backend)})


def _memory(data: Dataset) -> int | None:
    """What data on disk may take of it: the order of the examples depends on that. None for data that are in memory."""
    return data.x_train.memory if isinstance(data.x_train, RowsOnDisk) else None


def check_circumstances(folder: Path, data: Dataset, backend: Backend, say: Callable[[str], None]) -> dict[str, Any]:
    """Compare what a run was begun with and what there is now; the header of its checkpoints.

    Raises
    ------
    CheckpointError
        The data, the device or config.json is not as it was.
    """
    header = read_header(folder)
    if _config(folder) != header.get("config"):
        theirs, ours = _config(folder), header.get("config")
        ours = ours if isinstance(ours, dict) else {}
        name = next((name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)), "it")
        raise CheckpointError(f"--resume {folder}: {name} is {theirs.get(name)!r} in config.json, and the run was "
                              f"begun with {ours.get(name)!r}: put that back, or begin another run")
    if header.get("device") != backend.name:
        raise CheckpointError(f"--resume {folder}: the run was begun on the {header.get('device')}, and this is the "
                              f"{backend.name}, whose numbers differ: go on with --device {header.get('device')}")
    if header.get("data_memory") != _memory(data):
        then, now = (f"on disk, with --data-memory {memory}" if memory else "in memory"
                     for memory in (header.get("data_memory"), _memory(data)))
        raise CheckpointError(f"--resume {folder}: the run was begun with its data {then}, and now they are {now}, "
                              f"which is another order: go on with another --data-memory")
    found = fingerprint(data)
    if header.get("data") != found:
        raise CheckpointError(f"--resume {folder}: {data.name} holds other data, or other rows to train on, than the "
                              f"run was begun with (fingerprint {found}, not {header.get('data')}): bring those back")
    if header.get("computed_by") != _computed_by(backend):
        say(f"note   this is {_computed_by(backend)}, and the run was begun on {header.get('computed_by')}: last "
            f"digits may differ")
    together = header.get("together")
    if not (together is None or (type(together) is int and together > 0)):
        raise CheckpointError(f"--resume {folder}: its checkpoint says that {together!r:.100} members are trained "
                              f"together, which cannot be")
    return header


def _config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_FILE
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise OutputError(f"{path}: cannot be read ({str(error)[:200]})") from error
    return config if isinstance(config, dict) else {}
