"""A learning-rate range test (Smith 2015, section 3.3): between which rates does training improve?

Networks of several seeds are trained at once while the rate rises over many powers of ten. Where the loss begins to
fall is the lowest rate that is worth its steps; where it ceases to fall is the highest that can be borne.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp import schedules
from fastmlp.backend import Backend
from fastmlp.building import make_backend, make_examples, make_spec, make_trainer
from fastmlp.checks import check_batches
from fastmlp.command_options import RANGE_TEST_READS, LrRangeOptions
from fastmlp.config import TrainOptions
from fastmlp.data import Dataset
from fastmlp.data.arrays import from_arrays
from fastmlp.errors import ConfigError, DivergenceError
from fastmlp.evaluation import evaluate
from fastmlp.groups import fit_standardizer
from fastmlp.options import from_python, rules
from fastmlp.population import OWN_OPTIONS
from fastmlp.progress import Progress, make_progress
from fastmlp.sweeps import make_members
from fastmlp.trainer import SILENCE, Trainer

BEGUN = 0.1         # of its whole descent: so much lower, the loss has begun to improve
RISEN = 0.02        # ... and so much above its lowest point it has ceased to
NOISE = 2.0         # a descent of fewer deviations of single steps is none ...
FEWEST = 5          # ... and so few steps show none
HALF_WINDOW = 50    # steps over the half width of the moving average

Numbers = npt.NDArray[np.float64]


@dataclass
class LrRange:
    """What a range test measured, and the bounds that follow.

    Attributes
    ----------
    lr_min, lr_max : float
        The suggested bounds, of two digits; NaN where there are none. See `suggest`.
    notes : list of str
        What there is to say about them.
    rates : ndarray (n,)
        Learning rate of each step that was made.
    losses : ndarray (n, M)
        Batch loss of each step and member; NaN from where a member diverged.
    measured_at : ndarray (P,)
        Steps after which the validation accuracy was measured; the first is 0.
    accuracies : ndarray (P, M)
        Validation accuracy; NaN where there is no validation part, or a member had diverged.
    diverged_at : dict
        The rates at which members diverged, by member.
    complete : bool
        Whether the test went on to its last rate, or until every member had diverged.
    """

    lr_min: float = math.nan
    lr_max: float = math.nan
    notes: list[str] = field(default_factory=list)
    rates: Numbers = field(default_factory=lambda: np.empty(0))
    losses: Numbers = field(default_factory=lambda: np.empty((0, 0)))
    measured_at: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    accuracies: Numbers = field(default_factory=lambda: np.empty((0, 0)))
    diverged_at: dict[int, float] = field(default_factory=dict)
    complete: bool = True

    @property
    def loss(self) -> Numbers:
        """The median over the members of each step's losses, (n,): one that is about to diverge does not count."""
        return middle(self.losses)

    @property
    def smoothed_loss(self) -> Numbers:
        """The mean of `loss` over the steps around, a 25th of all, (n,); NaN once half of the members diverged."""
        loss, smoothed = self.loss, np.full(len(self.loss), np.nan)
        n = int(np.isfinite(loss).sum())                # what has diverged stays so
        smoothed[:n] = moving_average(loss[:n], max(2, len(loss) // HALF_WINDOW))
        return smoothed


def moving_average(values: npt.ArrayLike, half: int) -> Numbers:
    """Each value's mean with the `half` before and after it, or with as many as there are: it lags behind nothing.

    Examples
    --------
    >>> moving_average([0.0, 3.0, 6.0, 0.0], half=1).tolist()
    [1.5, 3.0, 3.0, 3.0]
    """
    given, window = np.asarray(values, np.float64), np.ones(2 * half + 1)
    n = len(given)
    if not n:
        return given
    sums, counts = (np.convolve(numbers, window)[half:half + n] for numbers in (given, np.ones(n)))
    return np.asarray(sums / counts)


def middle(values: Numbers) -> Numbers:
    """Medians over the last axis; NaN counts as infinite, for that is what diverged.  (n, M)  ->  (n,)"""
    ranked = np.sort(np.where(np.isfinite(values), values, np.inf), axis=-1)
    m = values.shape[-1]
    return np.asarray((ranked[..., (m - 1) // 2] + ranked[..., m // 2]) / 2)


def _deviation(loss: Numbers) -> float:
    """The standard deviation of single steps around their trend, from the median difference of two that follow."""
    return float(np.median(np.abs(np.diff(loss)))) / (0.6745 * math.sqrt(2))        # as in a normal distribution


def suggest(found: LrRange) -> None:
    """Fill in the bounds and notes.

    With the smoothed loss s(t), its lowest point at step b, and its descent d = s(0) - s(b):
    lr_min is the rate after which s stays below s(0) - 0.1 d on its way to b: there the loss begins to improve;
    lr_max is the rate from which on, after b, s is above s(b) + 0.02 d: there it has ceased to. It is at most half the
    lowest rate at which a member diverged.

    Raises
    ------
    DivergenceError
        Every member diverged before the loss improved.
    ConfigError
        The loss did not improve.
    """
    smoothed, diverged = found.smoothed_loss, sorted(found.diverged_at.values())
    smoothed = smoothed[np.isfinite(smoothed)]
    n = len(smoothed)
    best = int(smoothed.argmin()) if n else 0
    descent = float(smoothed[0] - smoothed[best]) if n else 0.0
    if n < FEWEST or descent <= NOISE * _deviation(found.loss[:n]):
        if len(diverged) == found.losses.shape[1]:
            raise DivergenceError(f"every member diverged, the first at learning rate {diverged[0]:.3g}, before "
                                  f"the loss improved: lower --lr-min", step=len(found.loss), lr=diverged[0])
        raise ConfigError(f"the loss did not improve anywhere between the learning rates {found.rates[0]:.3g} and "
                          f"{found.rates[-1]:.3g}: raise --lr-max or --epochs, or look at the data and --l2")
    begun = int(np.flatnonzero(smoothed[:best + 1] >= smoothed[0] - BEGUN * descent)[-1])
    risen = np.flatnonzero(smoothed[best:] > smoothed[best] + RISEN * descent)
    ceased = best + int(risen[0]) - 1 if len(risen) else n - 1
    highest = min([float(found.rates[ceased]), *(rate / 2 for rate in diverged)])
    if not len(risen) and not diverged:
        found.notes.append(f"the loss had not risen at {found.rates[-1]:.3g}, the highest rate: a higher --lr-max of "
                           f"the test may find a higher bound")
    found.lr_min, found.lr_max = (float(f"{rate:.2g}") for rate in (min(found.rates[begun], highest), highest))


def measure_range(options: TrainOptions, own: LrRangeOptions, data: Dataset, backend: Backend, *,
                  watcher: Progress = SILENCE, should_stop: Callable[[], bool] | None = None) -> LrRange:
    """Train while the rate rises, and note losses and validation accuracies; without bounds yet, see `suggest`.

    Parameters
    ----------
    options : TrainOptions
        What is trained; see `config.RANGE_TEST_READS` for those that matter.
    own : LrRangeOptions
        How the rate rises, and how many networks there are.
    data : Dataset
        Its test part is not looked at.
    backend : Backend
        Where to train.
    watcher : Progress, optional
        Told about steps and measurements.
    should_stop : callable, optional
        Asked before every step.

    Returns
    -------
    LrRange
    """
    check_batches(len(data.y_train), options.batch_size, options.batch_norm and bool(options.hidden))
    total = own.total_steps(len(data.y_train), options.batch_size)
    unseen, standardizer = replace(data, y_test=data.y_test[:0]), fit_standardizer(options, data, folds=False)
    parts = make_examples(options, unseen, standardizer, backend)
    rise = {"geometric": schedules.geometric_rise, "linear": schedules.linear_rise}[own.spacing]
    schedule = partial(rise, lr_min=own.lr_min, lr_max=own.lr_max, total_steps=total)
    members = [member.options for member in make_members(options, [{}], own.members)]
    trainer = make_trainer(members, make_spec(options, data), parts, seed=options.seed, schedule=schedule)
    losses, measured, found = [np.empty((0, own.members))], [(0, _accuracies(trainer, parts))], LrRange()
    watcher.start(total, -(-total // trainer.steps_per_epoch), f"{data.name}, rates {own.lr_min:g} to {own.lr_max:g}")
    try:
        for end in np.unique(np.linspace(0, total, own.points + 1).astype(int))[1:]:
            while trainer.step < end and found.complete:
                report = trainer.run_epoch(int(end) - trainer.step, watcher, should_stop)
                losses.append(report.losses)
                found.complete = report.complete
            if not found.complete:
                break
            measured.append((trainer.step, _accuracies(trainer, parts)))
            watcher.epoch_done(_row(trainer, report.losses, measured[-1][1]))
    except DivergenceError as error:                    # of the last member
        found.diverged_at = dict.fromkeys(range(own.members), error.lr)
    except KeyboardInterrupt:
        found.complete = False
    finally:
        watcher.finish()
    found.diverged_at |= {k: one.lr for k, one in enumerate(trainer.frozen) if one is not None}
    found.losses = np.concatenate(losses).astype(np.float64)
    found.losses[np.logical_or.accumulate(~np.isfinite(found.losses), axis=0)] = np.nan
    found.rates = trainer.schedule(np.arange(len(found.losses)))
    found.measured_at = np.array([step for step, _ in measured])
    found.accuracies = np.stack([accuracies for _, accuracies in measured])
    return found


def _accuracies(trainer: Trainer, parts: Mapping[str, Any]) -> Numbers:
    """Validation accuracies of the members (M,); NaN of those that diverged."""
    if "val" not in parts:
        return np.full(trainer.network.members, np.nan)
    with np.errstate(all="ignore"):
        return np.where(trainer.is_frozen, np.nan, evaluate(trainer.network, parts["val"]).accuracy)


def _row(trainer: Trainer, losses: npt.NDArray[Any], accuracies: Numbers) -> dict[str, Any]:
    """What the watcher is told."""
    with np.errstate(all="ignore"):
        train_loss = losses.mean(axis=0)
    return {"step": trainer.step, "epoch": -(-trainer.step // trainer.steps_per_epoch), "train_loss": train_loss,
            "val_accuracy": accuracies, "lr": trainer.schedule(trainer.step - 1), "frozen": trainer.is_frozen}


def lr_range(data: Any, y: Any = None, *, X_val: Any = None, y_val: Any = None, verbose: bool = False,
             **options: Any) -> LrRange:
    """Find bounds of the learning rate by a range test.

    Parameters
    ----------
    data : Dataset or array (n, D)
        What `load_dataset` returns, or examples as rows.
    y : array (n,), optional
        Their labels, if `data` is an array.
    X_val, y_val : arrays, optional
        Validation part beside such an array. Bounds follow from the training loss; this one is only looked at.
    verbose : bool, default False
        Show progress on standard error.
    **options
        Those of `fastmlp lr-range`: `lr_min`, `lr_max`, `spacing`, `epochs`, `points`, `members`, and, as in
        `fit_population`, those of `fastmlp train` about network and training but for its schedule.

    Returns
    -------
    LrRange
        `lr_min` and `lr_max` are the bounds.

    Raises
    ------
    ConfigError, DataError
        Options or data cannot be used, or the loss did not improve at any rate.
    DivergenceError
        Every network diverged before its loss improved.

    Examples
    --------
    >>> from fastmlp import load_dataset
    >>> found = lr_range(load_dataset("digits"), hidden=(20,), epochs=20, device="cpu")
    >>> 1e-5 < found.lr_min < 0.1 < found.lr_max < 10
    True
    """
    names = list(rules(LrRangeOptions))
    allowed = [name for name in [*OWN_OPTIONS, "standardize"] if name in RANGE_TEST_READS]
    own = {name: options.pop(name) for name in names if options.get(name) is not None}
    base = TrainOptions(**from_python(TrainOptions, options, allowed))
    found = measure_range(base, LrRangeOptions(**from_python(LrRangeOptions, own, names)),
                          from_arrays(data, y, (X_val, y_val), (None, None)), make_backend(base),
                          watcher=make_progress("auto" if verbose else "quiet"))
    if found.complete:
        suggest(found)
    else:
        warnings.warn("Range test interrupted by user.", UserWarning, stacklevel=2)
    return found
