"""Checkpoints: all that the future of a training depends on, in one file, from which it goes on as if never stopped.

A file holds the parameters, running statistics and optimizer state of now and of the last good state, the random
generators, the place within the epoch, the learning rate's place, who diverged, snapshots, and the history. Its header
also says under which circumstances it was made: options, data, version, device. The file is replaced by the next one,
whole or not at all.
"""

from __future__ import annotations

import contextlib
import math
import shlex
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.errors import CheckpointError, OutputError
from fastmlp.good_state import Kept, Moment
from fastmlp.history import History
from fastmlp.intervals import Interval
from fastmlp.parameters import tensors_of
from fastmlp.run_folders import CHECKPOINTS, RESULT_FILE
from fastmlp.tensor_files import read_tensors, write_tensors
from fastmlp.trainer import Divergence, Trainer

FORMAT = "fastmlp-checkpoint-1"
Arrays = dict[str, npt.NDArray[Any]]


class Keeper:
    """Saves checkpoints of a run's trainings, and brings them back.

    Parameters
    ----------
    folder : Path
        The run's. Each of its trainings (of a population, each group) has a file of its own there.
    every : Interval
        When to save, besides when training is stopped.
    circumstances : callable
        Makes what the header says besides the state, once, when the first checkpoint is written.

    Attributes
    ----------
    together : int or None
        How many members of a population are trained together at most; set by who divides it, and kept in the files.
    """

    def __init__(self, folder: Path, every: Interval, circumstances: Callable[[], dict[str, Any]]) -> None:
        self.folder, self.every, self._make_circumstances = folder, every, circumstances
        self.together: int | None = None
        self._circumstances: dict[str, Any] | None = None
        self._path, self._saved_at = checkpoint_file(folder, 0), time.monotonic()

    def begin(self, training: int, trainer: Trainer, history: History) -> bool:
        """Turn to a training; if there is a checkpoint of it, bring trainer and history there. Whether there was one.

        Raises
        ------
        CheckpointError
            The file is damaged, or of another network.
        """
        self._path, self._saved_at = checkpoint_file(self.folder, training), time.monotonic()
        if not self._path.exists():
            return False
        header, tensors = read_tensors(self._path, FORMAT, "checkpoint", CheckpointError)
        try:
            _bring_back(trainer, history, header["state"], tensors)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
            raise CheckpointError(f"{self._path}: not a whole checkpoint of this network ({type(error).__name__}: "
                                  f"{str(error)[:200]})") from error
        return True

    def is_time(self) -> bool:
        """Whether to save amid an epoch."""
        return self.every.seconds is not None and time.monotonic() - self._saved_at >= self.every.seconds

    def wants(self, trainer: Trainer, total_steps: int) -> bool:
        """Whether to save now, when the trainer is at rest: also at the end, after which there is more to do."""
        at_rest = not trainer.position and self.every.epochs is not None and trainer.epoch % self.every.epochs == 0
        return trainer.step >= total_steps or at_rest or self.is_time()

    def save(self, trainer: Trainer, history: History) -> None:
        """Write a checkpoint in place of the one before. Where that cannot be, warn: training itself goes on."""
        if self._circumstances is None:
            self._circumstances = self._make_circumstances()
        numbers, tensors = _state_of(trainer, history)
        header = {"format": FORMAT, **self._circumstances, "together": self.together, "state": numbers}
        try:
            write_tensors(self._path, header, tensors)
        except OutputError as error:
            kept = "the one before is kept" if self._path.exists() else "there is none yet"
            warnings.warn(f"no checkpoint at step {trainer.step}: {error}; {kept}", RuntimeWarning, stacklevel=3)
        self._saved_at = time.monotonic()

    def save_after_hurry(self, trainer: Trainer, history: History) -> None:
        """After training was cut off anywhere, go back to where its last epoch began, which is whole.

        Write a checkpoint of that unless there is one of this training.
        """
        trainer.undo_epoch()
        history.go_back(trainer.step, trainer.epoch)
        if not self._path.exists():
            self.save(trainer, history)

    def way_on(self) -> str:
        """How a run that was stopped goes on, for people."""
        if not checkpoint_files(self.folder):
            return "no checkpoint could be written, so this training cannot go on"
        return f"fastmlp train --resume {shlex.quote(str(self.folder))} goes on"

    @contextlib.contextmanager
    def writing_results(self, failure: Exception | None = None) -> Iterator[None]:
        """Within this context, what cannot be written is told with how training failed, or goes on once it can."""
        try:
            yield
        except OutputError as error:
            raise OutputError(f"{error}; {failure or self.way_on()}") from error

    def clear(self) -> None:
        """Remove the checkpoints of a run that has ended."""
        clear_checkpoints(self.folder)


