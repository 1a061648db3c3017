"""Trials: networks whose options differ in anything, trained with as few populations as their shapes allow."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence

from fastmlp.backend import Backend
from fastmlp.config import TrainOptions
from fastmlp.data import Dataset
from fastmlp.data.standardize import Standardizer
from fastmlp.groups import Outcome, train_members
from fastmlp.progress import Progress
from fastmlp.sweeps import SWEEPABLE, Member
from fastmlp.trainer import SILENCE

ONLY_AT_THE_END = 10**9     # epochs between evaluations: beyond every training


def trained_together(trials: Sequence[TrainOptions]) -> list[list[int]]:
    """The trials' numbers, grouped: those of a group differ in seed and in what may differ within a population.

    Examples
    --------
    >>> narrow, wide = TrainOptions(hidden=(5,)), TrainOptions(hidden=(9,))
    >>> trained_together([narrow, wide, dataclasses.replace(narrow, l2=0.1), dataclasses.replace(wide, seed=3)])
    [[0, 2], [1, 3]]
    """
    free = {name: getattr(TrainOptions(), name) for name in (*SWEEPABLE, "seed")}
    groups: dict[TrainOptions, list[int]] = {}
    for number, trial in enumerate(trials):
        groups.setdefault(dataclasses.replace(trial, **free), []).append(number)
    return list(groups.values())


def train_trials(trials: Sequence[TrainOptions], data: Dataset, backend: Backend, *, standardizer: Standardizer,
                 seed: int, evaluate_on: Collection[str] = ("train", "val"), watcher: Progress = SILENCE,
                 should_stop: Callable[[], bool] | None = None) -> list[Outcome]:
    """Train every trial; those that can be are trained together.

    Parameters
    ----------
    trials : sequence of TrainOptions
        Each of one network on these data.
    data : Dataset
        What they are trained on.
    standardizer : Standardizer
        Of its inputs, as the trials' `standardize` asks.
    backend : Backend
        Where to train.
    seed : int
        Of the order of the examples, which all share; each trial's own seed is that of its weights.
    evaluate_on : collection of str, default ("train", "val")
        Parts of the data to measure on; what costs time without being looked at may be left out.
    watcher : Progress, optional
        Told about every group.
    should_stop : callable, optional
        Asked before every step.

    Returns
    -------
    list of Outcome, one a trial
        Those that an interruption left out have the status "interrupted".
    """
    outcomes = [Outcome(Member(trial)) for trial in trials]
    for group in trained_together(trials):
        trained = train_members([outcomes[k].member for k in group], data, standardizer, backend, seed=seed,
                                evaluate_on=evaluate_on, watcher=watcher, should_stop=should_stop)
        for k, outcome in zip(group, trained, strict=True):
            outcomes[k] = outcome
        if should_stop is not None and should_stop():
            break
    return outcomes
