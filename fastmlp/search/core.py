"""The work of a search: take trials, train those that can be together, tell what came of them, until none are left."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fastmlp.backend import Backend
from fastmlp.config import NETWORK, TRAINING, TrainOptions
from fastmlp.data import Dataset
from fastmlp.data.fingerprint import fingerprint
from fastmlp.data.rows_on_disk import RowsOnDisk
from fastmlp.data.standardize import Standardizer
from fastmlp.errors import ConfigError, DivergenceError, FastMLPError
from fastmlp.groups import DIVERGED, FINISHED, INTERRUPTED, Outcome, check_parts
from fastmlp.options import flag, rules
from fastmlp.progress import Progress
from fastmlp.search.ledger import Ledger
from fastmlp.search.options import SearchOptions, check_base
from fastmlp.search.records import Claim, Record, best_of
from fastmlp.search.samplers import check_sampler
from fastmlp.search.space import NOT_SEARCHED, Space, describe_space, label_of, make_space, with_point
from fastmlp.search.storage import Storage
from fastmlp.sweeps import describe
from fastmlp.trainer import REMEDY
from fastmlp.trials import ONLY_AT_THE_END, train_trials, trained_together

POLL = 1.0              # seconds between two looks at what others do
IMPOSSIBLE = "impossible: "
#: Of what is not searched, what may differ between workers and from one command to the next.
ANYWHERE = tuple(name for name in NOT_SEARCHED if name not in ("seed", "dtype", "precision"))


class Search:
    """A search on some data, in a storage.

    Parameters
    ----------
    options : SearchOptions
        What to search.
    base : TrainOptions
        What all trials have in common.
    data : Dataset
        With a validation part.
    backend : Backend
        Where to train.
    storage : callable
        Opens the storage, once all else has been found right.
    say : callable
        Receives lines for people.
    watcher : Progress
        Told about every group of trials.

    Raises
    ------
    ConfigError
        Options or space contradict themselves, there is no validation part, or the storage holds another search.
    MissingExtraError
        Optuna is not installed, or a package that the sampler needs.
    """

    def __init__(self, options: SearchOptions, base: TrainOptions, data: Dataset, backend: Backend,
                 storage: Callable[[], Storage], *, say: Callable[[str], None], watcher: Progress) -> None:
        check_base(base)
        if not len(data.y_val):
            raise ConfigError("a search chooses by validation accuracy, and there is no validation part: ask for one "
                              "by --validation")
        self.options, self.base, self.data, self._backend = options, base, data, backend
        self._say, self._watcher = say, watcher
        self.given = make_space(options.space, base)
        self._standardizer = Standardizer.fit(data.x_train, base.standardize)      # type: ignore[arg-type]
        check_sampler(options.sampler)
        self.storage = storage()
        try:
            self.ledger = Ledger(self.storage, options, self.given, base.seed,
                                 identity_of(options, base, data, self.given))
        except BaseException:
            self.close()
            raise

    def nothing_found(self, where: str = "") -> FastMLPError:
        """Why there is no best setting; `where` stands in the end."""
        records = self.ledger.records()
        if not records:
            return ConfigError(f"--minutes {self.options.minutes} were over before the first trial was trained: give "
                               f"more{where}")
        return DivergenceError(f"none of {count(len(records), 'trial')} could be trained to its end; the first: "
                               f"{records[0].status}: {REMEDY}, or give --minutes for longer{where}", step=0, lr=0.0)

    def close(self) -> None:
        """Leave the storage."""
        self.storage.close()

    def run(self, should_stop: Callable[[], bool], after: Callable[[], None] = lambda: None) -> bool:
        """Search until all stages are over; whether they are.

        Parameters
        ----------
        should_stop : callable
            Asked before every step: when it says yes, what is amid training is left to a later command.
        after : callable
            Called whenever some trials have been settled.
        """
        began, shown = time.monotonic(), 0

        def is_over(stage: int) -> bool:
            minutes = self.options.minutes
            return minutes is not None and time.monotonic() - began >= 60 * minutes * stage / self.options.stages

        if settled := len(self.ledger.records()):
            self._say(f"going on after {count(settled, 'trial')}")
        waiting = False
        while not should_stop():
            claims = self.ledger.take(is_over)
            if claims is None:
                return True
            if not claims:
                if not waiting:
                    self._say("waiting for the last trials of this stage, which other workers train")
                waiting = True
                wait(POLL, should_stop)
                continue
            waiting = False
            if claims[0].stage != shown:
                shown = claims[0].stage
                self._say(f"stage {shown} of {self.options.stages}: {describe_space(self.ledger.spaces()[-1])}")
            self._work(claims, should_stop)
            after()
        return False

    def _work(self, claims: Sequence[Claim], should_stop: Callable[[], bool]) -> None:
        """Train some trials; what is not finished in the end, however that comes, is given back."""
        open_claims = list(claims)
        try:
            with self.storage.alive([claim.trial_id for claim in claims]):
                possible = [claim for claim in claims if not self._is_impossible(claim, open_claims)]
                settings = [with_point(self.base, claim.point) for claim in possible]
                for group in trained_together(settings):
                    if should_stop():
                        break
                    trials = [replace(settings[k], seed=self.base.seed + n, evaluate_every=ONLY_AT_THE_END)
                              for k in group for n in range(self.options.seeds)]
                    outcomes = train_trials(trials, self.data, self._backend, standardizer=self._standardizer,
                                            seed=self.base.seed, evaluate_on=("val",), watcher=self._watcher,
                                            should_stop=should_stop)
                    if any(outcome.status == INTERRUPTED for outcome in outcomes):
                        break
                    for place, k in enumerate(group):
                        mine = outcomes[place * self.options.seeds:(place + 1) * self.options.seeds]
                        self._tell(possible[k], open_claims, **verdict(mine))
        finally:
            if open_claims:
                with contextlib.suppress(FastMLPError):     # what brought us here is the error to tell
                    self.ledger.give_back(open_claims)

    def _is_impossible(self, claim: Claim, open_claims: list[Claim]) -> bool:
        """Settle a trial that cannot be trained, as with a batch that leaves a single row to batch norm."""
        try:
            check_parts(with_point(self.base, claim.point), len(self.data.y_train), None)
        except ConfigError as error:
            self._tell(claim, open_claims, status=f"{IMPOSSIBLE}{error}", accuracy=None, deviation=None, seconds=0.0)
            return True
        return False

    def _tell(self, claim: Claim, open_claims: list[Claim], **outcome: Any) -> None:
        told = self.ledger.tell(claim, **outcome)
        open_claims.remove(claim)
        text = describe(claim.point)
        if not told:
            self._say(f"  {text}: taken over by another worker, as this one had given no sign of life")
        elif outcome["accuracy"] is None:
            self._say(f"  {text}: {outcome['status']}")
        else:
            more = f" +- {outcome['deviation']:.4f}" if outcome["deviation"] is not None else ""
            self._say(f"  {text}: validation accuracy {outcome['accuracy']:.4f}{more}")

    def best(self) -> Record | None:
        """The trial with the best validation accuracy."""
        return best_of(self.ledger.records())

    def table(self) -> dict[str, list[Any]]:
        """A row for each settled trial, as columns."""
        rows = [{"trial": one.number, "stage": one.stage, **one.point, "status": one.status,
                 "val_accuracy": one.accuracy, "val_accuracy_std": one.deviation, "seconds": one.seconds,
                 "started": one.started} for one in self.ledger.records()]
        names = ["trial", "stage", *self.given, "status", "val_accuracy", "val_accuracy_std", "seconds", "started"]
        return {name: [row[name] for row in rows] for name in names}


def verdict(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """What a setting is told as: the mean over its networks, unless half of them or more diverged."""
    good = [outcome.measured["val_accuracy"] for outcome in outcomes if outcome.status == FINISHED]
    seconds = sum(outcome.seconds for outcome in outcomes)
    if 2 * len(good) <= len(outcomes):
        step = min(outcome.diverged_at for outcome in outcomes if outcome.diverged_at is not None)
        return {"status": f"{DIVERGED}{step}", "accuracy": None, "deviation": None, "seconds": seconds}
    return {"status": FINISHED, "accuracy": float(np.mean(good)), "seconds": seconds,
            "deviation": float(np.std(good, ddof=1)) if len(good) > 1 else None}


def identity_of(options: SearchOptions, base: TrainOptions, data: Dataset, given: Space) -> dict[str, Any]:
    """What makes a search this one, by names for people: going on with anything else would mix two searches."""
    parts = " + ".join(str(len(labels)) for labels in (data.y_train, data.y_val, data.y_test))
    searched = [name for name, rule in rules(TrainOptions).items()
                if name == "standardize" or (rule.group in (NETWORK, TRAINING) and name not in (*ANYWHERE, *given))]
    on_disk = isinstance(data.x_train, RowsOnDisk)      # of which a fingerprint knows less, and numbers may be wider
    return {
        "--data-memory": f"that {'leaves the rows on disk' if on_disk else 'holds the rows'}",
        "the data": f"{data.name} ({parts} rows, fingerprint {fingerprint(data)})",
        "--space": ", ".join(f"{name}={values}" for name, values in given.items()),
        **{f"--{name}": getattr(options, name) for name in ("stages", "sampler", "seeds")},
        **{flag(name): label_of(getattr(base, name)) for name in searched},
    }


def count(number: int, noun: str) -> str:
    """A number of things, for people."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def wait(seconds: float, should_stop: Callable[[], bool]) -> None:
    """Let others work on."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not should_stop():
        time.sleep(0.05)
