"""Checking gradients: those of back-propagation against those of finite differences, element by element.

The numeric side is in `finite_differences`; the gradient under test has no part in choosing its steps. Both sides use
the same forward pass, in float64 on the CPU, and what is compared is the gradient that the optimizers see, with the
penalty's part (`Block.penalty`) in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.backend import resolve
from fastmlp.checks import check_suits
from fastmlp.dropout import Dropout, Masks
from fastmlp.errors import ConfigError, DataError
from fastmlp.finite_differences import Cost
from fastmlp.layout import NetworkSpec
from fastmlp.network import Network
from fastmlp.seeds import Stream, generator

Array = npt.NDArray[Any]

BAR = 1e-6                      # relative error below which a gradient counts as right
MOST_SKIPPED = 0.01             # of all elements; a check that skips more of them proves too little
ELEMENTWISE = 20_000            # parameters up to which every element is checked
DIRECTIONS = 100                # a tensor of a larger network, where it has more elements than this
ATTEMPTS = 3                    # points in the space of parameters, where too much lies on kinks


@dataclass(frozen=True, eq=False)
class TensorCheck:
    """One tensor's gradients, by both ways.

    Attributes
    ----------
    layer : int
        Counted from 1.
    name : str
        As in `Network.views`: "w0" in layer 1.
    analytic : ndarray
        Of the tensor's shape; or (DIRECTIONS,), the slopes along random directions of length 1.
    numeric : ndarray
        Of the same shape; NaN where an element lies so near a kink that it was skipped.
    eps : float
        Gradients smaller than this are compared absolutely.
    """

    layer: int
    name: str
    analytic: Array
    numeric: Array
    eps: float

    @property
    def kind(self) -> str:
        """Its name without the number: "w", "b", "gamma" or "beta"."""
        return self.name.rstrip("0123456789")

    @property
    def skipped(self) -> int:
        """How many elements were skipped at kinks."""
        return int(np.isnan(self.numeric).sum())

    @property
    def absolute_differences(self) -> Array:
        """`|analytic - numeric|` of all elements that were not skipped, (n,)."""
        compared = ~np.isnan(self.numeric)
        differences: Array = np.abs(self.analytic - self.numeric)[compared]
        return differences

    @property
    def relative_errors(self) -> Array:
        """`|analytic - numeric| / max(eps, |analytic| + |numeric|)`, (n,); infinite where that is not finite."""
        compared = ~np.isnan(self.numeric)
        size = np.maximum(self.eps, np.abs(self.analytic) + np.abs(self.numeric))[compared]
        with np.errstate(invalid="ignore"):
            errors = self.absolute_differences / size
        return np.where(np.isfinite(errors), errors, np.inf)


@dataclass(frozen=True, eq=False)
class GradientCheck:
    """What `check_gradients` found.

    Attributes
    ----------
    spec : NetworkSpec
    n : int
        Examples in the batch.
    l2 : float
    tensors : tuple of TensorCheck
        From the first layer to the last.
    population_error : float
        Largest relative error of the same network's gradients when it is a member of a population.
    dropout, label_smoothing : float
    """

    spec: NetworkSpec
    n: int
    l2: float
    tensors: tuple[TensorCheck, ...]
    population_error: float
    dropout: float = 0.0
    label_smoothing: float = 0.0

    @property
    def worst(self) -> float:
        """The largest relative error of any element, and of the population."""
        return max(self.population_error, *(float(t.relative_errors.max(initial=0.0)) for t in self.tensors))

    @property
    def skipped(self) -> int:
        """Elements that were skipped at kinks."""
        return sum(tensor.skipped for tensor in self.tensors)

    @property
    def elements(self) -> int:
        """Elements (or directions), the skipped ones among them."""
        return sum(tensor.numeric.size for tensor in self.tensors)

    def passed(self, bar: float = BAR) -> bool:
        """Whether all gradients are right: every error below the bar, and next to nothing skipped.

        A check that skipped more than 1 % of all elements, or a tensor altogether, does not pass.
        """
        some_of_each = all(tensor.skipped < tensor.numeric.size for tensor in self.tensors)
        return self.worst < bar and self.skipped <= MOST_SKIPPED * self.elements and some_of_each

    @property
    def title(self) -> str:
        """One line for people: "20-50-50-10, relu, batch norm, cross-entropy, l2 0.1, 20 examples"."""
        spec = self.spec
        batch_norm = "batch norm" if spec.normalized(0) else "no batch norm"
        return ", ".join(["-".join(map(str, spec.sizes)), spec.activation, batch_norm, spec.loss, f"l2 {self.l2:g}",
                          *([f"dropout {self.dropout:g}"] if self.dropout else []),
                          *([f"label smoothing {self.label_smoothing:g}"] if self.label_smoothing else []),
                          f"{self.n} examples"])


def check_gradients(spec: NetworkSpec, *, n: int = 20, l2: float = 0.0, seed: int = 0, init: str = "he",
                    h: float = 0.0625, eps: float = 1e-6, x: npt.ArrayLike | None = None,
                    labels: npt.ArrayLike | None = None,
                    sample_weight: npt.ArrayLike | None = None, dropout: float = 0.0,
                    label_smoothing: float = 0.0) -> GradientCheck:
    """Compare back-propagated gradients with finite differences, in float64 on the CPU.

    Every element of every tensor is compared; in networks of more than 20,000 parameters, 100 random directions stand
    for each large tensor.

    Parameters
    ----------
    spec : NetworkSpec
        The network to check.
    n : int, default 20
        Examples in the batch; at least 2 with batch norm.
    l2 : float, default 0.0
        The penalty's factor.
    seed : int, default 0
        Of the parameters and of the examples. Weights are drawn as for training, gamma between 0.5 and 1.5, biases and
        beta near 0, so that no gradient is zero by accident.
    init : {"he", "xavier", "normal"}, default "he"
        How the weights are drawn.
    h : float, default 0.0625
        The first and largest step.
    eps : float, default 1e-6
        Gradients smaller than this are compared absolutely.
    x : array (n, D), optional
        Examples of your own; standard normal numbers otherwise.
    labels : array (n,) of int, optional
        Classes of the examples; random ones otherwise.
    sample_weight : array (n,), optional
        Weight of each example in the mean loss and in batch norm's statistics.
    dropout : float, default 0.0
        Fraction of the hidden units that is dropped; the same ones for every cost.
    label_smoothing : float, default 0.0
        Fraction of each target that is spread over all classes.

    Returns
    -------
    GradientCheck

    Raises
    ------
    ConfigError
        Batch norm with fewer than two examples; dropout or label smoothing that does not suit the network.
    DataError
        Examples, labels or weights that do not fit the network or each other.

    Examples
    --------
    >>> check = check_gradients(NetworkSpec(4, (5, 3), 2), l2=0.1)
    >>> check.passed(), len(check.tensors)
    (True, 8)
    """
    check_suits(spec.hidden, spec.loss, dropout, label_smoothing)
    rng = generator(seed, Stream.GRADIENT_CHECK)
    x, labels = _batch(spec, n, x, labels, rng)
    weights = np.ones(len(x)) if sample_weight is None else np.asarray(sample_weight, np.float64)
    if weights.shape != (len(x),) or not weights.sum() > 0:
        raise DataError(f"the sample weights must be {len(x)} numbers with a sum above 0")
    batch = (x, np.eye(spec.n_classes)[labels], weights / weights.sum())
    network = Network(spec, resolve("cpu"), dtype="float64", l2=l2)
    network.initialize([seed], init)
    masks = Masks(dropout, Dropout(dropout, [seed]).keys(1, len(spec.hidden))[0]) if dropout else None
    for _ in range(ATTEMPTS):
        for name, view in network.views().items():
            if name.startswith("gamma"):
                view[...] = rng.uniform(0.5, 1.5, view.shape)
            elif not name.startswith("w"):
                view[...] = rng.normal(0.0, 0.1, view.shape)
        check = _check_here(network, batch, rng, h, eps, masks=masks, label_smoothing=label_smoothing)
        if check.skipped <= MOST_SKIPPED * check.elements:
            break                               # else the point lies on a kink by ill luck: take another
    return check


def _check_here(network: Network, batch: tuple[Array, Array, Array], rng: np.random.Generator, h: float, eps: float,
                *, masks: Masks | None, label_smoothing: float) -> GradientCheck:
    """Compare the gradients at the network's present parameters."""
    spec = network.spec
    gradients = _analytic(network, batch, masks, label_smoothing)
    population_error = _population_error(network, gradients, batch, rng, eps, masks, label_smoothing)
    directions = _directions(spec, rng)
    numeric = Cost(network, directions, *batch, masks=masks, label_smoothing=label_smoothing).slopes(h, eps)
    tensors = []
    for tensor in sorted(spec.tensors(), key=lambda tensor: tensor.layer):
        analytic = gradients[tensor.name][0].copy()
        if tensor.name in directions:
            analytic = directions[tensor.name] @ analytic.ravel()               # (DIRECTIONS,)
        tensors.append(TensorCheck(tensor.layer + 1, tensor.name, analytic,
                                   numeric[tensor.name].reshape(analytic.shape), eps))
    return GradientCheck(spec, len(batch[0]), float(network.l2[0]), tuple(tensors), population_error,
                         0.0 if masks is None else masks.rate, label_smoothing)


