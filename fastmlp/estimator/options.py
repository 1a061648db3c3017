"""What `MLPClassifier`'s parameters may be, and what they mean in this package's own terms."""

from __future__ import annotations

import math
import numbers
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp import schedules
from fastmlp.errors import ConfigError, DataError
from fastmlp.initializers import INITIALIZERS
from fastmlp.kernels.activations import ACTIVATIONS
from fastmlp.layout import NetworkSpec
from fastmlp.optimizers import SGD, Adam, Optimizer

PLANNED = ("cyclical", "one-cycle", "cosine")   # learning rates that are planned to the last epoch
SMALLEST_ADAPTIVE_RATE = 1e-6                   # "adaptive" stops rather than divide a rate that is not above it
STEP_DROP = 0.1                                 # factor of learning_rate="step"
EPOCHS_PER_STEP_SIZE = {"cyclical": 5, "step": 10}

_CHOICES: dict[str, tuple[str, ...]] = {
    "activation": tuple(ACTIVATIONS),
    "solver": ("adam", "sgd", "adamw"),
    "learning_rate": ("constant", "invscaling", "adaptive", *PLANNED, "step"),
    "loss": ("cross-entropy", "hinge"),
    "init": INITIALIZERS,
    "standardize": ("none", "feature", "scale"),
    "dtype": ("auto", "float32", "float64"),
    "device": ("cpu", "auto", "gpu"),
}
_COUNTS: dict[str, tuple[Any, ...]] = {         # at least 1, or one of these
    "max_iter": (), "n_iter_no_change": (math.inf,), "batch_size": ("auto",), "step_size": (None,),
    "n_members": (),
}
_BOOLEANS = ("shuffle", "warm_start", "nesterovs_momentum", "early_stopping", "batch_norm")


def _at_least_0(value: float) -> bool:
    return value >= 0


def _above_0(value: float) -> bool:
    return value > 0


def _below_1(value: float) -> bool:
    return 0 <= value < 1


_NUMBERS: dict[str, tuple[Callable[[float], bool], str]] = {
    "alpha": (_at_least_0, "at least 0"),
    "learning_rate_init": (_above_0, "above 0"),
    "lr_min": (_at_least_0, "at least 0"),
    "lr_max": (_above_0, "above 0"),
    "power_t": (_at_least_0, "at least 0"),
    "tol": (_at_least_0, "at least 0"),
    "init_std": (_at_least_0, "at least 0"),
    "epsilon": (_above_0, "above 0"),
    "momentum": (lambda value: 0 <= value <= 1, "from 0 to 1"),
    "validation_fraction": (_below_1, "at least 0 and below 1"),
    "beta_1": (_below_1, "at least 0 and below 1"),
    "beta_2": (_below_1, "at least 0 and below 1"),
    "bn_decay": (_below_1, "at least 0 and below 1"),
}


def check_parameters(p: Any) -> None:
    """Refuse parameter values that mean nothing; `p` is the estimator.

    Raises
    ------
    ConfigError
        Names the parameter, its value, and what it may be.
    """
    for name, choices in _CHOICES.items():
        if not isinstance(value := getattr(p, name), str) or value not in choices:
            raise ConfigError(f"{name} = {value!r} is not offered: choose one of {', '.join(map(repr, choices))}")
    for name in _BOOLEANS:
        if not isinstance(value := getattr(p, name), bool | np.bool_):
            raise ConfigError(f"{name} = {value!r} must be True or False")
    for name, (allowed, words) in _NUMBERS.items():
        value = getattr(p, name)
        if not _is_number(value, numbers.Real) or not _is_finite(value) or not allowed(value):
            raise ConfigError(f"{name} = {value!r} must be a number {words}")
    for name, alternatives in _COUNTS.items():
        value = getattr(p, name)
        other = (value is None or isinstance(value, str | float)) and value in alternatives
        if not other and not (_is_number(value, numbers.Integral) and value >= 1):
            words = " or ".join(["a whole number of at least 1", *map(repr, alternatives)])
            raise ConfigError(f"{name} = {value!r} must be {words}")
    if not _is_number(p.verbose, numbers.Integral) and not isinstance(p.verbose, bool | np.bool_):
        raise ConfigError(f"verbose = {p.verbose!r} must be True or False")
    if p.lr_min > p.lr_max:
        raise ConfigError(f"lr_min = {p.lr_min!r} is above lr_max = {p.lr_max!r}: exchange them")
    hidden_layers(p.hidden_layer_sizes)


def _is_number(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool | np.bool_)


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:       # a whole number beyond what floats hold
        return False


