"""A trial that a worker has taken, and one that is settled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Claim:
    """A trial that this worker has taken.

    Attributes
    ----------
    stage, place : int
        The place in its stage, from 0 on; stages count from 1.
    point : dict
        Where in the space.
    number, trial_id : int
        Optuna's: of the trial in its study, and in the storage.
    """

    stage: int
    place: int
    point: dict[str, Any]
    number: int
    trial_id: int


@dataclass(frozen=True)
class Record:
    """A settled trial.

    Attributes
    ----------
    number : int
        Counted over all stages, from 0 on.
    stage : int
        From 1 on.
    point : dict
        Where in the space.
    started : str
        Date and time.
    status : str
        "finished", "diverged at step N" or "impossible: ...".
    accuracy, deviation : float or None
        Of the validation accuracy over the seeds' networks: mean, and standard deviation where there are several.
    seconds : float
        Of training, as a share of the time of those that were trained together.
    """

    number: int
    stage: int
    point: dict[str, Any]
    started: str
    status: str
    accuracy: float | None
    deviation: float | None
    seconds: float


def best_of(records: Sequence[Record]) -> Record | None:
    """The one with the best validation accuracy, of equals the earliest; None where none is finished."""
    finished = [record for record in records if record.accuracy is not None]
    return max(finished, key=lambda record: (record.accuracy or 0.0, -record.number), default=None)
