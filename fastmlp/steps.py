"""The steps of a training: each gathers its batch on the device, runs forward and backward, and updates.

A stretch of steps is recorded once and replayed from then on: see `recording`.
"""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

from fastmlp.dropout import Dropout, Masks
from fastmlp.errors import FastMLPError
from fastmlp.examples import Batch, Examples
from fastmlp.network import Network
from fastmlp.optimizers import Optimizer
from fastmlp.recording import Recording

Array = Any
MOST_RECORDINGS = 4     # kept: whole stretches, the end of an epoch, and what a last, shorter epoch needs


class Steps:
    """Makes steps, one after the other or as they were recorded; the parameters are those of `Trainer`."""

    def __init__(self, network: Network, examples: Examples, optimizer: Optimizer, *, bn_decay: float,
                 dropout: Dropout | None, label_smoothing: float, record: bool) -> None:
        self.network, self.examples, self.optimizer = network, examples, optimizer
        self.bn_decay, self.dropout, self.label_smoothing = bn_decay, dropout, label_smoothing
        self.record = record and network.backend.records
        self._recordings: dict[tuple[int, ...], Recording] = {}
        self._seen: set[tuple[int, ...]] = set()        # stretches of steps that have run, call by call
        self._batches: dict[int, Batch] = {}

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

    def _circumstances(self, sizes: tuple[int, ...]) -> list[Any]:
        """What a step takes for granted, next to its arguments: memory, objects and numbers."""
        network, examples, optimizer = self.network, self.examples, self.optimizer
        buffers = [part for n in sorted(set(sizes))
                   for part in (self._batch(n), network.reserve(n, self.dropout is not None))]
        settings = [value for name, value in sorted(vars(optimizer).items()) if name not in ("state", "step")]
        return [network, network.l2, examples, examples.data, examples.labels, examples.sample_weight, optimizer,
                *optimizer.state.values(), *buffers, *settings, self.bn_decay, self.label_smoothing,
                0.0 if self.dropout is None else self.dropout.rate]