def hidden_layers(sizes: Any) -> tuple[int, ...]:
    """`hidden_layer_sizes`, a width or several, as a tuple.

    Examples
    --------
    >>> hidden_layers(50), hidden_layers([50, 20]), hidden_layers(())
    ((50,), (50, 20), ())
    """
    widths = [sizes] if not hasattr(sizes, "__iter__") or isinstance(sizes, str) else list(sizes)
    if not all(_is_number(width, numbers.Integral) and width >= 1 for width in widths):
        raise ConfigError(f"hidden_layer_sizes = {sizes!r} must be whole numbers > 0, one for each hidden layer")
    return tuple(int(width) for width in widths)


def network_spec(p: Any, n_features: int, n_classes: int) -> NetworkSpec:
    """The network that the parameters describe."""
    return NetworkSpec(n_features, hidden_layers(p.hidden_layer_sizes), n_classes, bool(p.batch_norm), p.activation,
                       p.loss)


def network_dtype(dtype: str, data: np.dtype[Any]) -> str:
    """The precision to compute in: that of the data for "auto", where anything but float32 counts as float64."""
    if dtype == "auto":
        return "float32" if data == np.float32 else "float64"
    return dtype


def l2_of_alpha(alpha: float, batch_size: int, sample_weight: npt.NDArray[np.float64] | None) -> float:
    """The factor of our penalty, cost = loss + l2 ||W||^2, that does what scikit-learn's `alpha` does.

    scikit-learn minimises, batch by batch, the mean loss + alpha / (2 S) ||W||^2, where S is the batch's number of
    examples, or the sum of its sample weights. So l2 = alpha / (2 S), with the S of a full batch of average weights:
    where scikit-learn's S fluctuates (an epoch's last, smaller batch; unequal weights), ours stays the same.

    Examples
    --------
    >>> l2_of_alpha(0.5, 25, None), l2_of_alpha(0.5, 25, np.array([2.0, 6.0]))
    (0.01, 0.0025)
    """
    mean_weight = 1.0 if sample_weight is None else float(sample_weight.mean())
    return float(alpha) / (2.0 * batch_size * mean_weight)


def choose_batch_size(p: Any, n: int) -> int:
    """Examples a step: at most all, and under batch norm never so that a batch of one example remains.

    Raises
    ------
    DataError
        A single example for batch norm, which needs two for a variance.
    """
    size = min(200, n) if p.batch_size == "auto" else int(p.batch_size)
    if size > n:
        warnings.warn(f"batch_size = {size} is larger than the sample size and is clipped to the {n} examples",
                      UserWarning, stacklevel=5)
        size = n
    if not p.batch_norm or not hidden_layers(p.hidden_layer_sizes):
        return size
    if n < 2:
        raise DataError("there is only 1 sample (n_samples = 1) to train on, and batch norm needs at least two")
    if size > 1 and n % size != 1:
        return size
    better = next(other for other in range(max(2, size - 1), n + 1) if n % other != 1)
    if p.batch_size != "auto":
        warnings.warn(f"batch_size = {size} would leave a batch of one of the {n} examples, and batch norm needs at "
                      f"least two: batches of {better} are used", UserWarning, stacklevel=5)
    return better


def make_optimizer(p: Any) -> Optimizer:
    """A new optimizer; "adam" has its penalty in the gradient, "adamw" beside it."""
    if p.solver == "sgd":
        return SGD(momentum=float(p.momentum), nesterov=bool(p.nesterovs_momentum))
    return Adam(float(p.beta_1), float(p.beta_2), float(p.epsilon), decoupled=p.solver == "adamw")


def rate_rule(p: Any) -> str:
    """`learning_rate`, as far as it acts: as in scikit-learn "adam" knows neither "invscaling" nor "adaptive"."""
    return "constant" if p.solver == "adam" and p.learning_rate in ("invscaling", "adaptive") else str(p.learning_rate)


def make_schedule(p: Any, steps_per_epoch: int, done: int) -> schedules.Schedule:
    """The learning rate by update step; what "invscaling" and "adaptive" do to it stands in `Trainer.rate_factor`.

    Steps count from the present call's beginning; `done` of the schedule were made before it.
    """
    step_size = p.step_size or EPOCHS_PER_STEP_SIZE.get(p.learning_rate, 1) * steps_per_epoch
    bounds, total = {"lr_min": p.lr_min, "lr_max": p.lr_max}, p.max_iter * steps_per_epoch
    shapes: dict[str, schedules.Schedule] = {
        "cyclical": partial(schedules.cyclical, step_size=step_size, **bounds),
        "one-cycle": partial(schedules.one_cycle, total_steps=total, **bounds),
        "cosine": partial(schedules.cosine, total_steps=total, **bounds),
        "step": partial(schedules.step_decay, lr=p.learning_rate_init, drop=STEP_DROP, every=step_size),
    }
    shape = shapes.get(p.learning_rate, partial(schedules.constant, lr=p.learning_rate_init))
    return lambda step: shape(np.asarray(step) + done)
