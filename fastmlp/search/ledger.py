"""Who takes which trial, what came of it, and when a stage is over: one search in a storage, shared by its workers.

Every stage is a study of Optuna's, whose user attributes hold its space. A trial has a place in its stage. A place is
taken while a living worker trains it, and settled when it is finished or has diverged; a worker that died leaves its
places free, so that these are tried again and nothing else: with the same settings, unless the sampler has learnt more
meanwhile or walks on along a sequence. Everything that depends on what others do is decided under the storage's lock.
"""

from __future__ import annotations

import itertools
import os
import secrets
import socket
from collections.abc import Callable, Mapping
from typing import Any

from fastmlp.errors import ConfigError
from fastmlp.groups import FINISHED
from fastmlp.search.options import SearchOptions
from fastmlp.search.records import Claim, Record
from fastmlp.search.samplers import SEQUENCES, distributions, make_sampler, seed_of
from fastmlp.search.space import Space, plain_space, space_from_plain
from fastmlp.search.stages import narrowed, stage_trials
from fastmlp.search.storage import Storage, import_optuna, quiet_warnings

#: Tells this process from an earlier one of the same number.
_TOKEN = secrets.token_hex(4)
FINAL = "final"         # the study in whose only trial the best setting meets the test set
#: What of a search's result is read again, and its kinds.
RESULT: dict[str, Any] = {"status": str, "best": dict, "best_val_accuracy": float, "trials": int, "diverged": int,
                          "impossible": int, "test_accuracy": float | None, "test_loss": float | None}