def _batch(spec: NetworkSpec, n: int, x: npt.ArrayLike | None, labels: npt.ArrayLike | None,
           rng: np.random.Generator) -> tuple[Array, Array]:
    if x is not None:
        n = len(np.asarray(x))
    examples = rng.standard_normal((n, spec.n_inputs)) if x is None else np.asarray(x, np.float64)
    classes = rng.integers(spec.n_classes, size=n) if labels is None else np.asarray(labels)
    if examples.shape != (n, spec.n_inputs):
        raise DataError(f"the examples have shape {examples.shape}, but the network wants (n, {spec.n_inputs})")
    whole = classes.shape == (n,) and classes.dtype.kind in "iu"
    if not whole or not np.isin(classes, np.arange(spec.n_classes)).all():
        raise DataError(f"the labels must be {n} whole numbers from 0 to {spec.n_classes - 1}")
    if n < 1 + spec.normalized(0):
        raise ConfigError(f"n = {n} examples are too few: batch norm needs at least 2, a mean at least 1")
    return examples, classes


def _directions(spec: NetworkSpec, rng: np.random.Generator) -> dict[str, Array]:
    """Random directions of length 1 for the large tensors of a large network: {name: (DIRECTIONS, size)}."""
    if spec.n_parameters <= ELEMENTWISE:
        return {}
    directions = {}
    for tensor in spec.tensors():
        if tensor.size > DIRECTIONS:
            drawn = rng.standard_normal((DIRECTIONS, tensor.size))
            directions[tensor.name] = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return directions


