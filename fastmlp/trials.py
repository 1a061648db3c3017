"""Trainings of several settings on one data set: those that can are trained together, as one population."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from fastmlp.backend import Backend
from fastmlp.config import TrainOptions
from fastmlp.data import Dataset
from fastmlp.data.standardize import Standardizer
from fastmlp.groups import Outcome, train_members
from fastmlp.progress import Progress
from fastmlp.sweeps import SWEEPABLE, Member
from fastmlp.trainer import SILENCE

NEVER = 10**9       # epochs between evaluations, beside that at the end


def alike(trials: Sequence[TrainOptions]) -> list[list[int]]:
    """Which trials are trained together: those that differ in nothing but seed and swept options.

    Examples
    --------
    >>> alike([TrainOptions(l2=0.1), TrainOptions(batch_size=50), TrainOptions(seed=3)])
    [[0, 2], [1]]
    """
    common: dict[str, Any] = {name: TrainOptions.__dataclass_fields__[name].default for name in (*SWEEPABLE, "seed")}
    groups: dict[TrainOptions, list[int]] = {}
    for k, trial in enumerate(trials):
        groups.setdefault(replace(trial, **common), []).append(k)
    return list(groups.values())


def train_trials(trials: Sequence[TrainOptions], data: Dataset, backend: Backend, *, standardizer: Standardizer,
                 seed: int, watcher: Progress = SILENCE,
                 should_stop: Callable[[], bool] | None = None) -> list[Outcome]:
    """Train every trial and measure it on the validation part at the end.

    Parameters
    ----------
    trials : sequence of TrainOptions
        They may differ in anything but data and device.
    data : Dataset
        With a validation part.
    backend : Backend
        Where to train.
    standardizer : Standardizer
        Of the inputs.
    seed : int
        Of the order of the examples, shared by those trained together.
    watcher : Progress, optional
        Told about every group.
    should_stop : callable, optional
        Asked before every step.

    Returns
    -------
    list of Outcome
        In the order of the trials; those that were not finished say so.
    """
    outcomes = [Outcome(Member(trial)) for trial in trials]
    for group in alike(trials):
        if should_stop is not None and should_stop():
            break
        members = [Member(replace(trials[k], evaluate_every=NEVER)) for k in group]
        trained = train_members(members, data, standardizer, backend, seed=seed, evaluate_on=("val",), watcher=watcher,
                                should_stop=should_stop)
        for k, outcome in zip(group, trained, strict=True):
            outcomes[k] = outcome
    return outcomes