def checkpoint_file(folder: Path, training: int) -> Path:
    """Where a training of a run is kept."""
    return folder / f"checkpoint-{training:03d}.safetensors"


def checkpoint_files(folder: Path) -> list[Path]:
    """Those that are there."""
    return sorted(folder.glob(CHECKPOINTS))


def clear_checkpoints(folder: Path) -> None:
    """Remove those of a run that has ended. Where they cannot be removed they do no harm: its result is looked at."""
    for path in checkpoint_files(folder):
        with contextlib.suppress(OSError):
            path.unlink()


def read_header(folder: Path) -> dict[str, Any]:
    """Under which circumstances a run's checkpoints were made.

    Raises
    ------
    CheckpointError
        There are none, or the last one is damaged.
    """
    files = checkpoint_files(folder)
    if not files:
        again = "in another folder" if (folder / RESULT_FILE).exists() else f"with --out {shlex.quote(str(folder))}"
        raise CheckpointError(f"--resume {folder}: there is no checkpoint in it; what was stopped before the first is "
                              f"begun again {again}")
    return read_tensors(files[-1], FORMAT, "checkpoint", CheckpointError)[0]


def _state_of(trainer: Trainer, history: History) -> tuple[dict[str, Any], Arrays]:
    """The state of a trainer at rest, as JSON's numbers and as arrays."""
    network, optimizer, good = trainer.network, trainer.optimizer, trainer.states.good
    read = network.backend.to_host
    moment = trainer.moment()
    numbers = {
        "step": moment.step, "epoch": moment.epoch, "generators": moment.generators, "position": trainer.position,
        "rate_factor": trainer.rate_factor, "has_running": network.has_running, "optimizer_step": optimizer.step,
        "good": {"step": good.moment.step, "epoch": good.moment.epoch, "generators": good.moment.generators,
                 "has_running": good.has_running, "optimizer_step": good.remembered["step"]},
        "frozen": [None if one is None else [one.what, one.step, one.lr] for one in trainer.frozen],
        "snapshots": sorted(trainer.snapshots),
        "rows": [list(row) for row in history.rows], "epoch_seconds": history.epoch_seconds,
        "epoch_examples": history.epoch_examples, "epoch_is_whole": history.epoch_is_whole,
    }
    tensors = {name: read(array) for name, array in _arrays_now(trainer).items()}
    tensors |= {name: read(array) for name, array in _arrays_of(good).items()}
    tensors |= {f"snapshot.{step}.{name}": array for step, snapshot in trainer.snapshots.items()
                for name, array in snapshot.items()}
    for name in dict.fromkeys(name for row in history.rows for name in row):
        tensors[f"history.{name}"] = np.stack([np.asarray(row[name]) for row in history.rows if name in row])
    return numbers, tensors


def _arrays_now(trainer: Trainer) -> dict[str, Any]:
    return {"now.parameters": trainer.network.parameters, "now.running": trainer.network.running,
            **{f"now.optimizer.{name}": array for name, array in trainer.optimizer.state.items()}}


def _arrays_of(kept: Kept) -> dict[str, Any]:
    return {"good.parameters": kept.parameters, "good.running": kept.running,
            **{f"good.optimizer.{name}": array for name, array in kept.remembered["state"].items()}}


