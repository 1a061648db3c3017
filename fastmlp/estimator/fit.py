"""How `MLPClassifier` trains: what it keeps between calls, and its epochs with their stopping rules."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning

from fastmlp.backend import resolve
from fastmlp.data.standardize import Standardizer
from fastmlp.errors import ConfigError
from fastmlp.estimator.inputs import Data
from fastmlp.estimator.options import (
    PLANNED,
    SMALLEST_ADAPTIVE_RATE,
    choose_batch_size,
    l2_of_alpha,
    make_optimizer,
    make_schedule,
    network_spec,
    rate_rule,
)
from fastmlp.evaluation import ensemble_accuracy, evaluate
from fastmlp.examples import Examples
from fastmlp.network import Network
from fastmlp.optimizers import Optimizer
from fastmlp.progress import Progress, make_progress
from fastmlp.seeds import Stream, generator
from fastmlp.trainer import REMEDY, Divergence, EpochReport, Trainer

INTERRUPTED = "Training interrupted by user."


@dataclass
class Learner:
    """A network and everything its further training depends on but the data. Pickled as plain arrays.

    Attributes
    ----------
    network : Network
        All members.
    optimizer : Optimizer
        With its state.
    standardizer : Standardizer
        Of the first training data.
    standardize : str
        What it was fitted as.
    seed : int
        Of the validation split; the weights came from it too.
    rng : numpy.random.Generator
        Draws the order of the examples.
    schedule_step : int
        Updates made under the learning rate's schedule.
    rate_factor : float
        What "adaptive" and "invscaling" multiply the rate by.
    best : float
        What the stopping rule compares with: the lowest loss, or the highest accuracy negated.
    stale : int
        Epochs since it improved by `tol`.
    stopped : bool
        Whether the last fit ended because of that.
    frozen : list of Divergence or None
        As `Trainer` has it: which members diverged.
    """

    network: Network
    optimizer: Optimizer
    standardizer: Standardizer
    standardize: str
    seed: int
    rng: np.random.Generator
    schedule_step: int = 0
    rate_factor: float = 1.0
    best: float = math.inf
    stale: int = 0
    stopped: bool = False
    frozen: list[Divergence | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.frozen = self.frozen or [None] * self.network.members

    @property
    def standing(self) -> list[int]:
        """The members that did not diverge, whose probabilities are averaged."""
        return [k for k, divergence in enumerate(self.frozen) if divergence is None]

    @classmethod
    def create(cls, p: Any, network: Network, standardizer: Standardizer, seed: int) -> Learner:
        """One that has not trained yet; `p` is the estimator. The examples are ordered as by `Trainer`."""
        return cls(network, make_optimizer(p), standardizer, p.standardize, seed, generator(seed, Stream.ORDER))

    def adopt(self, p: Any, n_features: int, n_classes: int) -> None:
        """Take over what the parameters now say about device and optimizer, and refuse another network.

        Raises
        ------
        ConfigError
            The parameters describe another network than the one that is to be trained on.
        """
        spec, dtype = self.network.spec, self.network.dtype.name
        wanted = network_spec(p, n_features, n_classes)
        if wanted != spec or p.dtype not in ("auto", dtype):
            raise ConfigError(f"this classifier holds {spec} in {dtype}, but its parameters now describe {wanted} in "
                              f"{p.dtype}: fit a new one, or with warm_start=False")
        if p.n_members != self.network.members:
            raise ConfigError(f"this classifier holds {self.network.members} members, and n_members is {p.n_members} "
                              f"now: fit a new one, or with warm_start=False")
        if p.standardize != self.standardize:
            raise ConfigError(f"this classifier was trained with standardize = {self.standardize!r}, and its parameter "
                              f"is {p.standardize!r} now: fit a new one, or with warm_start=False")
        if p.device not in ("auto", self.network.backend.name):
            resolve(p.device)
            self.__setstate__({**self.__getstate__(), "device": p.device})
        optimizer: Any = make_optimizer(p)
        if isinstance(self.optimizer, type(optimizer)):
            optimizer.state = self.optimizer.state
            optimizer.step = self.optimizer.step
        self.optimizer = optimizer

    def __getstate__(self) -> dict[str, Any]:
        network = self.network
        read = network.backend.to_host
        state = {name: read(array).copy() for name, array in self.optimizer.state.items()}
        return {
            **vars(self), "network": None, "device": network.backend.name, "spec": network.spec,
            "members": network.members, "dtype": network.dtype.name, "l2": read(network.l2).tolist(),
            "has_running": network.has_running,
            "parameters": read(network.parameters).copy(), "running": read(network.running).copy(),
            "optimizer": replace(self.optimizer, state=state),      # type: ignore[type-var]
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Rebuild the network; where there is no GPU, one that was trained on a GPU comes to the CPU."""
        state = dict(state)
        device, spec, members, dtype, l2 = (state.pop(name) for name in ("device", "spec", "members", "dtype", "l2"))
        parameters, running, has_running = (state.pop(name) for name in ("parameters", "running", "has_running"))
        backend = resolve("cpu" if device == "cpu" else "auto")
        network = Network(spec, backend, members=members, dtype=dtype, l2=l2)
        network.parameters[...] = backend.asarray(parameters)
        network.running[...] = backend.asarray(running)
        network.has_running = has_running
        vars(self).update(state, network=network)
        self.optimizer.state = {name: backend.asarray(np.array(array)) for name, array in self.optimizer.state.items()}


