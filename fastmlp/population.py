"""Many networks of one shape trained on one data set, and what comes of them: `fit_population`."""

from __future__ import annotations

import math
import operator
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastmlp.backend import Backend
from fastmlp.building import make_backend, make_spec
from fastmlp.checkpoints import Keeper
from fastmlp.config import NETWORK, ORDERS, TRAINING, TrainOptions
from fastmlp.data import Dataset
from fastmlp.data.arrays import from_arrays
from fastmlp.data.standardize import Standardizer
from fastmlp.errors import ConfigError, DivergenceError
from fastmlp.evaluation import evaluate, log_softmax, majority, predict_ballots
from fastmlp.examples import Examples
from fastmlp.groups import INTERRUPTED, Outcome, check_parts, fit_standardizer, smallest_part, train_members
from fastmlp.model import Model
from fastmlp.network import Network
from fastmlp.options import from_python, rules
from fastmlp.parameters import joined, make_network
from fastmlp.progress import Progress, make_progress
from fastmlp.sweeps import SWEEPABLE, Member, Sweep, combinations, make_members, own_members
from fastmlp.trainer import REMEDY, SILENCE

ROW = ("train_loss", "train_cost", "train_accuracy", "val_loss", "val_cost", "val_accuracy")
OWN_OPTIONS = [name for name, rule in rules(TrainOptions).items() if rule.group in (NETWORK, TRAINING)]
TOGETHER = 64       # members whose test accuracy is measured at a time


@dataclass
class Population:
    """Trained networks of one shape, with what they were trained as and how they do.

    Attributes
    ----------
    outcomes : list of Outcome
        The members; `outcomes[k].status`, `.history`, `.member.options` are those of member k.
    settings : list of dict
        The combinations of swept values that the members' `setting` counts.
    data : Dataset
        What they were trained on.
    standardizer : Standardizer
        Of their inputs.
    backend : Backend
        Where they were trained.
    chosen : int or None
        The setting that `choose` took, once the test part has been measured.
    test : dict
        By member: `test_loss` and `test_accuracy`, of the chosen setting's members that did not diverge.
    ensemble_accuracy, ensemble_log_loss : float or None
        Of these members' averaged probabilities, their snapshots' among them, on the test part.
    ensemble_vote_accuracy : float or None
        Of their votes, see `evaluation.majority`.
    """

    outcomes: list[Outcome]
    settings: list[dict[str, Any]]
    data: Dataset
    standardizer: Standardizer
    backend: Backend
    chosen: int | None = None
    test: dict[int, dict[str, float]] = field(default_factory=dict)
    ensemble_accuracy: float | None = None
    ensemble_log_loss: float | None = None
    ensemble_vote_accuracy: float | None = None

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended it."""
        return any(outcome.status == INTERRUPTED for outcome in self.outcomes)

    def table(self) -> dict[str, list[Any]]:
        """A row for each member, as columns: what it was trained as, what became of it, how it does."""
        rows = [{
            "member": k, "seed": one.member.options.seed, **self.settings[one.member.setting],
            **({} if one.member.fold is None else {"fold": one.member.fold}), "status": one.status, "steps": one.steps,
            **{name: one.measured.get(name) for name in ROW},
            **self.test.get(k, {"test_loss": None, "test_accuracy": None}),
        } for k, one in enumerate(self.outcomes)]
        return {name: [row.get(name) for row in rows] for name in rows[0]}

    def history(self) -> dict[str, list[Any]]:
        """A row for each member and evaluation, as columns."""
        names = ("step", "epoch", "lr", *ROW)
        rows = [(k, *(row.get(name, math.nan) for name in names))
                for k, outcome in enumerate(self.outcomes) for row in outcome.history]
        return {name: [row[place] for row in rows] for place, name in enumerate(("member", *names))}

    def members_of(self, setting: int) -> list[int]:
        """The setting's members that were begun and did not diverge."""
        return [k for k, outcome in enumerate(self.outcomes)
                if outcome.member.setting == setting and outcome.tensors and outcome.diverged_at is None]

    def summary(self) -> dict[str, list[Any]]:
        """A row for each setting, as columns: members, how many diverged, and accuracies over those that did not.

        `mean`, `std` (divided by n - 1) and the 95 % confidence interval of the mean (Student's t) from `low` to
        `high`; None where there are too few members.
        """
        table = self.table()
        rows = []
        for number, setting in enumerate(self.settings):
            good = self.members_of(number)
            mine = [outcome for outcome in self.outcomes if outcome.member.setting == number]
            row = {**setting, "n": len(good), "diverged": sum(outcome.diverged_at is not None for outcome in mine)}
            for name in ("val_accuracy", "test_accuracy"):
                values = [table[name][k] for k in good if table[name][k] is not None]
                row |= {f"{name}_{word}": value for word, value in mean_and_interval(values).items()}
            rows.append(row)
        return {name: [row[name] for row in rows] for name in rows[0]}

    def choose(self) -> int:
        """The setting with the best mean validation accuracy over its members that did not diverge.

        Settings of which more than half diverged are passed over, unless all are such.

        Raises
        ------
        DivergenceError
            Every member diverged.
        """
        summary = self.summary()
        possible = [k for k, n in enumerate(summary["n"]) if n]
        if not possible:
            step = min(outcome.diverged_at for outcome in self.outcomes if outcome.diverged_at is not None)
            raise DivergenceError(f"every member of the population diverged, the first at step {step}: {REMEDY}",
                                  step=step, lr=math.nan)
        sound = [k for k in possible if summary["diverged"][k] <= summary["n"][k]] or possible
        return max(sound, key=lambda k: summary["val_accuracy_mean"][k] or 0.0)

    def network(self, *members: int, snapshots: bool = False) -> Network:
        """Members as a network where they were trained, with copies of their numbers; snapshots too, if asked."""
        outcomes = [self.outcomes[k] for k in members]
        parts = [(outcome, tensors) for outcome in outcomes
                 for tensors in (*(outcome.snapshots if snapshots else ()), outcome.tensors)]
        options, tensors = outcomes[0].member.options, joined([tensors for _, tensors in parts])
        return make_network(make_spec(options, self.data), self.backend, tensors, dtype=options.dtype,
                            l2=[outcome.member.options.l2 for outcome, _ in parts])

    def model(self, *members: int) -> Model:
        """A member, or several as an ensemble, ready to predict; by default the chosen setting's ensemble."""
        members = members or tuple(self.members_of(self.choose() if self.chosen is None else self.chosen))
        data = self.data
        return Model(self.network(*members, snapshots=True), self.standardizer, data.classes, data.image_shape,
                     data.feature_names)

    def measure_test(self) -> None:
        """Choose a setting and measure its members, and all of them as an ensemble, on the test part. Do it once.

        Other settings' members are not measured: whoever looked at many test accuracies would choose by them.
        """
        self.chosen = self.choose()
        good, data = self.members_of(self.chosen), self.data
        if not len(data.y_test):
            return
        dtype = self.outcomes[0].member.options.dtype
        test = Examples(data.x_test, data.y_test, len(data.classes), self.standardizer, self.backend, dtype)
        scores = np.full((len(data.y_test), len(data.classes)), -np.inf)        # logarithms of sums of probabilities
        votes, voters = np.zeros(scores.shape, np.int64), 0
        for some in (good[k:k + TOGETHER] for k in range(0, len(good), TOGETHER)):
            network = self.network(*some)
            score = evaluate(network, test)
            for place, k in enumerate(some):
                self.test[k] = {"test_loss": float(score.loss[place]), "test_accuracy": float(score.accuracy[place])}
            network = self.network(*some, snapshots=True)
            more_scores, more_votes = predict_ballots(network, test)
            scores = np.logaddexp(scores, log_softmax(more_scores) + math.log(network.members))
            votes, voters = votes + more_votes, voters + network.members
        of_label = scores[np.arange(len(scores)), data.y_test] - math.log(voters)
        self.ensemble_accuracy = float(np.mean(scores.argmax(axis=1) == data.y_test))
        self.ensemble_vote_accuracy = float(np.mean(majority(votes, scores) == data.y_test))
        self.ensemble_log_loss = -float(np.mean(of_label))