def _bring_back(trainer: Trainer, history: History, numbers: dict[str, Any], tensors: Arrays) -> None:
    """What `_state_of` says, the other way round, into a trainer and a history that have just been made."""
    network, good, was_good = trainer.network, trainer.states.good, numbers["good"]
    _check_numbers(trainer, numbers)
    for name, array in (_arrays_now(trainer) | _arrays_of(good)).items():
        saved = tensors[name]
        if saved.shape != array.shape or saved.dtype != network.dtype:
            raise ValueError(f"{name} is {saved.dtype} {saved.shape} and should be {network.dtype} {array.shape}")
        array[...] = network.backend.asarray(saved)
    trainer.go_to(Moment(numbers["step"], numbers["epoch"], tuple(numbers["generators"])))
    trainer.position, trainer.rate_factor = numbers["position"], numbers["rate_factor"]
    network.has_running, trainer.optimizer.step = numbers["has_running"], numbers["optimizer_step"]
    good.moment = Moment(was_good["step"], was_good["epoch"], tuple(was_good["generators"]))
    good.has_running, good.remembered["step"] = was_good["has_running"], was_good["optimizer_step"]
    trainer.states.begun()
    trainer.frozen = [None if one is None else Divergence(*one) for one in numbers["frozen"]]
    for step in numbers["snapshots"]:
        prefix = f"snapshot.{step}."
        trainer.snapshots[step] = {name: tensors[prefix + name] for name in tensors_of(network)}
    columns = {name: iter(_column(name, trainer, numbers["rows"], tensors))
               for name in {name for row in numbers["rows"] for name in row}}
    history.rows = [{name: _value(next(columns[name])) for name in row} for row in numbers["rows"]]
    history.epoch_seconds, history.epoch_examples = numbers["epoch_seconds"], numbers["epoch_examples"]
    history.epoch_is_whole = numbers["epoch_is_whole"]


def _column(name: str, trainer: Trainer, rows: list[list[str]], tensors: Arrays) -> npt.NDArray[Any]:
    """A measurement in all rows that have it: (n,), or of a population's members (n, M)."""
    column, n, members = tensors[f"history.{name}"], sum(name in row for row in rows), trainer.network.members
    if column.shape not in ((n,), (n, members))[:1 if members == 1 else 2]:
        raise ValueError(f"history.{name} is {column.shape} for {n} rows and {members} members")
    return column


def _check_numbers(trainer: Trainer, numbers: dict[str, Any]) -> None:
    """Refuse numbers that no training can be at. Arrays, and the generators' states, are refused as they are used."""
    good, frozen, rows = numbers["good"], numbers["frozen"], numbers["rows"]
    epochs = [numbers[f"epoch_{name}"] for name in ("seconds", "examples", "is_whole")]
    sound = {
        **{f"{place}{name}": _is_count(state[name]) for place, state in (("", numbers), ("good ", good))
           for name in ("step", "epoch", "optimizer_step")},
        "has_running": isinstance(numbers["has_running"], bool) and isinstance(good["has_running"], bool),
        "position": _is_count(numbers["position"]) and numbers["position"] < trainer.steps_per_epoch,
        "rate_factor": _is_number(numbers["rate_factor"]) and 0 <= numbers["rate_factor"] <= 1,
        "frozen": len(frozen) == trainer.network.members and all(
            one is None or (isinstance(one[0], str) and _is_count(one[1]) and _is_number(one[2])) for one in frozen),
        "snapshots": all(map(_is_count, numbers["snapshots"])),
        "rows": all({"step", "epoch", "lr"} <= set(row) for row in rows),
        "epochs": all(len(column) == len(epochs[0]) and all(map(_is_number, column)) for column in epochs),
    }
    wrong = [name for name, is_sound in sound.items() if not is_sound]
    if wrong:
        raise ValueError(f"{', '.join(wrong)} cannot be so")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**53


def _value(array: npt.NDArray[Any]) -> Any:
    return array.item() if array.ndim == 0 else array