class Ledger:
    """One search in a storage.

    Parameters
    ----------
    storage : Storage
        May hold other searches, too.
    options : SearchOptions
        The search's.
    given : Space
        The space of the first stage.
    seed : int
        Of the samplers.
    identity : mapping
        What makes this search this one: names for people, and values. A search that was begun with others is refused.

    Raises
    ------
    ConfigError
        The storage holds another search of this name.
    """

    def __init__(self, storage: Storage, options: SearchOptions, given: Space, seed: int,
                 identity: Mapping[str, Any]) -> None:
        self._storage, self._options, self._given, self._seed = storage, options, given, seed
        self._studies: dict[str, Any] = {}
        self._trials = import_optuna().trial.TrialState
        self._worker = f"{socket.gethostname()}:{os.getpid()}:{_TOKEN}"
        with storage.explaining(), storage.lock():
            with storage.reading():
                first = self._study(self._stage_name(1))
                begun = first is not None and "space" in first.user_attrs       # otherwise its maker died
                if begun:
                    self._compare(first.user_attrs.get("identity", {}), identity)
            if not begun:
                self._open_stage(1, given, identity)

    def _compare(self, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
        for name in dict.fromkeys([*here, *there]):
            if there.get(name) != here.get(name):
                raise ConfigError(
                    f"{self._storage.name} holds another search {self._options.study!r}, of {name} {there.get(name)}, "
                    f"not {here.get(name)}: repeat its options, or name another --out, --storage or --study")

    def spaces(self) -> list[Space]:
        """The space of every stage that was begun."""
        with self._storage.explaining():
            return self._spaces()

    def records(self) -> list[Record]:
        """All settled trials."""
        with self._storage.explaining():
            return self._records()

    def take(self, is_over: Callable[[int], bool]) -> list[Claim] | None:
        """Take some trials of the present stage, or begin the next stage when all of this one are settled.

        Parameters
        ----------
        is_over : callable
            Whether, from a stage's number, its time is over, so that no further trial of it is begun.

        Returns
        -------
        list of Claim or None
            Empty while others train the last ones of the stage; None when all stages are over.
        """
        with self._storage.explaining(), self._storage.lock():
            while True:
                spaces, total = self._spaces(), self._options.total
                stage = len(spaces)
                settled = self._records()
                before = sum(record.stage < stage for record in settled)
                places = self._places(stage)
                n = None if total is None else stage_trials(total, before, stage, self._options.stages)
                free = (place for place in (itertools.count() if n is None else range(n)) if place not in places)
                taken = [] if is_over(stage) else list(itertools.islice(free, self._options.at_once))
                if taken:
                    return self._begun([self._ask(stage, place, spaces[-1]) for place in taken])
                if any(trial.state == self._trials.RUNNING for trial in places.values()):
                    return []
                finished = [record for record in settled if record.accuracy is not None]
                if stage == self._options.stages or not finished:
                    return None
                space = narrowed(self._given, spaces[-1], [record.point for record in finished],
                                 [record.accuracy or 0.0 for record in finished],
                                 sum(record.stage == stage for record in finished))
                self._open_stage(stage + 1, space)

    def tell(self, claim: Claim, *, status: str, accuracy: float | None, deviation: float | None,
             seconds: float) -> bool:
        """Settle a trial; False if it was meanwhile given to another worker, as this one gave no sign of life."""
        outcome = {"status": status, "deviation": deviation, "seconds": seconds}
        state = self._trials.COMPLETE if status == FINISHED else self._trials.PRUNED
        with self._storage.explaining(), self._storage.lock():
            return self._settle(self._stage_name(claim.stage), claim, state, accuracy, outcome)

    def give_back(self, claims: list[Claim]) -> None:
        """Free the places of trials that were not finished."""
        with self._storage.explaining(), self._storage.lock():
            for claim in claims:
                self._settle(self._stage_name(claim.stage), claim, self._trials.FAIL, None, {})

    def result(self) -> dict[str, Any] | None:
        """What the search came to, once the best setting has met the test set."""
        with self._storage.explaining(), self._storage.reading():
            study = self._study(FINAL)
            done = [] if study is None else study.get_trials(deepcopy=False, states=(self._trials.COMPLETE,))
            if not done:
                return None
            result = dict(done[0].user_attrs["outcome"])
            wrong = [name for name, kinds in RESULT.items() if not isinstance(result.get(name, ...), kinds)]
            if wrong:
                raise ValueError(f"of its result {', '.join(wrong)} cannot be so")
            return result

    def take_final(self) -> Claim | None:
        """Take the training of the best setting; None where another worker is at it, or it has been done."""
        with self._storage.explaining(), self._storage.lock():
            if self._study(FINAL) is None:
                self._create(FINAL)
            return None if self._places(FINAL) else self._begun([self._claim(FINAL, 0, 0, {})])[0]

    def tell_final(self, claim: Claim, result: Mapping[str, Any] | None) -> None:
        """Settle the search with its result; or, without, leave the training of the best setting to others."""
        state = self._trials.COMPLETE if result is not None else self._trials.FAIL
        accuracy = None if result is None else result["val_accuracy"]
        with self._storage.explaining(), self._storage.lock():
            self._settle(FINAL, claim, state, accuracy, dict(result or {}))

    def _stage_name(self, stage: int) -> str:
        return f"stage {stage}"

    def _study(self, what: str) -> Any:
        """The study of a stage or of the end, None where it was not begun."""
        if what not in self._studies:
            try:
                study = import_optuna().load_study(study_name=f"{self._options.study}, {what}",
                                                   storage=self._storage.optuna)
            except KeyError:
                return None
            self._studies[what] = study
        return self._studies[what]

    def _create(self, what: str) -> Any:
        self._studies[what] = import_optuna().create_study(
            study_name=f"{self._options.study}, {what}", storage=self._storage.optuna, direction="maximize",
            load_if_exists=True)                        # one whose maker died before it was described
        return self._studies[what]

    def _open_stage(self, stage: int, space: Space, identity: Mapping[str, Any] | None = None) -> None:
        study = self._create(self._stage_name(stage))
        if identity is not None:
            study.set_user_attr("identity", dict(identity))
        study.set_user_attr("space", plain_space(space))

    def _spaces(self) -> list[Space]:
        with self._storage.reading():
            studies = (self._study(self._stage_name(stage)) for stage in itertools.count(1))
            described = itertools.takewhile(lambda study: study is not None and "space" in study.user_attrs, studies)
            spaces: list[Space] = [space_from_plain(study.user_attrs["space"]) for study in described]
            for stage, space in enumerate(spaces, 1):
                if space.keys() != self._given.keys():
                    raise ValueError(f"stage {stage} searches {', '.join(space)}, not {', '.join(self._given)}")
                for name, values in space.items():
                    for end in values.ends:
                        self._check(name, end)
        return spaces

    def _check(self, name: str, value: Any) -> None:
        if value not in self._given[name]:
            raise ValueError(f"{name} = {value!r:.100} is not in {self._given[name]}")

    def _places(self, stage: int | str) -> dict[int, Any]:
        """Of a stage (or the end) what trial has which place, once those of workers that died are off it."""
        study = self._study(stage if isinstance(stage, str) else self._stage_name(stage))
        with self._storage.reading():
            for trial in study.get_trials(deepcopy=False, states=(self._trials.RUNNING,)):
                if self._is_gone(trial.user_attrs.get("worker")):
                    study.tell(trial.number, state=self._trials.FAIL)
            with quiet_warnings():
                import_optuna().storages.fail_stale_trials(study)
            living = study.get_trials(deepcopy=False, states=(self._trials.RUNNING, self._trials.COMPLETE,
                                                             self._trials.PRUNED))
            return {trial.user_attrs["place"]: trial for trial in living}

    def _is_gone(self, worker: str | None) -> bool:
        """Whether a worker is known to have died: while it asked, which it does under the lock, or on this machine.

        Of others the signs of life tell, see `Storage.alive`.
        """
        if worker is None:
            return True
        if worker == self._worker:
            return False
        host, process, _ = worker.rsplit(":", 2)
        if host != socket.gethostname() or os.name != "posix":
            return False
        if int(process) == os.getpid():                 # ours now, as in a container that was started again
            return True
        try:
            os.kill(int(process), 0)                    # signal 0 only asks whether there is such a process
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False

    def _ask(self, stage: int, place: int, space: Space) -> Claim:
        study = self._study(self._stage_name(stage))
        stream = 0 if self._options.sampler in SEQUENCES else place
        study.sampler = make_sampler(self._options.sampler, seed_of(self._seed, stage, stream))
        return self._claim(self._stage_name(stage), stage, place, distributions(space))

    def _claim(self, what: str, stage: int, place: int, asked: dict[str, Any]) -> Claim:
        with quiet_warnings():
            trial = self._studies[what].ask(asked)
        trial.set_user_attr("place", place)
        trial.set_user_attr("worker", self._worker)     # last: of a trial without one the asker died
        return Claim(stage, place, {name: trial.params[name] for name in asked}, trial.number, trial._trial_id)

    def _begun(self, claims: list[Claim]) -> list[Claim]:
        """The claims, with a first sign of life: samplers may take long to propose the last one."""
        for claim in claims:
            self._storage.optuna.record_heartbeat(claim.trial_id)
        return claims

    def _settle(self, what: str, claim: Claim, state: Any, value: float | None, outcome: dict[str, Any]) -> bool:
        study, optuna = self._studies[what], import_optuna()
        try:
            if outcome:
                self._storage.optuna.set_trial_user_attr(claim.trial_id, "outcome", outcome)
            with quiet_warnings():
                study.tell(claim.number, value if state == self._trials.COMPLETE else None, state=state)
        except (optuna.exceptions.UpdateFinishedTrialError, ValueError):        # Optuna's for trials given to others
            return False
        return True

    def _records(self) -> list[Record]:
        records: list[Record] = []
        with self._storage.reading():
            for stage, space in enumerate(self._spaces(), 1):
                before = len(records)
                trials = self._study(self._stage_name(stage)).get_trials(
                    deepcopy=False, states=(self._trials.COMPLETE, self._trials.PRUNED))
                for trial in sorted(trials, key=lambda trial: trial.user_attrs["place"]):
                    point, outcome = {name: trial.params[name] for name in space}, trial.user_attrs["outcome"]
                    for name, value in point.items():
                        self._check(name, value)
                    accuracy = float(trial.value) if outcome["status"] == FINISHED else None
                    deviation = None if outcome["deviation"] is None else float(outcome["deviation"])
                    records.append(Record(
                        before + trial.user_attrs["place"], stage, point,
                        trial.datetime_start.isoformat(" ", "seconds"), str(outcome["status"]), accuracy, deviation,
                        float(outcome["seconds"])))
        return records
