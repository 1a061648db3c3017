"""Training what studies need and a store does not hold, in as few populations as the shapes of the networks allow.

Each seed has its own initial weights, order of the examples and validation split. The trials of one seed that can be
are trained together: they differ in rates, penalty and initialisation.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from fastmlp.backend import Backend
from fastmlp.config import TrainOptions
from fastmlp.data import Dataset
from fastmlp.data.fingerprint import fingerprint
from fastmlp.errors import ConfigError
from fastmlp.evaluation import evaluate, predict_logits
from fastmlp.examples import Examples
from fastmlp.groups import INTERRUPTED, Outcome, fit_standardizer
from fastmlp.population import ROW, Population
from fastmlp.progress import Progress
from fastmlp.run import load
from fastmlp.studies.catalogue import Study, Trial
from fastmlp.studies.store import Result, TrialStore
from fastmlp.trials import train_trials, trained_together

HISTORY = ("step", "epoch", "lr", *ROW)
WEIGHTS = "weights"         # the first layer's (D, H)
LOGITS = "logits"           # of the test part, at the ends of S cycles if snapshots are kept, else at the end (S, n, C)


@dataclass(frozen=True)
class Plan:
    """What is to be trained.

    Attributes
    ----------
    trials : dict
        By key; where several studies want a trial, it is evaluated as often as any of them wants.
    arrays : dict of str to set of str
        By key: the arrays that are kept beside the result, of `WEIGHTS` and `LOGITS`.
    """

    trials: dict[str, Trial]
    arrays: dict[str, set[str]]


def make_plan(studies: Iterable[Study], base: TrainOptions, seeds: Iterable[int]) -> Plan:
    """The trials of all studies and seeds, each once."""
    plan = Plan({}, {})
    for seed in seeds:
        for study in studies:
            for trial in study.trials(base, seed):
                known = plan.trials.get(trial.key, trial)
                plan.trials[trial.key] = min(known, trial, key=lambda one: one.options.evaluate_every)
                arrays = {WEIGHTS} if study.weights and seed == base.seed else set()
                arrays |= {LOGITS} if study.ensembles else set()
                plan.arrays.setdefault(trial.key, set()).update(arrays)
    return plan


class Laboratory:
    """Where studies are trained: a backend, a store, and the data, which are read once for each way to divide them.

    Parameters
    ----------
    base : TrainOptions
        Data set, device, and what else all trials share.
    backend : Backend
        Where to train.
    open_store : callable
        Makes the store from the fingerprint of the data.
    """

    def __init__(self, base: TrainOptions, backend: Backend, open_store: Callable[[str], TrialStore]) -> None:
        self.base, self.backend = base, backend
        self._division: Any = None
        self._data = self.data_for(base)
        self.store = open_store(fingerprint(self._data))

    def data_for(self, options: TrainOptions) -> Dataset:
        """The data set, divided as the options ask; the last division is kept."""
        division = (options.seed, options.train_batches, options.validation_batches, options.validation)
        if division != self._division:
            self._division, self._data = division, load(options)
            if not len(self._data.y_val) or not len(self._data.y_test):
                raise ConfigError(f"studies of {self._data.name} need a validation and a test part: take "
                                  f"more data")
            n, size = len(self._data.y_train), options.batch_size
            if n < size or n % size == 1:               # of one example batch norm has no variance
                raise ConfigError(f"studies train with batches of {size}, and of {n} training examples of "
                                  f"{self._data.name} {'none can be filled' if n < size else 'one is left over'}: "
                                  f"{'take more data' if n < size else 'add or leave out a few examples'}")
        return self._data

    def train(self, plan: Plan, say: Callable[[str], None], watcher: Progress,
              should_stop: Callable[[], bool]) -> bool:
        """Train what the store does not hold, and keep each group as it is finished; whether all is there."""
        missing = [self.store.as_often(trial) for key, trial in plan.trials.items()
                   if not self._is_kept(trial, plan.arrays[key])]
        say(f"trials {len(plan.trials)} in all, {len(plan.trials) - len(missing)} of them kept from before")
        groups = _groups(missing)
        for number, group in enumerate(groups, start=1):
            began = time.perf_counter()
            self._train_group(group, plan.arrays, watcher, should_stop)
            if should_stop():
                return False
            options = group[0].options
            shape = "-".join(map(str, options.hidden)) or "no hidden layer"
            say(f"{number:4} of {len(groups)}: seed {options.seed}, {len(group)} network{'s'[:len(group) != 1]} of "
                f"{shape}{', batch norm' if options.batch_norm else ''}, {time.perf_counter() - began:.1f} s")
        return True

    def _is_kept(self, trial: Trial, arrays: set[str]) -> bool:
        result = self.store.load(trial)
        return result is not None and (result.status != "finished" or all(
            self.store.load_array(trial, name) is not None for name in arrays))

    def _train_group(self, group: list[Trial], arrays: Mapping[str, set[str]], watcher: Progress,
                     should_stop: Callable[[], bool]) -> None:
        first = group[0].options
        data, began = self.data_for(first), time.perf_counter()
        standardizer = fit_standardizer(first, data, folds=False)
        outcomes = train_trials([trial.resolved(len(data.y_train)) for trial in group], data, self.backend,
                                standardizer=standardizer, seed=first.seed, watcher=watcher, should_stop=should_stop)
        done = [(trial, outcome) for trial, outcome in zip(group, outcomes, strict=True)
                if outcome.status != INTERRUPTED]
        population = Population([outcome for _, outcome in done], [{}], data, standardizer, self.backend)
        good = [k for k, (_, outcome) in enumerate(done) if outcome.diverged_at is None]
        test = Examples(data.x_test, data.y_test, len(data.classes), standardizer, self.backend, first.dtype)
        tested: dict[int, dict[str, float]] = {}
        if good:
            score = evaluate(population.network(*good), test)
            tested = {k: {"test_accuracy": float(score.accuracy[place]), "test_loss": float(score.loss[place])}
                      for place, k in enumerate(good)}
        for k in good:
            trial, outcome = done[k]
            if WEIGHTS in arrays[trial.key]:
                self.store.save_array(trial, WEIGHTS, outcome.tensors["w0"][0])
            if LOGITS in arrays[trial.key]:
                self.store.save_array(trial, LOGITS, predict_logits(population.network(k, snapshots=True), test))
        share = (time.perf_counter() - began) / len(group)
        for k, (trial, outcome) in enumerate(done):
            self.store.save(trial, _result(trial, outcome, tested.get(k, {}), share))


def _groups(trials: list[Trial]) -> list[list[Trial]]:
    """The trials by seed, and of each seed those together that can be trained together, those on the same data next."""
    groups = []
    for seed in sorted({trial.options.seed for trial in trials}):
        own = [trial for trial in trials if trial.options.seed == seed]
        own.sort(key=lambda trial: (trial.options.train_batches, str(trial.options.validation)))
        shapes = [replace(trial.options, step_size=trial.half_cycle) if trial.options.schedule == "cyclical"
                  else trial.options for trial in own]
        groups += [[own[k] for k in group] for group in trained_together(shapes)]
    return groups


def _result(trial: Trial, outcome: Outcome, tested: dict[str, float], seconds: float) -> Result:
    measured = {name: float(outcome.measured[name]) for name in ROW if name in outcome.measured}
    history = {name: [float(row.get(name, math.nan)) for row in outcome.history] for name in HISTORY}
    return Result(outcome.status, seconds, trial.options.evaluate_every,
                  {**measured, **tested} if tested else {}, history)
