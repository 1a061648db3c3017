"""What `MLPClassifier` trains on: rows, class numbers and weights, checked and split."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.utils import check_random_state
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from fastmlp.backend import host_array
from fastmlp.data.split import stratified_split
from fastmlp.errors import ConfigError, DataError
from fastmlp.examples import Examples
from fastmlp.seeds import Stream, generator

Labels = npt.NDArray[Any]

INPUT_TYPES = [np.float64, np.float32, np.uint8]      # kept as they are; anything else becomes the first


@dataclass
class Data:
    """Examples (n, D) with their class numbers (n,) and weights (n,), None where all weigh 1."""

    x: npt.NDArray[Any]
    codes: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float64] | None = None

    def part(self, rows: npt.NDArray[Any]) -> Data:
        """Some of the rows."""
        return Data(self.x[rows], self.codes[rows], None if self.weights is None else self.weights[rows])

    def on(self, learner: Any) -> Examples:
        """The examples where the learner computes; equal weights are left out, as they change no mean."""
        network, weights = learner.network, self.weights
        if weights is not None and np.all(weights == weights[0]):
            weights = None
        return Examples(self.x, self.codes, network.spec.n_classes, learner.standardizer, network.backend,
                        network.dtype.name, weights)


def validated(p: Any, *arrays: Any, reset: bool) -> Any:
    """X (n, D), or X and y, by scikit-learn's rules, on the host; `p` is the estimator."""
    try:
        with np.errstate(all="ignore"):         # it adds up X to see whether that is finite
            return validate_data(p, *map(host_array, arrays), dtype=INPUT_TYPES, reset=reset)
    except OverflowError as error:
        raise DataError("X holds a whole number that is too large for a float") from error


def checked(p: Any, X: Any, y: Any, *, reset: bool) -> tuple[npt.NDArray[Any], Labels]:
    """X (n, D) and y (n,), whose values name classes; the parameters are those of `validated`."""
    X, y = validated(p, X, y, reset=reset)
    try:
        with np.errstate(invalid="ignore"):     # it casts to integers what may be too large, and compares
            check_classification_targets(y)
    except TypeError as error:
        raise DataError(f"the labels are of a kind that names no class ({error}): use numbers or text") from error
    return X, y


def distinct(labels: Labels, what: str = "the labels") -> Labels:
    """The classes (C,) among labels (n,), sorted.

    Raises
    ------
    DataError
        For kinds that cannot be sorted together, NaN and infinities.
    """
    try:
        classes = np.unique(labels)
    except TypeError as error:
        raise DataError(f"{what} mix kinds that cannot be sorted ({error}): use numbers or text") from error
    if classes.dtype.kind == "f" and not np.isfinite(classes).all():
        raise DataError(f"{what} hold {classes[~np.isfinite(classes)][0]}, which names no class: use finite numbers or "
                        f"text")
    return classes


def make_data(class_weight: Any, X: npt.NDArray[Any], y: Labels, classes: Labels, sample_weight: Any = None) -> Data:
    """The rows of positive weight, their labels as positions in `classes`.

    "balanced" counts the rows of positive weight only, and classes that have none do not matter.

    Raises
    ------
    DataError
        For labels that are not among the classes, or weights that are none.
    """
    try:
        codes = np.minimum(np.searchsorted(classes, y), len(classes) - 1)
    except TypeError:       # numbers and text, in Python objects
        codes = np.zeros(len(y), np.int64)
    if (strange := classes[codes] != y).any():
        raise DataError(f"the label {y[strange].tolist()[0]!r} is not among the classes that were learned: "
                        f"{', '.join(map(repr, classes.tolist()))}")
    weights = example_weights(host_array(sample_weight), len(y))
    if class_weight is not None:
        present = np.unique(codes if weights is None else codes[weights > 0])
        of_present = np.isin(codes, present)
        by_class = np.zeros(len(classes))                               # (C,)
        try:
            with np.errstate(all="ignore"):         # what is not finite is refused below
                by_class[present] = compute_class_weight(
                    class_weight, classes=classes[present], y=y[of_present],
                    sample_weight=None if weights is None else weights[of_present])
                weights = by_class[codes] * (1.0 if weights is None else weights)
        except TypeError as error:
            raise ConfigError(f"class_weight = {class_weight!r} does not suit the labels ({error})") from error
        weights = example_weights(weights, len(y))
    data = Data(X, codes, weights)
    return data if weights is None or weights.all() else data.part(np.flatnonzero(weights))


def example_weights(sample_weight: Any, n: int) -> npt.NDArray[np.float64] | None:
    """Sample weights as a checked array (n,).

    Raises
    ------
    DataError
        For another shape, weights that are negative or not finite, or only zeros.
    """
    if sample_weight is None:
        return None
    try:
        weights = np.asarray(sample_weight)
        if weights.dtype.kind == "c":
            raise TypeError("complex numbers")
        weights = weights.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"sample_weight must be one number for each row of X ({error})") from error
    if weights.ndim == 0:
        weights = np.full(n, weights)
    if weights.shape != (n,):
        raise DataError(f"sample_weight has the shape {weights.shape}; it must be ({n},), one weight for each row of X")
    allowed = np.isfinite(weights) & (weights >= 0)
    if not allowed.all():
        row = int(np.argmin(allowed))
        raise DataError(f"sample_weight is {weights[row]} in row {row}; weights must be finite and not negative")
    with np.errstate(over="ignore"):
        if not np.isfinite(weights.sum()):
            raise DataError(f"sample_weight is up to {weights.max():.3g}, and the sum is infinite: divide all of it")
    if not weights.any():
        raise DataError("every sample weight is zero: at least one must be above zero")
    return weights


def hold_out(data: Data, fraction: float, seed: int) -> tuple[Data, Data]:
    """Training and validation part, the classes in proportion; as many rows as scikit-learn would hold out.

    Raises
    ------
    ConfigError, DataError
        For a fraction of 0, or one that leaves a class without training examples.
    """
    if fraction == 0:
        raise ConfigError("validation_fraction = 0 leaves early_stopping nothing to watch: choose one above 0, or pass "
                          "X_val and y_val to fit")
    kept, drawn = stratified_split(data.codes, math.ceil(len(data.codes) * fraction), generator(seed, Stream.SPLIT))
    return data.part(kept), data.part(drawn)


def draw_seed(random_state: Any) -> int:
    """An integer is its own seed, as for `fastmlp train`; a generator draws one.

    Raises
    ------
    ConfigError
        It is neither.
    """
    try:
        generator = check_random_state(random_state)
    except ValueError as error:
        raise ConfigError(f"random_state = {random_state!r:.100} is no seed: {error}") from error
    return int(random_state) if isinstance(random_state, int | np.integer) else int(generator.randint(2**31 - 1))


def member_seeds(seed: int, n: int) -> list[int]:
    """The seeds of the members' weights: the seed itself, then others that no other seed's members have."""
    return [seed, *generator(seed, Stream.MEMBERS).integers(2**62, size=n - 1).tolist()]
