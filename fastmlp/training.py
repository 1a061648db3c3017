"""The training loop: steps, epochs, evaluation, history, stopping.

A step gathers its batch on the device, runs forward and backward, and updates. Within an epoch nothing crosses between
host and device: the permutation and the rates go up before it, the losses of all steps come down after it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.errors import ConfigError, DivergenceError
from fastmlp.evaluation import Score, evaluate
from fastmlp.examples import Examples
from fastmlp.history import History, Row
from fastmlp.network import Network
from fastmlp.optimizers import Optimizer, restore, snapshot
from fastmlp.progress import Progress
from fastmlp.schedules import Schedule
from fastmlp.seeds import Stream, generator

Array = Any
SILENCE = Progress()


@dataclass(frozen=True)
class EpochReport:
    """What one pass over the data did.

    Attributes
    ----------
    losses : ndarray (steps, M)
        The batch loss of each step before its update.
    seconds : float
        Time spent in the steps.
    n_examples : int
        Examples seen.
    complete : bool
        Whether all steps that were asked for were made.
    """

    losses: npt.NDArray[Any]
    seconds: float
    n_examples: int
    complete: bool


def check_batches(n: int, batch_size: int, batch_norm: bool) -> None:
    """Refuse batch sizes that cannot be trained with.

    Raises
    ------
    ConfigError
        A batch larger than the data, or a last batch of one row under batch norm (which needs two for a variance).
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size = {batch_size} must be at least 1")
    if batch_size > n:
        raise ConfigError(f"batch_size = {batch_size} is larger than the {n} training examples: "
                          f"choose one of at most {n}")
    if batch_norm and (n % batch_size == 1 or batch_size == 1):
        better = next(size for size in range(max(2, batch_size - 1), n + 1)
                      if n % size != 1 and size != batch_size) if n > 1 else None
        raise ConfigError(f"batch_size = {batch_size} leaves a batch of one row of the {n} training examples, and "
                          f"batch norm needs at least two: choose another, such as {better}, or switch batch norm off")


