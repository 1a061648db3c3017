"""Derivatives of a network's cost by finite differences, as exactly as float64 allows.

What is differenced is the cost J = loss + l2 * sum of squared weights, with the statistics of the batch where there is
batch norm. A centred difference (J(p + h) - J(p - h)) / 2h is in error by c h^2 + c' h^4 + ... and by about 1e-16 / h
from rounding. With h = 1e-5 rounding leaves 1e-11: too much to tell a derivative of 1e-6 to six digits. So the steps
are large, h, h / 2, h / 4, ..., and Richardson's extrapolation takes h^2, h^4, ... away one by one; each entry of the
table that so arises comes with an estimate of its error, and the best one counts (Ridders 1982; Press et al., Numerical
Recipes, "Numerical derivatives").

ReLU and the hinge have kinks, where J has no derivative and a difference across means nothing. A step counts only if
all pre-activations (and hinge margins) keep their signs at both its ends; smaller ones are tried otherwise. An element
so near a kink that no step is left that could tell its derivative is given up: NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.cpu import blas_threads
from fastmlp.dropout import Masks
from fastmlp.kernels.activations import ACTIVATIONS
from fastmlp.network import Network

Array = npt.NDArray[Any]

HALVINGS = 14                   # of the first step: down to 8e-6, where rounding leaves nothing to see
GOOD_ENOUGH = 1e-9              # estimated relative error at which no further step is tried
UNKNOWN = 1e-6                  # estimated relative error above which an element near a kink is given up
POPULATION_BYTES = 16 << 20     # of parameters and activations that are evaluated at once


class Cost:
    """The cost around a network's parameters: copies of it, each moved a little, are evaluated as one population.

    A move is along one element of one tensor, or along one of the tensor's directions; they are numbered throughout.
    """

    def __init__(self, network: Network, directions: dict[str, Array], x: Array, targets: Array, weights: Array, *,
                 masks: Masks | None = None, label_smoothing: float = 0.0) -> None:
        spec = network.spec
        self.base, self.directions, self.batch = network.views(), directions, (x, targets, weights)
        self.first, self.n_moves = {}, 0                                            # number of a tensor's first move
        for name, base in self.base.items():
            self.first[name] = self.n_moves
            self.n_moves += len(directions[name]) if name in directions else base.size
        bytes_each = 8 * (2 * spec.n_parameters + 4 * len(x) * sum(spec.sizes[1:]))
        self.pairs = int(np.clip(POPULATION_BYTES // (2 * bytes_each), 1, 128))     # moves evaluated at once
        self.masks = masks and masks._replace(keys=np.tile(masks.keys, 2 * self.pairs))     # dropout is no move's
        self.label_smoothing = label_smoothing
        self.population = Network(spec, network.backend, members=2 * self.pairs, dtype="float64", l2=network.l2[0])
        self.views = self.population.views()
        for name, view in self.views.items():
            view[...] = self.base[name]
        loss, sides = self._losses()
        self.sides = [side[0].copy() for side in sides]
        self.rounding = float(np.finfo(np.float64).eps * max(1.0, abs(loss[0])))

    def slopes(self, h: float, eps: float) -> dict[str, Array]:
        """Slopes of the cost along all moves: {name: (moves,)}."""
        with blas_threads(1):                                                       # for many small products
            slopes = extrapolated_slopes(
                lambda which, step: self._differences(which, step, self._losses_off_kinks), self.n_moves, h, eps,
                self.rounding)
            # The penalty is quadratic: its centred difference is exact at any step, so a large one, against rounding.
            slopes += self._differences(np.arange(self.n_moves), 1.0, self.population.penalty)
        return dict(zip(self.first, np.split(slopes, list(self.first.values())[1:]), strict=True))

    def _differences(self, which: Array, step: float, measure: Callable[[], Array]) -> Array:
        """Centred differences of what is measured of each member, along the moves `which` (P,)  ->  (P,)."""
        differences = np.empty(len(which))
        for start in range(0, len(which), self.pairs):
            moves = which[start:start + self.pairs]
            for name, rows, vectors in self._vectors(moves):
                self.views[name][rows] = self.base[name] + step * vectors
                self.views[name][self.pairs + rows] = self.base[name] - step * vectors
            measured = measure()
            ahead, behind = measured[:len(moves)], measured[self.pairs:self.pairs + len(moves)]
            differences[start:start + self.pairs] = (ahead - behind) / (2.0 * step)
            for name, rows, _ in self._vectors(moves):
                self.views[name][rows] = self.views[name][self.pairs + rows] = self.base[name]
        return differences

    def _vectors(self, moves: Array) -> Iterator[tuple[str, Array, Array]]:
        """The moves by tensor: its name, which of them are its (P,), and the moves themselves (P, ...)."""
        tensor_of = np.searchsorted(list(self.first.values()), moves, side="right") - 1
        for number, (name, first) in enumerate(self.first.items()):
            rows = np.flatnonzero(tensor_of == number)
            if len(rows):
                local, base = moves[rows] - first, self.base[name]
                if name in self.directions:
                    vectors = self.directions[name][local]
                else:
                    vectors = np.zeros((len(local), base.size))
                    vectors[np.arange(len(local)), local] = 1.0
                yield name, rows, vectors.reshape(-1, *base.shape[1:])

    def _losses(self) -> tuple[Array, list[Array]]:
        """The loss of each member (M,), and on which side of their kinks its pre-activations and margins lie."""
        population, (x, targets, weights) = self.population, self.batch
        activities = population.forward(x, weights, self.masks)
        logits, glogits = population.by_member(activities[-1].y), population.by_member(activities[-1].gy)
        loss = np.empty(population.members)
        population.loss(logits, targets, weights, loss, glogits, self.label_smoothing)
        sides = []
        if ACTIVATIONS[population.spec.activation].has_kink:
            sides += [population.by_member(a.y) > 0 for a in activities[:-1]]       # y > 0 just where s > 0
        if population.spec.loss == "hinge":
            correct = np.sum(logits * targets, axis=-1, keepdims=True)
            sides.append(logits - correct + 1.0 - targets > 0)
        return loss, sides

    def _losses_off_kinks(self) -> Array:
        """The loss of each member (M,), NaN where it lies across a kink from the network that is checked."""
        loss, sides = self._losses()
        for side, side_of_base in zip(sides, self.sides, strict=True):
            loss[np.any(side != side_of_base, axis=(1, 2))] = np.nan
        return loss


def extrapolated_slopes(difference: Callable[[Array, float], Array], n: int, h: float, eps: float,
                        rounding: float) -> Array:
    """Derivatives of n functions by Ridders's method.

    Parameters
    ----------
    difference : callable
        From numbers of functions (P,) and a step to their centred differences (P,), NaN where a kink lies between.
    n : int
        How many functions there are.
    h : float
        The first step.
    eps : float
        Derivatives smaller than this need not be known to the last digit.
    rounding : float
        Error of the functions' values; it leaves rounding / step in the difference.

    Returns
    -------
    ndarray (n,)
        NaN where kinks left no step from which the derivative could be told to within `UNKNOWN`.

    Examples
    --------
    >>> def difference(which, h):
    ...     return np.array([(np.exp(h) - np.exp(-h)) / (2 * h)])
    >>> bool(abs(extrapolated_slopes(difference, 1, 0.1, 1e-6, 1e-16)[0] - 1) < 1e-12)
    True
    """
    best, error, kinked = np.full(n, np.nan), np.full(n, np.inf), np.zeros(n, bool)
    active = np.arange(n)
    row: list[Array] = []                                       # of the table: the last step's, by order
    for halving in range(HALVINGS):
        step = h / 2**halving
        new = [difference(active, step)]
        kinked[active] |= np.isnan(new[0])
        for order, old in enumerate(row):
            new.append(new[order] + (new[order] - old) / (4.0**(order + 1) - 1.0))
            doubt = np.maximum(np.abs(new[-1] - new[-2]), np.abs(new[-1] - old)) + rounding / step
            better = doubt < error[active]                      # False for NaN
            best[active[better]], error[active[better]] = new[-1][better], doubt[better]
        enough = np.fmax(GOOD_ENOUGH * np.fmax(eps, 2.0 * np.abs(best[active])), rounding / (step / 2.0))
        wanting = error[active] > enough                        # and the next step's rounding does not forbid better
        active, row = active[wanting], [entry[wanting] for entry in new]
        if not len(active):
            break
    unknown = kinked & ~(error <= UNKNOWN * np.maximum(eps, 2.0 * np.abs(best)))
    return np.where(unknown, np.nan, best)
