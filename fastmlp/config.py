"""Every option of a training: default, unit, range and help. The command line and TOML files are made from these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fastmlp.backend import KERNELS
from fastmlp.checks import check_suits
from fastmlp.errors import ConfigError
from fastmlp.examples import KEEP
from fastmlp.initializers import INITIALIZERS
from fastmlp.intervals import Interval, parse_interval
from fastmlp.kernels import PRECISIONS
from fastmlp.kernels.activations import ACTIVATIONS
from fastmlp.layout import LOSSES
from fastmlp.option_values import count_or_fraction, folder, memory_size, number_ranges
from fastmlp.options import check, flag, option
from fastmlp.sweeps import MOST_MEMBERS, NOTATION, SWEEPABLE, Member, Sweep, combinations, make_members, parse_sweep

SCHEDULES = ("cyclical", "constant", "step", "one-cycle", "cosine")
DEFAULT_EPOCHS = 20
DATA, NETWORK, TRAINING, POPULATION, RESULTS = "data", "network", "training", "population", "results"
ORDERS = ("shared", "own")
LARGEST = 1e30          # of rates and penalties: float32 holds it
WIDEST = 10_000_000     # of a layer: beyond every memory
SMALLEST_MEMORY = 1_000_000     # for data: with less there is hardly a batch to shuffle
#: Options that only some schedules read; elsewhere another value than the default would be ignored, so it is refused.
READ_BY = {
    "lr": ("constant", "step"), "lr_drop": ("step",), "lr_drop_every": ("step",),
    "lr_min": ("cyclical", "one-cycle", "cosine"), "lr_max": ("cyclical", "one-cycle", "cosine"),
    "step_size": ("cyclical",), "cycles": ("cyclical",), "snapshots": ("cyclical",),
    "epochs": ("constant", "step", "one-cycle", "cosine"),
}


@dataclass(frozen=True)
class TrainOptions:
    """Options of `fastmlp train`; `fastmlp train --help` shows them with their meaning.

    Examples
    --------
    >>> TrainOptions(hidden=(50, 50), l2=-1.0)
    Traceback (most recent call last):
    fastmlp.errors.ConfigError: --l2 -1.0: must be at least 0
    """

    data: str = option("digits", "digits, cifar10, or a file: .npz (arrays X, y), .npy (X alone), .csv or .parquet",
                       group=DATA, metavar="DATA")
    data_dir: Path | None = option(
        None, "where CIFAR-10 lies or is downloaded to: a folder with cifar-10-batches-bin/, cifar-10-batches-py/ or "
        "an official archive (default: $FASTMLP_DATA, else a per-user cache folder)", folder, group=DATA, metavar="DIR")
    target: str | None = option(None, "the column of a .csv or .parquet file that holds the labels; for an .npy file "
                                "the .npy file of the labels", group=DATA, metavar="COLUMN")
    data_memory: int | None = option(
        None, "memory that an .npy or .parquet file may take, such as 500MB; a larger one stays on disk, and its "
        "rows are read as they are needed (default: half of what is free)", memory_size, group=DATA, metavar="SIZE",
        low=SMALLEST_MEMORY)
    train_batches: tuple[int, ...] = option((1, 2, 3, 4, 5), "CIFAR-10 batches to train on, such as 1-5", number_ranges,
                                            group=DATA, many=True, metavar="N", low=1, high=5)
    validation_batches: tuple[int, ...] = option((), "CIFAR-10 batches to validate on, in place of --validation",
                                                 number_ranges, group=DATA, many=True, metavar="N", low=1, high=5)
    validation: int | float | None = option(
        None, "examples held out of training, drawn by class: a number or a fraction; 0 for none (default: 5000 of "
        "CIFAR-10, 0.1 elsewhere)", count_or_fraction, group=DATA, metavar="N", low=0)
    test: int | float | None = option(
        None, "examples held out as the test set where the data bring none, the same ones for every seed "
        "(default: 0.2)", count_or_fraction, group=DATA, metavar="N", above=0)
    standardize: str = option(
        "feature", "feature: training mean and deviation of each input; scale: divide by 255; none", group=DATA,
        choices=("feature", "scale", "none"))

    hidden: tuple[int, ...] = option((400, 200), "widths of the hidden layers; none for the softmax classifier", int,
                                     group=NETWORK, many=True, metavar="WIDTH", low=1, high=WIDEST)
    batch_norm: bool = option(True, "batch norm in every hidden layer", bool, group=NETWORK)
    bn_decay: float = option(0.9, "fraction of batch norm's running statistics kept each step", float, group=NETWORK,
                             low=0, below=1)
    activation: str = option("relu", "non-linearity of the hidden layers", group=NETWORK, choices=tuple(ACTIVATIONS))
    loss: str = option("cross-entropy", "what is minimised; hinge is the multi-class support vector loss",
                       group=NETWORK, choices=LOSSES)
    init: str = option("he", "initial weights: he sqrt(2/inputs), xavier 1/sqrt(inputs), normal --init-std",
                       group=NETWORK, choices=INITIALIZERS)
    init_std: float = option(0.01, "standard deviation for --init normal", float, group=NETWORK, low=0, high=LARGEST)

    l2: float = option(0.005, "cost = loss + l2 * sum of squared weights (weight decay is twice this)", float,
                       group=TRAINING, low=0, high=LARGEST)
    dropout: float = option(0.0, "fraction of each hidden layer's units that is dropped at random each step", float,
                            group=TRAINING, low=0, below=1)
    label_smoothing: float = option(0.0, "fraction of each target that is spread over all classes in training; for "
                                    "cross-entropy", float, group=TRAINING, low=0, below=1)
    batch_size: int = option(100, "examples a step", int, group=TRAINING, low=1)
    seed: int = option(0, "of weights, dropout, order and validation split", int, group=TRAINING, low=0)
    dtype: str = option("float32", "of parameters and computation", group=TRAINING, choices=("float32", "float64"))
    optimizer: str = option("sgd", "sgd, or adamw (whose rates are smaller: try --lr-max 0.003)", group=TRAINING,
                            choices=("sgd", "adamw"))
    momentum: float = option(0.0, "of sgd", float, group=TRAINING, low=0, below=1)
    schedule: str = option("cyclical", "how the learning rate changes from step to step", group=TRAINING,
                           choices=SCHEDULES)
    lr: float = option(0.01, "learning rate of the schedules constant and step", float, group=TRAINING, low=0,
                       high=LARGEST)
    lr_min: float = option(1e-5, "lowest rate of cyclical, one-cycle, cosine", float, group=TRAINING, low=0,
                           high=LARGEST)
    lr_max: float = option(1e-1, "highest rate of cyclical, one-cycle, cosine", float, group=TRAINING, low=0,
                           high=LARGEST)
    step_size: int | None = option(None, "steps from lowest to highest rate of a cycle (default: 5 * floor(n / batch))",
                                   int, group=TRAINING, low=1)
    cycles: int = option(2, "cycles of 2 * step size steps to train for", int, group=TRAINING, low=1)
    snapshots: bool = option(
        False, "keep the network at the end of every cycle: the model is their ensemble, whose accuracies are measured "
        "beside those of the last one", bool, group=TRAINING)
    lr_drop: float = option(0.1, "factor by which the schedule step lowers the rate", float, group=TRAINING, above=0,
                            high=1)
    lr_drop_every: int = option(10, "epochs between the drops of the schedule step", int, group=TRAINING, low=1)
    epochs: int | None = option(
        None, f"epochs to train for, for schedules without cycles (default: {DEFAULT_EPOCHS})", int, group=TRAINING,
        low=1)
    mirror: bool = option(False, "mirror each training image left-right with probability 1/2 whenever it is seen", bool,
                          group=TRAINING)
    shift: int = option(0, "move each training image by up to so many pixels up or down and left or right whenever it "
                        "is seen; its edges are repeated", int, group=TRAINING, low=0)
    precise_bn: bool = option(False, "after the last step measure batch norm's statistics anew, over the whole "
                              "training set, in place of their moving averages", bool, group=TRAINING)
    evaluate_every: int = option(1, "epochs between evaluations on training and validation set", int, group=TRAINING,
                                 low=1)
    device: str = option("auto", "where to compute; auto takes a GPU where one can be used", group=TRAINING,
                         choices=("auto", "cpu", "gpu"))
    kernels: str = option("auto", "who makes the CPU's operations: C compiled for this processor when first used, or "
                          "NumPy; auto takes NumPy where there is no C compiler", group=TRAINING, choices=KERNELS)
    threads: int | None = option(None, "threads of the CPU's operations (default: what is fastest, found out while "
                                 "training; of NumPy's kernels what its BLAS finds)", int, group=TRAINING, low=1,
                                 high=1024)
    precision: str = option("float32", "of large float32 products on a GPU; tf32 rounds their factors to 10 bits for "
                            "its tensor cores", group=TRAINING, choices=PRECISIONS)
    keep_data: str = option("auto", "where a GPU finds the data: auto leaves on the host what takes more than half of "
                            "its free memory, and streams it", group=TRAINING, choices=KEEP)

    members: int = option(
        1, "networks to train, all at once: the seeds of their weights and dropout are --seed, --seed + 1, ...; "
        "order and validation split are those of --seed", int, group=POPULATION, low=1, high=MOST_MEMBERS)
    sweep: tuple[Sweep, ...] = option(
        (), f"train with several values of an option, again for more options: {NOTATION}; as l2=1e-5..1e-1:5 or "
        f"init=he,xavier. Each combination is trained with all seeds, and the one with the best mean validation "
        f"accuracy is chosen and tested. Options: {', '.join(SWEEPABLE)}", parse_sweep, group=POPULATION, many=True,
        again=True, metavar="NAME=VALUES")
    folds: int | None = option(
        None, "cross-validation: divide what is not test data into so many folds, and train each combination with each "
        "seed once without each fold, which then validates it", int, group=POPULATION, low=2, metavar="K")
    order: str = option("shared", "shared: all members see the same batches, which is fast; own: each has the order of "
                        "its own seed, as if trained alone", group=POPULATION, choices=ORDERS)

    out: Path | None = option(None, "folder for the results; a finished run is never overwritten (default: "
                              "runs/<date-time>)", folder, group=RESULTS, metavar="DIR")
    checkpoint_every: Interval = option(
        Interval(seconds=300.0), "how often a checkpoint is saved, from which fastmlp train --resume goes on: every so "
        "many epochs, or a time such as 30s, 5min or 2h", parse_interval, group=RESULTS, metavar="N")
    quiet: bool = option(False, "print nothing but errors", bool, group=RESULTS)

    def __post_init__(self) -> None:
        check(self)
        for name, schedules in READ_BY.items():
            value = getattr(self, name)
            if self.schedule not in schedules and value != type(self).__dataclass_fields__[name].default:
                raise ConfigError(f"{flag(name)} {value} has no meaning for --schedule {self.schedule}, only for "
                                  f"{', '.join(schedules)}: leave it out, or choose one of these")
        check_suits(self.hidden, self.loss, self.dropout, self.label_smoothing, flag)
        if self.target is not None and self.data in ("digits", "cifar10"):
            raise ConfigError(f"--target {self.target} belongs to .npy, .csv and .parquet files, not to {self.data}: "
                              f"leave it out")
        if self.lr_min > self.lr_max:
            raise ConfigError(f"--lr-min {self.lr_min} is above --lr-max {self.lr_max}: exchange them")
        if self.precision != "float32" and self.dtype != "float32":
            raise ConfigError(f"--precision {self.precision} is for --dtype float32, not {self.dtype}: leave it out")
        if self.momentum and self.optimizer != "sgd":
            raise ConfigError(f"--momentum {self.momentum} belongs to --optimizer sgd, not {self.optimizer}: "
                              f"leave it out")
        if self.snapshots and self.cycles < 2:
            raise ConfigError(f"--snapshots keeps the networks of several cycles, and --cycles {self.cycles} has one: "
                              f"ask for more cycles, or leave it out")
        if self.precise_bn and not (self.batch_norm and self.hidden):
            raise ConfigError("--precise-bn measures the statistics of batch norm, and there is none: leave it out, or "
                              "ask for --batch-norm and a hidden layer")
        self._check_population()

    def _check_population(self) -> None:
        """Refuse what contradicts itself about members, whose own options are checked as they are made."""
        for sweep in self.sweep:
            value, default = getattr(self, sweep.name), type(self).__dataclass_fields__[sweep.name].default
            if value != default:
                raise ConfigError(f"{flag(sweep.name)} {value} and --sweep {sweep} are both there: leave one out")
            inits = next((other.values for other in self.sweep if other.name == "init"), (self.init,))
            if sweep.name == "init_std" and set(inits) != {"normal"}:
                raise ConfigError(f"--sweep {sweep} has no meaning for --init {' and '.join(inits)}, only for normal: "
                                  f"leave one of them out")
        if self.folds is not None and (self.validation or self.validation_batches):
            raise ConfigError(f"--folds {self.folds} validates on folds, so a validation part of its own would not be "
                              f"used: leave --validation and --validation-batches out")
        if not self.is_population:
            if self.order != "shared":
                raise ConfigError(f"--order {self.order} is for several networks: leave it out, or ask for --members")
            return
        members, settings = self.population()
        if len(settings) > 1 and self.folds is None and self.validation == 0 and not self.validation_batches:
            raise ConfigError(f"--sweep has {len(settings)} settings, and without a validation part none is chosen: "
                              f"ask for --validation or --folds")
        if len(members) == 1:
            raise ConfigError("--sweep of a single value is no sweep: give several, or the option itself")

    @property
    def is_population(self) -> bool:
        """Whether these options ask for several networks."""
        return self.members > 1 or bool(self.sweep) or self.folds is not None

    def population(self) -> tuple[list[Member], list[dict[str, Any]]]:
        """The members that the options ask for, and the combinations of swept values that they are trained with."""
        lone, settings = replace(self, members=1, sweep=(), folds=None, order="shared"), combinations(self.sweep)
        return make_members(lone, settings, self.members, self.folds), settings

    def resolved(self, n_train: int) -> TrainOptions:
        """The same with what depends on the number of training examples filled in."""
        step_size = self.step_size or max(1, 5 * (n_train // self.batch_size))
        if self.schedule == "cyclical":
            return replace(self, step_size=step_size)
        return replace(self, epochs=self.epochs or DEFAULT_EPOCHS)

    def snapshot_steps(self, n_train: int) -> Sequence[int]:
        """Steps after which snapshots are kept: the ends of all cycles but the last, whose is the trained network."""
        step_size = self.resolved(n_train).step_size
        if not self.snapshots or step_size is None:
            return ()
        return range(2 * step_size, 2 * step_size * self.cycles, 2 * step_size)

    def total_steps(self, n_train: int) -> int:
        """Updates of the whole training."""
        options = self.resolved(n_train)
        if options.step_size is not None and options.schedule == "cyclical":
            return 2 * options.step_size * options.cycles
        return (options.epochs or DEFAULT_EPOCHS) * -(-n_train // self.batch_size)