class Trainer:
    """Everything the future of a training depends on, in one place.

    Parameters
    ----------
    network : Network
        Initialised; it is trained in place.
    examples : Examples
        The training part.
    optimizer : Optimizer
        `SGD` or `Adam`.
    schedule : callable
        From steps (n, 1) to rates (n, 1) or (n, M).
    batch_size : int
        Examples a step; the last batch of an epoch may be smaller.
    seed : int, default 0
        Of the order of the examples (shared by all members).
    bn_decay : float, default 0.9
        Fraction of batch norm's running statistics that is kept each step.
    shuffle : bool, default True
        A new order every epoch.

    Attributes
    ----------
    step, epoch : int
        Updates made, epochs begun.
    rate_factor : float
        Multiplies the schedule; 1 unless a stopping rule lowers it.
    """

    def __init__(self, network: Network, examples: Examples, optimizer: Optimizer, schedule: Schedule, *,
                 batch_size: int, seed: int = 0, bn_decay: float = 0.9, shuffle: bool = True) -> None:
        check_batches(examples.n, batch_size, network.spec.batch_norm and bool(network.spec.hidden))
        network.backend.check(network.parameters, examples.data)
        if (examples.n_features, examples.n_classes, examples.dtype) != (
                network.spec.n_inputs, network.spec.n_classes, network.dtype):
            raise ConfigError(f"examples of {examples.n_features} features, {examples.n_classes} classes and "
                              f"{examples.dtype} do not fit a network of {network.spec.n_inputs}, "
                              f"{network.spec.n_classes} and {network.dtype}")
        self.network, self.examples, self.optimizer, self.schedule = network, examples, optimizer, schedule
        self.batch_size, self.bn_decay, self.shuffle = batch_size, bn_decay, shuffle
        self.rng = generator(seed, Stream.ORDER)
        self.step = self.epoch = 0
        self.rate_factor = 1.0
        self._x, self._targets = examples.buffers(batch_size)
        self._good = (network.parameters + 0.0, network.running + 0.0, network.has_running)
        self._good_optimizer = snapshot(optimizer)

    @property
    def steps_per_epoch(self) -> int:
        """Batches in one pass over the data, the smaller last one included."""
        return -(-self.examples.n // self.batch_size)

    def rates(self, first: int, n: int) -> npt.NDArray[np.float64]:
        """Learning rates of the n steps from step `first` (from 0) on: (n, M)."""
        rates = self.rate_factor * self.schedule(np.arange(first, first + n)[:, None])
        return np.broadcast_to(rates, (n, self.network.members))

    def run_epoch(self, max_steps: int | None = None, watcher: Progress = SILENCE,
                  should_stop: Callable[[], bool] | None = None) -> EpochReport:
        """One pass over the data in a new order, or its first `max_steps` steps.

        Raises
        ------
        DivergenceError
            A step's loss was NaN or infinite; the network has its parameters from the beginning of the epoch again.
        """
        network, examples, backend = self.network, self.examples, self.network.backend
        n_steps = min(self.steps_per_epoch, self.steps_per_epoch if max_steps is None else max_steps)
        rates = self.rates(self.step, n_steps)
        self.keep_good_state()
        order = self.rng.permutation(examples.n) if self.shuffle else np.arange(examples.n)
        losses = network.empty((n_steps, network.members))
        backend.synchronize()
        began = time.perf_counter()
        order, device_rates = backend.asarray(order), backend.asarray(rates.astype(network.dtype))
        done = 0
        try:
            with np.errstate(all="ignore"):             # a diverging loss is found below, by looking at it
                for k in range(n_steps):
                    if should_stop is not None and should_stop():
                        break
                    rows = order[k * self.batch_size:min((k + 1) * self.batch_size, examples.n)]
                    n = rows.shape[0]
                    x, targets = self._x[:n, ...], self._targets[:n, ...]
                    examples.read(rows, x, targets)
                    network.loss_and_gradient(x, targets, examples.weights(rows), losses[k, ...])
                    self.optimizer.update(network, device_rates[k, ...])
                    network.update_running(self.bn_decay)
                    done = k + 1
                    watcher.step(self.step + done)
        except KeyboardInterrupt:                       # possibly amid an update: go back to a state that is whole
            self.restore_good_state()
            raise
        backend.synchronize()
        seconds = time.perf_counter() - began
        host_losses = backend.to_host(losses)[:done]
        self._check_finite(host_losses, rates)
        self.step += done
        self.epoch += 1
        return EpochReport(host_losses, seconds, min(done * self.batch_size, examples.n), done == n_steps)

    def _check_finite(self, losses: npt.NDArray[Any], rates: npt.NDArray[np.float64]) -> None:
        bad = np.argwhere(~np.isfinite(losses))
        if len(bad):
            k, member = bad[0]
            self.diverged(f"the loss became {losses[k, member]}", self.step + int(k) + 1, float(rates[k, member]),
                          int(member))

    def diverged(self, what: str, step: int, lr: float, member: int) -> None:
        """Put the last good state back and raise `DivergenceError`."""
        self.restore_good_state()
        who = f" in member {member}" if self.network.members > 1 else ""
        remedy = "try a lower learning rate" if step else "the initial weights or the penalty are too large"
        raise DivergenceError(f"{what} at step {step}, learning rate {lr:.3g}{who}: the state of the last good epoch "
                              f"is kept; {remedy}", step=step, lr=lr)

    def keep_good_state(self) -> None:
        """Remember parameters, running statistics and the optimizer's state as they are now."""
        network = self.network
        self._good[0][...] = network.parameters
        self._good[1][...] = network.running
        self._good = (*self._good[:2], network.has_running)
        self._good_optimizer = snapshot(self.optimizer)

    def restore_good_state(self) -> None:
        """Go back to what was last remembered."""
        network = self.network
        network.parameters[...], network.running[...], network.has_running = self._good
        restore(self.optimizer, self._good_optimizer)


def train(trainer: Trainer, total_steps: int, *, parts: Mapping[str, Examples], evaluate_every: int = 1,
          watcher: Progress = SILENCE, should_stop: Callable[[], bool] | None = None,
          history: History | None = None, description: str = "training") -> History:
    """Train until `total_steps` updates are made, measuring on the way.

    Parameters
    ----------
    trainer : Trainer
        It may already have made some steps.
    total_steps : int
        Steps at the end, counted from the trainer's birth.
    parts : mapping from "train" and / or "val" to Examples
        What to evaluate on.
    evaluate_every : int, default 1
        Epochs between evaluations, at least 1; step 0 and the end are always evaluated.
    watcher : Progress, optional
        Told about every step and epoch; silent by default.
    should_stop : callable, optional
        Asked before every step; when it says yes, training ends there, without a last evaluation.
    history : History, optional
        Filled as training goes, so that it is there after an error too; continued if it has rows.
    description : str, default "training"
        What the watcher calls it.

    Returns
    -------
    History

    Raises
    ------
    DivergenceError
        See `Trainer.run_epoch`; also when an evaluation finds a cost that is not finite.
    """
    if evaluate_every < 1:
        raise ConfigError(f"evaluate_every = {evaluate_every} must be at least 1")
    history = History() if history is None else history
    total_epochs = -(-total_steps // trainer.steps_per_epoch)
    watcher.start(total_steps, total_epochs, description)
    try:
        if not history.rows:
            history.rows.append(_measure(trainer, parts))
        while trainer.step < total_steps:
            report = trainer.run_epoch(total_steps - trainer.step, watcher, should_stop)
            history.epoch_seconds.append(report.seconds)
            history.epoch_examples.append(report.n_examples)
            history.epoch_is_whole.append(report.n_examples == trainer.examples.n)
            stopped = not report.complete
            due = trainer.step >= total_steps or (trainer.epoch % evaluate_every == 0 and not stopped)
            row = _measure(trainer, parts if due else {})
            history.rows.append(row)
            watcher.epoch_done(row)
            if stopped:
                break
    finally:
        watcher.finish()
    return history


def _measure(trainer: Trainer, parts: Mapping[str, Examples]) -> Row:
    """One row of the history; numbers for one network, arrays (M,) for a population."""
    single = trainer.network.members == 1
    rate = trainer.rates(trainer.step, 1)[0]
    row: Row = {"step": trainer.step, "epoch": trainer.epoch, "lr": float(rate[0]) if single else rate.copy()}
    for name, examples in parts.items():
        score = _finite_score(trainer, examples)
        for measure in ("loss", "cost", "accuracy"):
            value = getattr(score, measure)
            row[f"{name}_{measure}"] = float(value[0]) if single else value
    return row


def _finite_score(trainer: Trainer, examples: Examples) -> Score:
    with np.errstate(all="ignore"):
        score = evaluate(trainer.network, examples)
    bad = np.flatnonzero(~np.isfinite(score.cost))
    if len(bad):
        rate = trainer.rates(max(trainer.step - 1, 0), 1)[0, bad[0]]
        trainer.diverged(f"the evaluated cost became {score.cost[bad[0]]}", trainer.step, float(rate), int(bad[0]))
    return score
