"""Steps of a training, recorded once and replayed: see `docs/gpu.md`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastmlp.backend import Backend

Array = Any


class Recording:
    """Some steps of a trainer on arrays of their own, recorded once, to be run again and again.

    A recorded step reads and writes the same memory each time, with the same numbers in its arguments. What differs
    from one time to the next (rows, rates, keys) is copied there before, and the losses are copied out after.

    Parameters
    ----------
    backend : Backend
        Where the steps run.
    steps : callable
        Makes the steps when called with rows, plan, keys and losses; see `Trainer.make_steps`.
    like : four arrays, or None for keys
        Rows, plan, keys and losses of the same shapes and dtypes as those to come.
    circumstances : list
        What else the steps depend on: numbers, and objects and arrays, which are kept alive as long as the recording,
        since it knows nothing but their addresses.
    """

    def __init__(self, backend: Backend, steps: Callable[..., None], like: tuple[Array | None, ...],
                 circumstances: list[Any]) -> None:
        self._circumstances = circumstances
        *self._inputs, self._losses = (
            None if array is None else backend.zeros(array.shape, array.dtype) for array in like)
        with backend.explaining_memory():
            self._steps = backend.record(lambda: steps(*self._inputs, self._losses))

    def holds_under(self, circumstances: list[Any]) -> bool:
        """Whether the steps would still be the same, in the same memory."""
        return len(circumstances) == len(self._circumstances) and all(
            one is other or (isinstance(one, float | int | np.number) and type(one) is type(other) and one == other)
            for one, other in zip(self._circumstances, circumstances, strict=True))

    def replay(self, rows: Array, plan: Array, keys: Array | None, losses: Array) -> None:
        """Run the steps on these rows with these rates and keys; write their losses."""
        for mine, new in zip(self._inputs, (rows, plan, keys), strict=True):
            if mine is not None:
                mine[...] = new
        self._steps()
        losses[...] = self._losses
