"""Training what studies need and a store does not hold, in as few populations as the shapes of the networks allow.

Each seed has its own initial weights, order of the examples and validation split. The trials of one seed that can be
are trained together: they differ in rates, penalty and initialisation.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from fastmlp.backend import Backend
from fastmlp.config import TrainOptions
from fastmlp.data import Dataset
from fastmlp.errors import ConfigError
from fastmlp.evaluation import evaluate
from fastmlp.examples import Examples
from fastmlp.groups import INTERRUPTED, Outcome, check_parts, fit_standardizer
from fastmlp.population import ROW, Population
from fastmlp.progress import Progress
from fastmlp.run import load
from fastmlp.studies.catalogue import Study, Trial
from fastmlp.studies.store import Result, TrialStore, fingerprint
from fastmlp.trials import train_trials, trained_together

HISTORY = ("step", "epoch", "lr", *ROW)
WEIGHTS = "weights"         # the name under which first layers are kept


@dataclass(frozen=True)
class Plan:
    """What is to be trained.

    Attributes
    ----------
    trials : dict
        By key; where several studies want a trial, it is evaluated as often as any of them wants.
    weights : set of str
        Keys of the trials whose first layer is shown.
    """

    trials: dict[str, Trial]
    weights: set[str]


def make_plan(studies: Iterable[Study], base: TrainOptions, seeds: Iterable[int]) -> Plan:
    """The trials of all studies and seeds, each once."""
    plan = Plan({}, set())
    for seed in seeds:
        for study in studies:
            for trial in study.trials(base, seed):
                known = plan.trials.get(trial.key, trial)
                plan.trials[trial.key] = min(known, trial, key=lambda one: one.options.evaluate_every)
                if study.weights and seed == base.seed:
                    plan.weights.add(trial.key)
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
                raise ConfigError(f"studies of {self._data.name} need a validation and a test part: leave "
                                  f"--validation and --test out")
        return self._data

    def train(self, plan: Plan, say: Callable[[str], None], watcher: Progress,
              should_stop: Callable[[], bool]) -> bool:
        """Train what the store does not hold, and keep each group as it is finished; whether all is there."""
        missing = [trial for key, trial in plan.trials.items() if not self._is_kept(trial, key in plan.weights)]
        say(f"trials {len(plan.trials)} in all, {len(plan.trials) - len(missing)} of them kept from before")
        groups = _groups(missing)
        for number, group in enumerate(groups, start=1):
            began = time.perf_counter()
            self._train_group(group, plan.weights, watcher, should_stop)
            if should_stop():
                return False
            options = group[0].options
            shape = "-".join(map(str, options.hidden)) or "no hidden layer"
            say(f"{number:4} of {len(groups)}: seed {options.seed}, {len(group)} network{'s'[:len(group) != 1]} of "
                f"{shape}{', batch norm' if options.batch_norm else ''}, {time.perf_counter() - began:.1f} s")
        return True

    def _is_kept(self, trial: Trial, with_weights: bool) -> bool:
        result = self.store.load(trial)
        return result is not None and not (with_weights and result.status == "finished"
                                           and self.store.load_array(trial, WEIGHTS) is None)

    def _train_group(self, group: list[Trial], weights: set[str], watcher: Progress,
                     should_stop: Callable[[], bool]) -> None:
        first = group[0].options
        data, began = self.data_for(first), time.perf_counter()
        check_parts(first, len(data.y_train), None)
        standardizer = fit_standardizer(first, data, folds=False)
        outcomes = train_trials([trial.resolved(len(data.y_train)) for trial in group], data, self.backend,
                                standardizer=standardizer, seed=first.seed, watcher=watcher, should_stop=should_stop)
        done = [(trial, outcome) for trial, outcome in zip(group, outcomes, strict=True)
                if outcome.status != INTERRUPTED]
        population = Population([outcome for _, outcome in done], [{}], data, standardizer, self.backend)
        good = [k for k, (_, outcome) in enumerate(done) if outcome.diverged_at is None]
        tested: dict[int, dict[str, float]] = {}
        if good:
            test = Examples(data.x_test, data.y_test, len(data.classes), standardizer, self.backend, first.dtype)
            score = evaluate(population.network(*good), test)
            tested = {k: {"test_accuracy": float(score.accuracy[place]), "test_loss": float(score.loss[place])}
                      for place, k in enumerate(good)}
        share = (time.perf_counter() - began) / len(group)
        for k, (trial, outcome) in enumerate(done):
            if trial.key in weights and outcome.diverged_at is None:
                self.store.save_array(trial, WEIGHTS, outcome.tensors["w0"][0])
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
