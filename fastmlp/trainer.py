"""One network or population in training: its steps and epochs, and what their future depends on.

A step gathers its batch on the device, runs forward and backward, and updates. Within an epoch nothing crosses between
host and device: the permutation, the rates and dropout's keys go up before it, the losses of all steps come down after
it. A stretch of steps is recorded once and replayed from then on.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.checks import check_batches, check_suits
from fastmlp.dropout import Dropout, Masks
from fastmlp.errors import ConfigError, DivergenceError, FastMLPError
from fastmlp.examples import Batch, Examples
from fastmlp.good_state import GoodState
from fastmlp.network import Network
from fastmlp.optimizers import Optimizer
from fastmlp.parameters import Tensors, tensors_of
from fastmlp.progress import Progress
from fastmlp.recording import Recording
from fastmlp.schedules import Schedule
from fastmlp.seeds import Stream, generator

Array = Any
SILENCE = Progress()
MOST_RECORDINGS = 4     # kept: whole stretches, the end of an epoch, and what a last, shorter epoch needs


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


@dataclass(frozen=True)
class Divergence:
    """What happened to a member: in words, at which step (counted from 1; 0 before the first), at which rate."""

    what: str
    step: int
    lr: float


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
        Of the order of the examples and of the moves of images (shared by all members).
    bn_decay : float, default 0.9
        Fraction of batch norm's running statistics that is kept each step.
    shuffle : bool, default True
        A new order every epoch.
    record : bool, default True
        On a GPU, record steps as CUDA graphs and replay them, instead of launching every kernel every time. The
        numbers are the same.
    snapshot_steps : collection of int, default none
        Steps after which the network is copied, also amid an epoch, which then goes on as if nothing had been.
    dropout : Dropout, optional
        Drops units of the hidden layers at random, in training only.
    label_smoothing : float, default 0.0
        Fraction of each target that is spread over all classes, in training only: evaluations have the plain loss.

    Attributes
    ----------
    step, epoch : int
        Updates made, epochs begun.
    rate_factor : float
        Multiplies the schedule; 1 unless a stopping rule lowers it.
    snapshots : dict
        The copies by step, see `parameters.tensors_of`. Those of members that diverge later are not taken back.
    frozen : list of Divergence or None, one a member
        Members of a population that diverged. Their rates are 0 from then on, and after every epoch their parts of the
        state are put back to what they were before the epoch in which it happened: their gradients may be NaN, and
        NaN times 0 is NaN. The others' numbers are what they would be without them, bit for bit.
    """

    def __init__(self, network: Network, examples: Examples, optimizer: Optimizer, schedule: Schedule, *,
                 batch_size: int, seed: int = 0, bn_decay: float = 0.9, shuffle: bool = True,
                 record: bool = True, dropout: Dropout | None = None, label_smoothing: float = 0.0,
                 snapshot_steps: Collection[int] = ()) -> None:
        check_suits(network.spec.hidden, network.spec.loss, 0.0 if dropout is None else dropout.rate, label_smoothing)
        if dropout is not None and dropout.members != network.members:
            raise ConfigError(f"dropout of {dropout.members} seeds does not fit {network.members} members: give one "
                              f"seed a member")
        check_batches(examples.n, batch_size, network.spec.batch_norm and bool(network.spec.hidden))
        network.backend.check(network.parameters, examples.data)
        if (examples.n_features, examples.n_classes, examples.dtype) != (
                network.spec.n_inputs, network.spec.n_classes, network.dtype):
            raise ConfigError(f"examples of {examples.n_features} features, {examples.n_classes} classes and "
                              f"{examples.dtype} do not fit a network of {network.spec.n_inputs}, "
                              f"{network.spec.n_classes} and {network.dtype}")
        self.network, self.examples, self.optimizer, self.schedule = network, examples, optimizer, schedule
        self.batch_size, self.bn_decay, self.shuffle = batch_size, bn_decay, shuffle
        self.dropout, self.label_smoothing = dropout if dropout is not None and dropout.rate else None, label_smoothing
        self.rng, self.move_rng = generator(seed, Stream.ORDER), generator(seed, Stream.AUGMENTATION)
        self.step = self.epoch = 0
        self.rate_factor = 1.0
        self.snapshot_steps, self.snapshots = frozenset(snapshot_steps), dict[int, Tensors]()
        self.record = record and network.backend.records
        self._recordings: dict[tuple[int, ...], Recording] = {}
        self._seen: set[tuple[int, ...]] = set()        # stretches of steps that have run, call by call
        optimizer.prepare(network)
        self.frozen: list[Divergence | None] = [None] * network.members
        self._good = GoodState(network, optimizer)
        self._batches: dict[int, Batch] = {}

    @property
    def steps_per_epoch(self) -> int:
        """Batches in one pass over the data, the smaller last one included."""
        return -(-self.examples.n // self.batch_size)

    def rates(self, first: int, n: int) -> npt.NDArray[np.float64]:
        """Learning rates of the n steps from step `first` (from 0) on: (n, M)."""
        rates = self.rate_factor * self.schedule(np.arange(first, first + n)[:, None])
        return np.where(self.is_frozen, 0.0, rates)

    @property
    def is_frozen(self) -> npt.NDArray[np.bool_]:
        """Which members diverged: (M,)."""
        return np.array([divergence is not None for divergence in self.frozen])

    def run_epoch(self, max_steps: int | None = None, watcher: Progress = SILENCE,
                  should_stop: Callable[[], bool] | None = None) -> EpochReport:
        """One pass over the data in a new order, or its first `max_steps` steps.

        The watcher is told, and `should_stop` asked, before every step, or on a GPU every stretch of recorded steps.

        Raises
        ------
        DivergenceError
            A step's loss was NaN or infinite, and there is no other member to go on with (see `frozen`); the network
            has its parameters from the beginning of the epoch again.
        """
        network, examples, backend = self.network, self.examples, self.network.backend
        n_steps = min(self.steps_per_epoch, self.steps_per_epoch if max_steps is None else max_steps)
        rates = self.rates(self.step, n_steps)
        self._good.keep(self.optimizer)
        planned = self._stretches(n_steps)
        lengths = [sum(sizes) for sizes in planned]
        order = examples.order(self.rng, lengths) if self.shuffle else np.arange(examples.n)
        moves = examples.moves(self.move_rng)
        began = time.perf_counter()
        plan = np.concatenate([rates, self.optimizer.constants(n_steps)], axis=1)       # (steps, M + constants)
        keys = None
        if self.dropout is not None:
            keys = backend.asarray(self.dropout.keys(n_steps, len(network.spec.hidden)))        # (steps, layers, M)
        plan, losses = backend.asarray(plan.astype(network.dtype)), network.empty((n_steps, network.members))
        done = 0
        try:
            # A diverging loss is found below, by looking at it.
            with np.errstate(all="ignore"), backend.explaining_memory():
                for sizes, rows in zip(planned, examples.deliver(order, lengths, moves), strict=True):
                    if should_stop is not None and should_stop():
                        break
                    until = done + len(sizes)
                    self._run(sizes, rows, plan[done:until, ...], None if keys is None else keys[done:until, ...],
                              losses[done:until, ...])
                    done = until
                    if self.step + done in self.snapshot_steps:
                        self.snapshots[self.step + done] = tensors_of(network)
                    watcher.step(self.step + done)
        except BaseException:                           # possibly amid an update: go back to a state that is whole
            self.optimizer = self._good.restore()
            raise
        host_losses = backend.to_host(losses)[:done]    # waits for the device, once an epoch
        seconds = time.perf_counter() - began
        self.restore_frozen()
        self._check_finite(host_losses, rates)
        self.step += done
        self.optimizer.step += done
        self.epoch += 1
        return EpochReport(host_losses, seconds, min(done * self.batch_size, examples.n), done == n_steps)

    def restore_frozen(self) -> None:
        """Put the frozen members' parts of the state back to what they were before they diverged."""
        self._good.restore_members(np.flatnonzero(self.is_frozen))

    def _circumstances(self, sizes: tuple[int, ...]) -> list[Any]:
        """What a step takes for granted, next to its arguments: memory, objects and numbers."""
        network, examples, optimizer = self.network, self.examples, self.optimizer
        buffers = [part for n in sorted(set(sizes))
                   for part in (self._batch(n), network.reserve(n, self.dropout is not None))]
        settings = [value for name, value in sorted(vars(optimizer).items()) if name not in ("state", "step")]
        return [network, network.l2, examples, examples.data, examples.labels, examples.sample_weight, optimizer,
                *optimizer.state.values(), *buffers, *settings, self.bn_decay, self.label_smoothing,
                0.0 if self.dropout is None else self.dropout.rate]

    def _stretches(self, n_steps: int) -> list[tuple[int, ...]]:
        """The next steps' batch sizes, grouped as the steps run together: one by one, or as many as are recorded.

        A group ends where a snapshot is due.
        """
        sizes = [min(self.batch_size, self.examples.n - k * self.batch_size) for k in range(n_steps)]
        work = 3.0 * self.batch_size * self.network.layout.size         # forward, and backward to weights and inputs
        at_once = self.network.backend.steps_at_once(work) if self.record else 1
        if self.examples.streams:
            at_once = min(at_once, max(1, self.examples.rows_at_once // self.batch_size))
        due = {step - self.step for step in self.snapshot_steps}
        bounds = sorted({*range(0, n_steps, at_once), n_steps, *(due & set(range(n_steps)))})
        return [tuple(sizes[first:last]) for first, last in pairwise(bounds)]

    @property
    def _statistics_begun(self) -> bool:
        return self.network.has_running or not self.network.running.shape[0]

    def _run(self, sizes: tuple[int, ...], *arrays: Array | None) -> None:
        """Make some steps: one after the other at first, recorded when the same come again.

        The first time, they compile and load what they need, which a recording must not do, and the first step of all
        begins the running statistics. The arrays are those of `make_steps`.
        """
        recording = None
        if self.record and sizes in self._seen and self._statistics_begun:
            recording = self._recording(sizes, arrays)
        if recording is None:
            self.make_steps(sizes, *arrays)
            self._seen.add(sizes)
        else:
            recording.replay(*arrays)

    def _recording(self, sizes: tuple[int, ...], arrays: tuple[Array | None, ...]) -> Recording | None:
        """The recording of steps of these sizes; None, and a warning, where the device cannot record."""
        recording, circumstances = self._recordings.pop(sizes, None), self._circumstances(sizes)
        if recording is None or not recording.holds_under(circumstances):
            try:
                recording = Recording(self.network.backend, partial(self.make_steps, sizes), arrays, circumstances)
            except FastMLPError:
                raise
            except RuntimeError as error:               # CuPy's and CUDA's; the numbers are the same without
                self.record = False
                warnings.warn(f"steps cannot be recorded ({type(error).__name__}: {str(error)[:200]}), so every kernel "
                              f"is launched by itself, which is slower", RuntimeWarning, stacklevel=3)
                return None
            while len(self._recordings) >= MOST_RECORDINGS:
                self._recordings.pop(next(iter(self._recordings)))
        self._recordings[sizes] = recording             # the last used one is last
        return recording

    def _batch(self, n: int) -> Batch:
        """The arrays of a batch of n; those of the two sizes that were last used are kept."""
        batch = self._batches.pop(n, None)
        if batch is None or batch.source is not self.examples:
            while len(self._batches) >= 2:
                self._batches.pop(next(iter(self._batches)))
            batch = self.examples.new_batch(n)
        self._batches[n] = batch
        return batch

    def make_steps(self, sizes: tuple[int, ...], rows: Array, plan: Array, keys: Array | None, losses: Array) -> None:
        """One step after the other: read a batch, loss and gradient, update.

        sizes of the n batches; rows (their sum,), or with moves (4, their sum); plan (n, M + constants): each step's
        rates, then what its optimizer wants besides; keys (n, layers, M) of dropout, or None  ->  losses (n, M)
        """
        network, start = self.network, 0
        for k, n in enumerate(sizes):
            batch = self._batch(n)
            self.examples.read(rows[..., start:start + n], batch)
            masks = None if keys is None or self.dropout is None else Masks(self.dropout.rate, keys[k, ...])
            network.loss_and_gradient(batch.x, batch.targets, batch.weights, losses[k, ...], masks=masks,
                                      label_smoothing=self.label_smoothing)
            self.optimizer.update(network, plan[k, :network.members], plan[k, network.members:])
            network.update_running(self.bn_decay)
            start += n

    def _check_finite(self, losses: npt.NDArray[Any], rates: npt.NDArray[np.float64]) -> None:
        bad = ~np.isfinite(losses)                      # (steps, M)
        for member in np.flatnonzero(bad.any(axis=0) & ~self.is_frozen):
            k = int(bad[:, member].argmax())
            self.diverged(f"the loss became {losses[k, member]}", self.step + k + 1, float(rates[k, member]),
                          int(member))

    def diverged(self, what: str, step: int, lr: float, member: int) -> None:
        """Freeze a member in its last good state. Where none is left, put that of all back and raise."""
        members = self.network.members
        if members > 1:
            self.frozen[member] = Divergence(what, step, lr)
            self._good.restore_members([member])
            if not self.is_frozen.all():
                return
        self.optimizer = self._good.restore()
        who = f" in member {member}, the last of {members} that had not diverged" if members > 1 else ""
        remedy = "try a lower learning rate" if step else "the initial weights or the penalty are too large"
        raise DivergenceError(f"{what} at step {step}, learning rate {lr:.3g}{who}: the state of the last good epoch "
                              f"is kept; {remedy}", step=step, lr=lr)