def _analytic(network: Network, batch: tuple[Array, Array, Array], masks: Masks | None,
              label_smoothing: float) -> dict[str, Array]:
    """The gradients of the cost by back-propagation, as the optimizers see them: {name: (M, ...)}."""
    network.loss_and_gradient(*batch, np.empty(network.members), masks=masks, label_smoothing=label_smoothing)
    for block in network.layout.blocks:
        penalty = block.penalty(network.l2)
        if penalty is not None:
            block.view(network.gradients)[...] += penalty * block.view(network.parameters)
    return network.layout.member_views(network.gradients)


def _population_error(network: Network, gradients: dict[str, Array], batch: tuple[Array, Array, Array],
                      rng: np.random.Generator, eps: float, masks: Masks | None, label_smoothing: float) -> float:
    """Put the network between two others; how far do its gradients move?"""
    population = Network(network.spec, network.backend, members=3, dtype="float64",
                         l2=[0.3, float(network.l2[0]), 0.0])
    population.parameters[...] = rng.normal(0.0, 0.5, population.layout.size)
    for name, view in population.views().items():
        view[1] = network.views()[name][0]
    if masks is not None:
        masks = masks._replace(keys=masks.keys + np.array([7, 0, 5], np.uint32))         # the others drop other units
    errors = []
    for name, together in _analytic(population, batch, masks, label_smoothing).items():
        size = np.abs(together[1]) + np.abs(gradients[name][0])
        errors.append(np.max(np.abs(together[1] - gradients[name][0]) / np.maximum(eps, size)))
    worst = float(np.max(errors))
    return worst if np.isfinite(worst) else float("inf")
