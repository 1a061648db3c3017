"""Finished trials, kept in a folder as they come: what is there is never trained again."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp import __version__
from fastmlp.data.npy import check_size, read_header
from fastmlp.errors import DataError
from fastmlp.files import write_atomically, write_json
from fastmlp.options import plain
from fastmlp.studies.catalogue import Trial

FORMAT = "fastmlp-trial-1"


@dataclass(frozen=True)
class Result:
    """What became of a trial.

    Attributes
    ----------
    status : str
        "finished" or "diverged at step N".
    seconds : float
        Its share of the time that its group took, evaluation included.
    evaluate_every : int
        Epochs between the rows of its history.
    scores : dict
        `test_accuracy`, `test_loss`, and at the end of training `train_` and `val_` accuracy, loss and cost; without
        those that were not measured.
    history : dict
        Columns as in a run's history.csv.
    """

    status: str
    seconds: float
    evaluate_every: int
    scores: dict[str, float]
    history: dict[str, list[float]]


class TrialStore:
    """A folder of finished trials of one data set.

    Parameters
    ----------
    folder : Path
        Made with the first result.
    data : str
        What `fingerprint` makes of the data set.
    """

    def __init__(self, folder: Path, data: str) -> None:
        self.folder, self.data = folder, data

    def _read(self, trial: Trial) -> Result | None:
        path = self._path(trial)
        if not path.exists():
            return None
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            if kept["format"] != FORMAT:
                raise ValueError(f"format {kept['format']!r}")
            data = kept["data"]
            result = Result(str(kept["status"]), float(kept["seconds"]), int(kept["evaluate_every"]),
                            {str(name): float(value) for name, value in kept["scores"].items()},
                            {str(name): [float("nan") if value is None else float(value) for value in column]
                             for name, column in kept["history"].items()})
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise DataError(f"{path}: not a whole trial of fastmlp ({type(error).__name__}: {str(error)[:100]}): "
                            f"delete it, and it is trained again") from error
        if data != self.data:
            raise DataError(f"{self.folder} holds trials on other data than these: name another folder with --out")
        return result

    def load(self, trial: Trial) -> Result | None:
        """What is known of a trial; None where it must be trained, also for a course that was not written down.

        Raises
        ------
        DataError
            Its file is damaged, or of other data.
        """
        result = self._read(trial)
        return result if result is not None and result.evaluate_every <= trial.options.evaluate_every else None

    def as_often(self, trial: Trial) -> Trial:
        """The trial, measured at least as often as the one that is kept, so that training it again loses nothing."""
        kept = self._read(trial)
        every = trial.options.evaluate_every if kept is None else min(trial.options.evaluate_every,
                                                                      kept.evaluate_every)
        return replace(trial, options=replace(trial.options, evaluate_every=every))

    def save(self, trial: Trial, result: Result) -> None:
        """Keep a result, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self._path(trial), {
            "format": FORMAT, "version": __version__, "data": self.data, "options": plain(trial.options),
            "half_cycle": trial.half_cycle, **vars(result)})

    def load_array(self, trial: Trial, name: str) -> npt.NDArray[Any] | None:
        """An array that was kept beside a trial's result, if there is one."""
        path = self._path(trial).with_suffix(f".{name}.npy")
        try:
            with path.open("rb") as file:
                check_size(read_header(file, str(path)), path.stat().st_size - file.tell(), str(path))
                file.seek(0)
                array: npt.NDArray[Any] = np.load(file, allow_pickle=False)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, EOFError) as error:            # DataError is a ValueError
            raise DataError(f"{path}: not a whole array: delete it, and its trial is trained again") from error
        return array

    def save_array(self, trial: Trial, name: str, array: npt.NDArray[Any]) -> None:
        """Keep an array beside a trial's result; do it before the result is kept."""
        import io

        self.folder.mkdir(parents=True, exist_ok=True)
        file = io.BytesIO()
        np.save(file, array, allow_pickle=False)
        write_atomically(self._path(trial).with_suffix(f".{name}.npy"), file.getvalue())

    def _path(self, trial: Trial) -> Path:
        return self.folder / f"{trial.key}.json"
