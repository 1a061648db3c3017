"""Options of the commands beside `fastmlp train`; as there, the command line is made from them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fastmlp.backend import KERNELS
from fastmlp.checks import check_suits
from fastmlp.config import DATA, LARGEST, NETWORK, POPULATION, READ_BY, RESULTS, TRAINING, WIDEST, TrainOptions
from fastmlp.errors import ConfigError
from fastmlp.initializers import INITIALIZERS
from fastmlp.kernels.activations import ACTIVATIONS
from fastmlp.layout import LOSSES
from fastmlp.option_values import folder
from fastmlp.options import check, flag, option, rules
from fastmlp.sweeps import MOST_MEMBERS

RANGE = "range test"
RANGE_TEST_STEPS = 1000
#: Options of `fastmlp train` that a range test takes too: all but those on how the rate goes, and on who is trained.
RANGE_TEST_READS = [name for name, rule in rules(TrainOptions).items()
                    if not (name in READ_BY or rule.group == POPULATION or name in ("schedule", "evaluate_every"))]


@dataclass(frozen=True)
class LrRangeOptions:
    """Options of `fastmlp lr-range` beside those of `fastmlp train` that it takes.

    Examples
    --------
    >>> LrRangeOptions(lr_min=0.0)
    Traceback (most recent call last):
    fastmlp.errors.ConfigError: --lr-min 0.0: rates that rise by equal factors begin above 0: raise it, or choose \
--spacing linear
    """

    lr_min: float = option(1e-5, "rate of the first step", float, group=RANGE, low=0, high=LARGEST)
    lr_max: float = option(10.0, "rate of the last step; the networks may diverge before", float, group=RANGE, above=0,
                           high=LARGEST)
    spacing: str = option("geometric", "geometric: from step to step the rate grows by the same factor, so that every "
                          "power of ten is looked at alike; linear: by the same number", group=RANGE,
                          choices=("geometric", "linear"))
    epochs: int | None = option(None, f"epochs over which it rises (default: as many as make {RANGE_TEST_STEPS} steps)",
                                int, group=RANGE, low=1)
    points: int = option(40, "measurements of the validation accuracy on the way", int, group=RANGE, low=1, high=10_000)
    members: int = option(4, "networks of different seeds that are trained at once, against the noise of one", int,
                          group=RANGE, low=1, high=MOST_MEMBERS)

    def __post_init__(self) -> None:
        check(self)
        if self.lr_min >= self.lr_max:
            raise ConfigError(f"--lr-min {self.lr_min} must be below --lr-max {self.lr_max}: the rate rises")
        if self.spacing == "geometric" and not self.lr_min:
            raise ConfigError(f"--lr-min {self.lr_min}: rates that rise by equal factors begin above 0: raise it, or "
                              f"choose --spacing linear")

    def total_steps(self, n_train: int, batch_size: int) -> int:
        """Updates of the whole test."""
        steps_per_epoch = -(-n_train // batch_size)
        return steps_per_epoch * (self.epochs or -(-RANGE_TEST_STEPS // steps_per_epoch))


@dataclass(frozen=True)
class PredictOptions:
    """Options of `fastmlp predict` beside the model and the data."""

    target: str | None = option(None, "the column, or .npy file, of the true labels, if there is one: accuracy is "
                                "then printed", group=DATA, metavar="COLUMN")
    data_dir: Path | None = option(None, "where CIFAR-10 lies", folder, group=DATA, metavar="DIR")
    vote: bool = option(False, "predict the class that most of an ensemble's networks find the most probable, ties by "
                        "their mean probability, in place of the class of the highest mean probability", bool,
                        group=RESULTS)
    device: str = option("auto", "where to compute", group=RESULTS, choices=("auto", "cpu", "gpu"))
    out: Path = option(Path("predictions.csv"), "the file to write; an existing one is not overwritten", Path,
                       group=RESULTS, metavar="FILE")

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class GradcheckOptions:
    """Options of `fastmlp gradcheck`."""

    hidden: tuple[int, ...] = option((50, 30), "widths of the hidden layers", int, group=NETWORK, many=True,
                                     metavar="WIDTH", low=1, high=WIDEST)
    batch_norm: bool = option(True, "batch norm in every hidden layer", bool, group=NETWORK)
    activation: str = option("relu", "non-linearity of the hidden layers", group=NETWORK, choices=tuple(ACTIVATIONS))
    loss: str = option("cross-entropy", "what is minimised", group=NETWORK, choices=LOSSES)
    init: str = option("he", "initial weights", group=NETWORK, choices=INITIALIZERS)
    l2: float = option(0.0, "factor of the penalty", float, group=NETWORK, low=0)
    dropout: float = option(0.0, "fraction of each hidden layer's units that is dropped", float, group=NETWORK, low=0,
                            below=1)
    label_smoothing: float = option(0.0, "fraction of each target that is spread over all classes", float,
                                    group=NETWORK, low=0, below=1)
    dim: int = option(20, "inputs of the network", int, group=DATA, low=1, high=WIDEST)
    n: int = option(20, "examples in the batch", int, group=DATA, low=1, high=WIDEST)
    seed: int = option(0, "of weights and examples", int, group=DATA, low=0)
    out: Path | None = option(None, "folder for tables and box plots", folder, group=RESULTS, metavar="DIR")

    def __post_init__(self) -> None:
        check(self)
        check_suits(self.hidden, self.loss, self.dropout, self.label_smoothing, flag)



@dataclass(frozen=True)
class StudyOptions:
    """Options of `fastmlp study` beside the studies' names."""

    data: str = option("digits", "digits, cifar10 (which the reports used), or a file as in fastmlp train", group=DATA,
                       metavar="DATA")
    data_dir: Path | None = option(None, "where CIFAR-10 lies or is downloaded to", folder, group=DATA, metavar="DIR")
    target: str | None = option(None, "the column, or .npy file, of a file's labels", group=DATA, metavar="COLUMN")
    seeds: int = option(5, "networks of every setting: seeds 0, 1, ... of weights, order and validation split", int,
                        group=TRAINING, low=1, high=1000)
    quick: bool = option(False, "short trainings of few settings, to see what there will be: they say nothing about "
                         "the reports", bool, group=TRAINING)
    device: str = option("auto", "where to compute", group=TRAINING, choices=("auto", "cpu", "gpu"))
    kernels: str = option("auto", "who makes the CPU's operations", group=TRAINING, choices=KERNELS)
    threads: int | None = option(None, "threads of the CPU's operations (default: what is fastest)", int,
                                 group=TRAINING, low=1, high=1024)
    out: Path | None = option(None, "folder of the page and of all finished trials, which are never trained again "
                              "(default: studies/<data>, with --quick studies/<data>-quick)", folder, group=RESULTS,
                              metavar="DIR")
    quiet: bool = option(False, "print nothing but errors", bool, group=RESULTS)

    def __post_init__(self) -> None:
        check(self)

    @property
    def base(self) -> TrainOptions:
        """What all trials share: the reports' network of three layers, where a study sets no other."""
        return TrainOptions(data=self.data, data_dir=self.data_dir, target=self.target, device=self.device,
                            kernels=self.kernels, threads=self.threads, hidden=(50, 50))