def mean_and_interval(values: Sequence[float]) -> dict[str, float | None]:
    """Mean, standard deviation (divided by n - 1), and the mean's 95 % confidence interval by Student's t.

    Examples
    --------
    >>> {name: round(value, 3) for name, value in mean_and_interval([0.9, 0.92, 0.94]).items()}
    {'mean': 0.92, 'std': 0.02, 'low': 0.87, 'high': 0.97}
    """
    from scipy.special import stdtrit

    n = len(values)
    mean = float(np.mean(values)) if n else None
    if mean is None or n < 2:
        return {"mean": mean, "std": None, "low": None, "high": None}
    std = float(np.std(values, ddof=1))
    half = float(stdtrit(n - 1, 0.975)) * std / math.sqrt(n)
    return {"mean": mean, "std": std, "low": mean - half, "high": mean + half}


def fit_population(data: Any, y: Any = None, *, X_val: Any = None, y_val: Any = None, X_test: Any = None,
                   y_test: Any = None, members: int | Sequence[Mapping[str, Any]] = 8,
                   sweep: Mapping[str, Sequence[Any]] | None = None, folds: int | None = None, order: str = "shared",
                   verbose: bool = False, **options: Any) -> Population:
    """Train many networks of one shape on one data set at once.

    Parameters
    ----------
    data : Dataset or array (n, D)
        What `load_dataset` returns, or examples as rows.
    y : array (n,), optional
        Their labels, if `data` is an array.
    X_val, y_val, X_test, y_test : arrays, optional
        Validation and test part beside such an array.
    members : int or sequence of mapping, default 8
        How many seeds, from `seed` on; or every member's own settings among `seed`, `l2`, `lr`, `lr_min`, `lr_max`,
        `init` and `init_std`.
    sweep : mapping, optional
        Values of these options but the seed; each combination is trained with all seeds.
    folds : int, optional
        Cross-validation: training and validation part are divided into as many folds, and each setting is trained
        with each seed on all but each fold, which validates it.
    order : {"shared", "own"}, default "shared"
        "own": every member has the order of its own seed, as if it were trained alone, and takes as long.
    verbose : bool, default False
        Show progress on standard error.
    **options
        Those of `fastmlp train` about network, training and device, as `hidden=(50,)`, `l2=0.01`, `seed=0`.

    Returns
    -------
    Population
        The setting with the best mean validation accuracy has been chosen, and its members and their ensemble measured
        on the test part, where there is one. After Ctrl-C (which warns) nothing was.

    Raises
    ------
    ConfigError, DataError
        Options or data cannot be used.
    DivergenceError
        Every member diverged. As long as one does not, those that do are marked, and left out of means and ensemble.

    Examples
    --------
    >>> from fastmlp import load_dataset
    >>> population = fit_population(load_dataset("digits"), members=3, sweep={"l2": [1e-4, 1.0]}, hidden=(20,),
    ...                             cycles=1, device="cpu")
    >>> population.chosen, population.summary()["n"], population.ensemble_accuracy > 0.8
    (0, [3, 3], True)
    """
    members, folds, sweep = _checked(members, folds, sweep)
    dataset = from_arrays(data, y, (X_val, y_val), (X_test, y_test))
    base = TrainOptions(**from_python(TrainOptions, options, [*OWN_OPTIONS, "standardize"]))
    base = base.resolved(smallest_part(dataset, folds))
    if isinstance(members, int):
        values = {name: [from_python(TrainOptions, {name: value}, SWEEPABLE)[name] for value in swept]
                  for name, swept in (sweep or {}).items()}
        settings = combinations([Sweep(name, tuple(swept)) for name, swept in values.items()])
        planned = make_members(base, settings, members, folds)
    elif sweep:
        raise ConfigError("sweep belongs to a number of members: leave it out, or give members as a number")
    else:
        own = [from_python(TrainOptions, settings, (*SWEEPABLE, "seed")) for settings in members]
        planned, settings = own_members(base, own, folds)
    population = train_population(planned, settings, dataset, make_backend(base), seed=base.seed,
                                  folds=folds, order=order, watcher=make_progress("auto" if verbose else "quiet"))
    if population.interrupted:
        warnings.warn("Training interrupted by user.", UserWarning, stacklevel=2)
    else:
        population.measure_test()
    return population


