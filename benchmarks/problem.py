"""What all contenders train: the cases of the epoch benchmark, and the one data set that they share."""

import copy
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from fastmlp.data.standardize import Standardizer
from fastmlp.examples import Examples
from fastmlp.initializers import draw_weights
from fastmlp.schedules import cyclical

CLASSES = 10
ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class Case:
    """A network, or a population of `members` of them, that is timed."""

    section: str
    name: str
    hidden: tuple[int, ...]
    batch_norm: bool
    members: int = 1
    steps: int | None = None        # of an epoch, where all would take too long


def population(members, steps=None):
    """So many networks of 50-50 with batch norm."""
    return Case("populations", f"{members} member{'s' * (members > 1)}", (50, 50), True, members, steps)


SECTIONS = {
    "networks": [Case("networks", name + " BN" * batch_norm, hidden, batch_norm)
                 for name, hidden in (("50", (50,)), ("50-50", (50, 50)),
                                      ("9 layers", (50, 30, 20, 20, 10, 10, 10, 10)))
                 for batch_norm in (False, True)],
    "populations": [population(members) for members in (1, 8, 32, 128, 512)],
    "widths": [Case("widths", f"{width}-{width} BN", (width, width), True)
               for width in (50, 128, 256, 512, 1024, 2048, 4096)],
}


class Problem:
    """Random bytes with random labels (the time does not depend on the content), and how they are trained.

    `first_steps` cuts an epoch short. Every library keeps its own copy of the data where it computes, made once:
    see `kept`.
    """

    def __init__(self, n, inputs, first_steps=None, *, batch=100, l2=0.005, lr=(1e-5, 1e-1), half_cycle=2250):
        rng = np.random.default_rng(0)
        self.n, self.inputs, self.batch, self.l2 = n, inputs, batch, l2
        self.data = rng.integers(0, 256, (n, inputs), np.uint8)
        self.labels = rng.integers(0, CLASSES, n)
        self.steps = min(self.whole, first_steps or n)
        self._lr, self._half_cycle = lr, half_cycle
        self._kept = {}

    @property
    def whole(self):
        """The steps of a whole epoch."""
        return -(-self.n // self.batch)

    def with_steps(self, steps):
        """The same data with so many steps of an epoch, if it has as many."""
        result = copy.copy(self)        # what is kept stays common
        result.steps = min(self.whole, steps)
        return result

    @property
    def standardizer(self):
        return self.kept("standardizer", lambda: Standardizer.fit(self.data, "feature"))

    @property
    def standardised(self):
        """The data as float32, once for all who want them on the host. JAX shares arrays on 64-byte boundaries only."""
        return self.kept("standardised", self._standardise)

    def _standardise(self):
        memory = np.empty(4 * self.data.size + 64, np.uint8)
        start = -memory.ctypes.data % 64
        result = memory[start:start + 4 * self.data.size].view(np.float32).reshape(self.data.shape)
        for first in range(0, self.n, ROWS_AT_ONCE):
            rows = slice(first, first + ROWS_AT_ONCE)
            result[rows] = self.standardizer.apply(self.data[rows], np.float32)
        return result

    def kept(self, name, make):
        """What `make` made when this name was first asked for."""
        if name not in self._kept:
            self._kept[name] = make()
        return self._kept[name]

    def examples(self, backend):
        """The data for fastmlp, which keeps bytes."""
        return self.kept(backend.description,
                         lambda: Examples(self.data, self.labels, CLASSES, self.standardizer, backend))

    def rate(self, step):
        """The learning rate of a step, or of an array of them."""
        return cyclical(step, lr_min=self._lr[0], lr_max=self._lr[1], step_size=self._half_cycle)

    def sizes(self, case):
        return (self.inputs, *case.hidden, CLASSES)

    def weights(self, case):
        """The initial weights of every member, float32: a list of (D, H) by layer, a list of those by member."""
        return [[w.astype(np.float32) for w in draw_weights(seed, self.sizes(case), "he", 0.0)]
                for seed in range(case.members)]

    def flops(self, case):
        """Multiplications and additions in the matrix products of one full step: forward, and backward for the weights
        and, but for the first layer, the inputs."""
        products = [rows * columns for rows, columns in pairwise(self.sizes(case))]
        return 2 * self.batch * case.members * (3 * sum(products) - products[0])
