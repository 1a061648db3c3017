"""One network or population in training: its steps and epochs, and what their future depends on.

Within an epoch nothing crosses between host and device: the permutation, the rates and dropout's keys go up before it,
the losses of all steps come down after it. How a step is made stands in `steps`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.checks import check_batches, check_suits
from fastmlp.dropout import Dropout
from fastmlp.errors import ConfigError, DivergenceError
from fastmlp.examples import Examples
from fastmlp.good_state import GoodState, Kept, Moment
from fastmlp.network import Network
from fastmlp.optimizers import Optimizer
from fastmlp.parameters import Tensors, tensors_of
from fastmlp.progress import Progress
from fastmlp.schedules import Schedule
from fastmlp.seeds import Stream, generator
from fastmlp.steps import Steps

Array = Any
SILENCE = Progress()


@dataclass(frozen=True)
class EpochReport:
    """What one pass over the data did, or a part of one.

    Attributes
    ----------
    first : int
        Steps of the same epoch that had been made before.
    losses : ndarray (steps, M)
        The batch loss of each step before its update.
    seconds : float
        Time spent in the steps.
    n_examples : int
        Examples seen.
    complete : bool
        Whether the epoch is over: all steps that were asked for were made.
    """

    first: int
    losses: npt.NDArray[Any]
    seconds: float
    n_examples: int
    complete: bool


#: What helps where a loss becomes infinite.
REMEDY = "try a lower learning rate, or standardize by feature if the inputs are large"


@dataclass(frozen=True)
class Divergence:
    """What happened to a member: in words, at which step (counted from 1; 0 before the first), at which rate."""

    what: str
    step: int
    lr: float


class Trainer(Steps):
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
    position : int
        Steps made of an epoch that was stopped; 0 between epochs.
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
        super().__init__(network, examples, optimizer, bn_decay=bn_decay, label_smoothing=label_smoothing,
                         dropout=dropout if dropout is not None and dropout.rate else None, record=record)
        self.schedule, self.batch_size, self.shuffle = schedule, batch_size, shuffle
        self.rng, self.move_rng = generator(seed, Stream.ORDER), generator(seed, Stream.AUGMENTATION)
        self.step = self.epoch = self.position = 0
        self.rate_factor = 1.0
        self.snapshot_steps, self.snapshots = snapshot_steps, dict[int, Tensors]()
        optimizer.prepare(network)
        self.frozen: list[Divergence | None] = [None] * network.members
        self.states = GoodState(network, optimizer, self.moment())

    @property
    def generators(self) -> list[np.random.Generator]:
        """All random generators: of the order, of the moves, of each member's dropout.

        Between calls they stand at the beginning of the epoch that comes next, or goes on.
        """
        return [self.rng, self.move_rng, *(self.dropout.generators if self.dropout is not None else ())]

    def moment(self) -> Moment:
        """Now."""
        return Moment(self.step, self.epoch, tuple(one.bit_generator.state for one in self.generators))

    def go_to(self, moment: Moment) -> None:
        """Have it be another moment, between epochs. What is in arrays stays."""
        self.step, self.epoch, self.position = moment.step, moment.epoch, 0
        for one, state in zip(self.generators, moment.generators, strict=True):
            one.bit_generator.state = dict(state)

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
        """One pass over the data in a new order, or what is left of one that was stopped; at most `max_steps` steps.

        The watcher is told, and `should_stop` asked, before every step, or on a GPU every stretch of recorded steps.
        After it has said yes, the next call goes on where this one stopped, as if it had not. An epoch that
        `max_steps` cut short is over.

        Raises
        ------
        DivergenceError
            A step's loss was NaN or infinite, and there is no other member to go on with (see `frozen`); the network
            is in its last good state again, which is that of the beginning of this epoch or of the one before.
        """
        network, examples, backend = self.network, self.examples, self.network.backend
        first = self.position
        n_steps = self.steps_per_epoch if max_steps is None else min(self.steps_per_epoch, first + max_steps)
        rates = self.rates(self.step, n_steps - first)
        began = self.moment()
        if not first:
            self.states.keep(self.optimizer, began)
        lengths = [sum(sizes) for sizes in self._stretches(n_steps)]
        order = examples.order(self.rng, lengths) if self.shuffle else np.arange(examples.n)
        moves = examples.moves(self.move_rng)
        keys = None if self.dropout is None else self.dropout.keys(n_steps, len(network.spec.hidden))[first:]
        seen = first * self.batch_size
        order, moves = order[seen:], None if moves is None else moves[:, seen:]
        planned = self._stretches(n_steps, first)
        started = time.perf_counter()
        plan = np.concatenate([rates, self.optimizer.constants(n_steps - first)], axis=1)   # (steps, M + constants)
        keys = None if keys is None else backend.asarray(keys)                              # (steps, layers, M)
        plan, losses = backend.asarray(plan.astype(network.dtype)), network.empty((n_steps - first, network.members))
        done = 0
        try:
            # A diverging loss is found below, by looking at it.
            with np.errstate(all="ignore"), backend.explaining_memory():
                for sizes, rows in zip(planned, examples.deliver(order, [sum(sizes) for sizes in planned], moves),
                                       strict=True):
                    if should_stop is not None and should_stop():
                        break
                    until = done + len(sizes)
                    self._run(sizes, rows, plan[done:until, ...], None if keys is None else keys[done:until, ...],
                              losses[done:until, ...])
                    done = until
                    if self.step + done in self.snapshot_steps:
                        self.snapshots[self.step + done] = tensors_of(network)
                    watcher.step(self.step + done)
            host_losses = backend.to_host(losses)[:done]                # waits for the device, once an epoch
        except BaseException:                           # possibly amid an update
            self.undo_epoch()
            raise
        seconds = time.perf_counter() - started
        self._find_divergence(host_losses, rates)
        self.restore_frozen()
        complete = first + done == n_steps
        if not complete:
            self.go_to(began)
        self.step += done
        self.optimizer.step += done
        self.epoch += bool(done and not first)
        self.position = 0 if complete else first + done
        n_examples = min(n_steps * self.batch_size, examples.n) - seen if complete else done * self.batch_size
        return EpochReport(first, host_losses, seconds, n_examples, complete)

    def restore_frozen(self) -> None:
        """Put the frozen members' parts of the state back to what they were before they diverged."""
        self.states.restore_members(np.flatnonzero(self.is_frozen))

    def _stretches(self, n_steps: int, first: int = 0) -> list[tuple[int, ...]]:
        """Batch sizes of an epoch's steps from `first` on, grouped as they run together: one by one, or as recorded.

        A group ends where a snapshot is due.
        """
        sizes = [min(self.batch_size, self.examples.n - k * self.batch_size) for k in range(n_steps)]
        work = 3.0 * self.batch_size * self.network.layout.size         # forward, and backward to weights and inputs
        at_once = self.network.backend.steps_at_once(work) if self.record else 1
        if self.examples.streams:
            at_once = min(at_once, max(1, self.examples.rows_at_once // self.batch_size))
        due = {step for step in range(n_steps) if self.step - self.position + step in self.snapshot_steps}
        bounds = {*range(0, n_steps, at_once), first, n_steps, *due}
        return [tuple(sizes[start:end]) for start, end in pairwise(sorted(bound for bound in bounds if bound >= first))]

    def _find_divergence(self, losses: npt.NDArray[Any], rates: npt.NDArray[np.float64]) -> None:
        """Look at the losses (steps, M) of the steps that come after `step`, made at these rates."""
        bad = ~np.isfinite(losses) & ~self.is_frozen    # (steps, M)
        # The first loss tells of the state that the epoch began with. If nobody's was good, all go back further.
        if len(losses) and not self.position and not (bad[0] | self.is_frozen).all():
            self.states.confirm(np.flatnonzero(bad[0]))
        for member in np.flatnonzero(bad.any(axis=0)):
            k = int(bad[:, member].argmax())
            self.diverged(f"the loss became {losses[k, member]}", self.step + k + 1, float(rates[k, member]),
                          int(member))

    def diverged(self, what: str, step: int, lr: float, member: int) -> None:
        """Freeze a member in its last good state. Where none is left, put that of all back and raise."""
        members = self.network.members
        if members > 1:
            self.frozen[member] = Divergence(what, step, lr)
            self.states.restore_members([member])
            if not self.is_frozen.all():
                return
        self._go_back(self.states.restore())
        who = f" in member {member}, the last of {members} that had not diverged" if members > 1 else ""
        remedy = REMEDY if step else "the inputs, the initial weights or the penalty are too large"
        raise DivergenceError(f"{what} at step {step}, learning rate {lr:.3g}{who}: the state of the last good epoch "
                              f"is kept; {remedy}", step=step, lr=lr)

    def undo_epoch(self) -> None:
        """Go back to the beginning of the epoch that is under way, or was the last: a state that is whole."""
        self._go_back(self.states.undo())

    def _go_back(self, kept: Kept) -> None:
        self.optimizer = kept.optimizer
        self.go_to(kept.moment)