def _checked(members: Any, folds: Any, sweep: Any) -> tuple[Any, int | None, Mapping[str, Sequence[Any]] | None]:
    """What says who the members are, or a sentence on what is wrong with it."""
    whole = not isinstance(members, bool) and hasattr(members, "__index__")
    if not (whole or (isinstance(members, Sequence) and all(isinstance(one, Mapping) for one in members) and members)):
        raise ConfigError(f"members = {members!r} must be a whole number from 1 on, or a list of dicts, one a member")
    if folds is not None and (isinstance(folds, bool) or not hasattr(folds, "__index__") or folds < 2):
        raise ConfigError(f"folds = {folds!r} must be a whole number from 2 on")
    if sweep is not None and not isinstance(sweep, Mapping):
        raise ConfigError(f"sweep = {sweep!r} must be a dict from names to lists of values")
    for name, values in (sweep or {}).items():
        listed = list(values) if isinstance(values, Iterable) and not isinstance(values, str) else []
        if not listed or any(value in listed[:k] for k, value in enumerate(listed)):
            raise ConfigError(f"sweep of {name}: {values!r} must be a list of different values, at least one")
    return (operator.index(members) if whole else members, None if folds is None else operator.index(folds),
            {name: list(values) for name, values in sweep.items()} if sweep else None)


def train_population(members: Sequence[Member], settings: list[dict[str, Any]], data: Dataset, backend: Backend, *,
                     seed: int, folds: int | None = None, order: str = "shared", watcher: Progress = SILENCE,
                     should_stop: Callable[[], bool] | None = None, keeper: Keeper | None = None) -> Population:
    """Train members on data that suit them, without a look at the test part; see `fit_population`."""
    check_population(members, settings, data, folds, order)
    standardizer = fit_standardizer(members[0].options, data, folds=folds is not None)
    outcomes = train_members(members, data, standardizer, backend, seed=seed, order=order, watcher=watcher,
                             should_stop=should_stop, keeper=keeper)
    return Population(outcomes, settings, data, standardizer, backend)


def check_population(members: Sequence[Member], settings: Sequence[Any], data: Dataset, folds: int | None,
                     order: str) -> None:
    """Refuse what cannot be trained, or could not be chosen from.

    Raises
    ------
    ConfigError
        One sentence that says why.
    """
    if not members:
        raise ConfigError("there are no members: give at least one")
    if order not in ORDERS:
        raise ConfigError(f"order = {order!r} is unknown: choose one of {', '.join(ORDERS)}")
    if len(settings) > 1 and folds is None and not len(data.y_val):
        raise ConfigError(f"{len(settings)} settings can only be chosen from by a validation part, and there is none: "
                          f"hold one out (--validation), or divide the data into folds (--folds)")
    n = len(data.y_train)
    check_parts(members[0].options, n if folds is None else n + len(data.y_val), folds)