def prepare(p: Any, learner: Learner, data: Data, validation: Data | None, *,
            incremental: bool) -> tuple[Trainer, Examples | None]:
    """Trainer and validation examples for the epochs of one call of `fit` or `partial_fit`; `p` is the estimator.

    Raises
    ------
    DataError
        The examples cannot be trained on: see `choose_batch_size` and `Standardizer.apply`.
    """
    n = len(data.codes)
    batch_size = choose_batch_size(p, n)
    l2 = l2_of_alpha(p.alpha, batch_size, data.weights)
    if not l2 <= float(np.finfo(learner.network.dtype).max):
        raise ConfigError(f"alpha = {p.alpha!r} is too large for {learner.network.dtype} and these sample weights")
    learner.network.l2[...] = l2
    if rate_rule(p) in ("one-cycle", "cosine") and not incremental:
        learner.schedule_step = 0
    schedule = make_schedule(p, -(-n // batch_size), learner.schedule_step)
    trainer = Trainer(learner.network, data.on(learner), learner.optimizer, schedule, batch_size=batch_size,
                      bn_decay=float(p.bn_decay), shuffle=bool(p.shuffle))
    trainer.rng, trainer.frozen = learner.rng, list(learner.frozen)
    return trainer, None if validation is None else validation.on(learner)


def train_epochs(p: Any, learner: Learner, trainer: Trainer, watched: Examples | None, *, incremental: bool) -> None:
    """Train for one epoch, or until a stopping rule or `max_iter` ends it; the history goes onto the estimator `p`.

    Raises
    ------
    DivergenceError
        The network is then as it was before the epoch in which it happened.
    """
    n_epochs, restore_best = (1, False) if incremental else (int(p.max_iter), bool(p.early_stopping))
    if restore_best or (learner.stopped and not incremental):
        learner.best, learner.stale = math.inf, 0
    learner.stopped = False
    watcher = make_progress("auto" if p.verbose else "quiet")
    watcher.start(n_epochs * trainer.steps_per_epoch, n_epochs, type(p).__name__)
    try:
        _run(p, learner, trainer, watched, watcher, n_epochs, restore_best=restore_best)
    finally:
        watcher.finish()
    if not (incremental or learner.stopped or rate_rule(p) in PLANNED) and p.n_iter_ == n_epochs:
        warnings.warn(f"Stochastic Optimizer: Maximum iterations ({n_epochs}) reached and the optimization hasn't "
                      f"converged yet.", ConvergenceWarning, stacklevel=4)


def _run(p: Any, learner: Learner, trainer: Trainer, watched: Examples | None, watcher: Progress, n_epochs: int,
         restore_best: bool) -> None:
    """The epochs; Ctrl-C ends them with a warning, at the last whole one."""
    network, best = trainer.network, None
    try:
        while p.n_iter_ < n_epochs and not learner.stopped:
            _one_epoch(p, learner, trainer, watched, watcher)
            accuracy = p.validation_scores_[-1] if watched is not None else None
            if accuracy is not None and (p.best_validation_score_ is None or accuracy > p.best_validation_score_):
                p.best_validation_score_ = accuracy
                best = (network.parameters + 0.0, network.running + 0.0, learner.frozen) if restore_best else None
            if restore_best or rate_rule(p) not in PLANNED:
                _apply_stopping_rule(p, learner, p.loss_ if not restore_best or accuracy is None else -accuracy)
    except KeyboardInterrupt:
        warnings.warn(INTERRUPTED, UserWarning, stacklevel=5)
    if restore_best and best is not None:
        network.parameters[...], network.running[...], learner.frozen = best


def _one_epoch(p: Any, learner: Learner, trainer: Trainer, watched: Examples | None, watcher: Progress) -> None:
    """One pass over the data, its loss, and a look at the validation part."""
    network, rule = trainer.network, rate_rule(p)
    if rule == "invscaling":
        learner.rate_factor = float((p.t_ + 1.0) ** -p.power_t)
    elif rule != "adaptive":
        learner.rate_factor = 1.0
    trainer.rate_factor = learner.rate_factor
    with np.errstate(all="ignore"):     # looked at below
        penalty = network.backend.to_host(network.penalty()).astype(np.float64)                     # (M,)
    report = trainer.run_epoch(watcher=watcher)
    rate = float(trainer.rates(trainer.step - 1, 1).max())
    with np.errstate(all="ignore"):
        losses = _mean_losses(report, trainer) + penalty                                            # (M,)
    for member in np.flatnonzero(~(np.isfinite(losses) & _are_finite(network)) & ~trainer.is_frozen):
        trainer.diverged("the weights or the cost became NaN or infinite", trainer.step, rate, int(member))
    _note_divergence(learner, trainer)
    learner.schedule_step += len(report.losses)
    p.n_iter_ += 1
    p.t_ += trainer.examples.n
    p.loss_ = float(losses[learner.standing].mean())
    p.loss_curve_.append(p.loss_)
    row = {"step": trainer.step, "epoch": p.n_iter_, "lr": rate, "train_loss": p.loss_, "frozen": trainer.is_frozen}
    if watched is not None:
        accuracy, row["val_loss"] = _measure(network, watched, learner.standing)
        row["val_accuracy"] = accuracy
        p.validation_scores_.append(accuracy)
        p.validation_loss_curve_.append(row["val_loss"])
    watcher.epoch_done(row)


def _mean_losses(report: EpochReport, trainer: Trainer) -> npt.NDArray[np.float64]:
    """Mean of the batches' losses, each before its update, by their sizes: (M,)."""
    sizes = np.full(len(report.losses), trainer.batch_size)
    sizes[-1] = trainer.examples.n - trainer.batch_size * (len(sizes) - 1)
    return np.array([np.average(column.astype(np.float64), weights=sizes) for column in report.losses.T])


def _are_finite(network: Network) -> Any:
    """Whether all of a member's parameters are finite: (M,)."""
    read, xp = network.backend.to_host, network.backend.xp
    if bool(read(xp.all(xp.isfinite(network.parameters)))):
        return np.ones(network.members, bool)
    flat = [xp.reshape(xp.isfinite(view), (network.members, -1)) for view in network.views().values()]
    return np.logical_and.reduce([read(xp.all(finite, axis=1)) for finite in flat])


def _note_divergence(learner: Learner, trainer: Trainer) -> None:
    """Keep the marks of members that diverged in this epoch, and warn."""
    for member, (before, now) in enumerate(zip(learner.frozen, trainer.frozen, strict=True)):
        if before is None and now is not None:
            warnings.warn(f"member {member} of {len(trainer.frozen)} diverged ({now.what} at step {now.step}, learning "
                          f"rate {now.lr:.3g}): it is left out of the average; {REMEDY}",
                          RuntimeWarning, stacklevel=7)
    learner.frozen = list(trainer.frozen)


def _measure(network: Network, watched: Examples, standing: list[int]) -> tuple[float, float]:
    """Accuracy of the averaged probabilities and the members' mean loss, both weighted."""
    with np.errstate(all="ignore"):
        score = evaluate(network, watched)
        accuracy = float(score.accuracy[0]) if network.members == 1 else ensemble_accuracy(network, watched, standing)
    return accuracy, float(score.loss[standing].mean())


def _apply_stopping_rule(p: Any, learner: Learner, value: float) -> None:
    """Count epochs without an improvement by `tol`; after too many, stop, or divide the "adaptive" rate by 5."""
    learner.stale = learner.stale + 1 if value > learner.best - p.tol else 0
    learner.best = min(learner.best, value)
    if learner.stale <= p.n_iter_no_change:
        return
    if rate_rule(p) == "adaptive" and p.learning_rate_init * learner.rate_factor > SMALLEST_ADAPTIVE_RATE:
        learner.rate_factor /= 5.0
        learner.stale = 0
    else:
        learner.stopped = True
