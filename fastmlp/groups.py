"""Training a population group by group.

The members of a group share examples and their order, so they are one network with a member axis. Members are in
different groups where their folds differ, where each has an order of its own, and where memory does not suffice for
all at once. The shared order comes from the run's seed, so a member's numbers do not depend on how the population was
divided (but for rounding, as wider products are summed in other orders).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from fastmlp.backend import Backend
from fastmlp.building import make_examples, make_spec, make_trainer
from fastmlp.checkpoints import Keeper
from fastmlp.checks import check_batches
from fastmlp.config import TrainOptions
from fastmlp.data import Dataset
from fastmlp.data.rows_on_disk import Rows, RowsOnDisk
from fastmlp.data.split import assign_folds, check_folds
from fastmlp.data.standardize import Standardizer
from fastmlp.errors import ConfigError, DivergenceError
from fastmlp.examples import Examples
from fastmlp.history import History, Row
from fastmlp.layout import NetworkSpec
from fastmlp.parameters import Tensors, chosen, tensors_of
from fastmlp.progress import Progress
from fastmlp.seeds import Stream, generator
from fastmlp.sweeps import Member
from fastmlp.trainer import SILENCE, Divergence, Trainer
from fastmlp.training import train

FINISHED, INTERRUPTED, DIVERGED = "finished", "interrupted", "diverged at step "


@dataclass
class Outcome:
    """What became of one member.

    Attributes
    ----------
    member : Member
        Who it is.
    status : str
        "finished", "diverged at step N" or "interrupted".
    history : list of dict
        Its rows of the history, as `History` has them for one network, as long as it did not diverge.
    tensors : dict
        Its numbers after the last of these rows, see `parameters.tensors_of`; none, if it was never begun.
    snapshots : list of dict
        Its numbers at the ends of the cycles before the last, likewise, if they were asked for.
    seconds : float
        Its share of the time spent in training steps.
    """

    member: Member
    status: str = INTERRUPTED
    history: list[Row] = field(default_factory=list)
    tensors: Tensors = field(default_factory=dict)
    snapshots: list[Tensors] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def diverged_at(self) -> int | None:
        """The step at which its loss became infinite, if it did."""
        return None if self.status in (FINISHED, INTERRUPTED) else int(self.status.removeprefix(DIVERGED))

    @property
    def steps(self) -> int:
        """Updates that its numbers have seen."""
        return int(self.history[-1]["step"]) if self.history else 0

    @property
    def measured(self) -> Row:
        """The last row of its history in which it was evaluated."""
        return next((row for row in reversed(self.history) if "train_accuracy" in row or "val_accuracy" in row), {})


def fold_data(data: Dataset, folds: int, seed: int) -> Iterator[Dataset]:
    """The data set anew for every fold: training and validation part together, less the fold, which validates."""
    x, y = _pooled(data), np.concatenate([data.y_train, data.y_val])
    fold_of = assign_folds(y, folds, generator(seed, Stream.SPLIT))
    for fold in range(folds):
        kept, drawn = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
        x_train, x_val = ((x.part(rows) if isinstance(x, RowsOnDisk) else x[rows]) for rows in (kept, drawn))
        yield replace(data, x_train=x_train, y_train=y[kept], x_val=x_val, y_val=y[drawn])


def _pooled(data: Dataset) -> Rows:
    """The inputs of training and validation part together."""
    if not len(data.x_val):
        return data.x_train
    if isinstance(data.x_train, RowsOnDisk):
        raise ConfigError("folds of data that stay on disk need a data set without a validation part: load it with "
                          "validation=0, or allow it more data_memory")
    return np.concatenate([data.x_train, data.x_val])


def smallest_part(data: Dataset, folds: int | None) -> int:
    """Training examples of a member; in cross-validation of the one that has the fewest."""
    if folds is None:
        return len(data.y_train)
    n = len(data.y_train) + len(data.y_val)
    return n - -(-n // folds)


def check_parts(options: TrainOptions, n_train: int, folds: int | None) -> None:
    """Refuse batch sizes that cannot be trained with; in cross-validation for each of the two sizes of its parts."""
    sizes = {n_train}
    if folds is not None:
        check_folds(folds, n_train)
        sizes = {n_train - n_train // folds, n_train - -(-n_train // folds)}
    for n in sizes:
        check_batches(n, options.batch_size, options.batch_norm and bool(options.hidden))


def bytes_per_member(spec: NetworkSpec, options: TrainOptions) -> int:
    """Memory that a member takes while it is trained.

    Parameters, gradients, two good states, what is kept in the end, and as much again for a step at work or for
    evaluation; the optimizer's state and its two good ones; activations and their gradients for two sizes of batches,
    with dropout also what is left of them.
    """
    states = {"sgd": 1 if options.momentum else 0, "adamw": 2}[options.optimizer]
    numbers = spec.n_parameters * (6 + 3 * states) + 6 * sum(spec.hidden)
    of_each_unit = 5 if options.dropout else 4
    numbers += 2 * options.batch_size * (of_each_unit * sum(spec.hidden) + 2 * spec.n_classes + 3 * max(spec.sizes[1:]))
    return numbers * np.dtype(options.dtype).itemsize


def train_members(members: Sequence[Member], data: Dataset, standardizer: Standardizer, backend: Backend, *, seed: int,
                  order: str = "shared", evaluate_on: Collection[str] = ("train", "val"),
                  watcher: Progress = SILENCE, should_stop: Callable[[], bool] | None = None,
                  keeper: Keeper | None = None) -> list[Outcome]:
    """Train every member; those that diverge are marked, and Ctrl-C ends all that are not finished.

    Parameters
    ----------
    members : sequence of Member
        Of one shape, on the same data.
    data : Dataset
        In cross-validation its training and validation part are divided into folds.
    standardizer : Standardizer
        Of the inputs, see `fit_standardizer`.
    backend : Backend
        Where to train.
    seed : int
        Of the shared order and of the folds.
    order : {"shared", "own"}, default "shared"
        Whether every member has the order of its own seed.
    evaluate_on : collection of str, default ("train", "val")
        Parts to evaluate on; of those that are not there nothing is measured.
    watcher : Progress, optional
        Told about every group.
    should_stop : callable, optional
        Asked before every step.
    keeper : Keeper, optional
        Saves checkpoints of every group, and brings back what it has of them.

    Returns
    -------
    list of Outcome, one a member
    """
    outcomes = [Outcome(member) for member in members]
    n_folds = 1 + max((member.fold for member in members if member.fold is not None), default=-1)
    options, spec = members[0].options, make_spec(members[0].options, data)
    together = 1 if order == "own" else _members_at_once(spec, options, backend)
    if keeper is not None:                              # the same ones again, whatever memory is free now
        together = keeper.together = keeper.together or together
    training = itertools.count()
    for fold, part in enumerate(fold_data(data, n_folds, seed)) if n_folds else [(None, data)]:
        waiting = [k for k, member in enumerate(members) if member.fold == fold]
        examples = make_examples(options, replace(part, y_test=part.y_test[:0]), standardizer, backend)
        evaluated = {name: examples[name] for name in examples if name in evaluate_on}
        while waiting:
            group = waiting[:-(-len(waiting) // -(-len(waiting) // together))]          # of equal parts the first
            waiting = waiting[len(group):]
            order_seed = members[group[0]].options.seed if order == "own" else seed
            who = f"{len(group)}" if len(group) > 1 else f"number {group[0]}"
            words = f"{data.name}, {who} of {len(members)} members" + (f", fold {fold}" if fold is not None else "")
            if not _train_group([outcomes[k] for k in group],           # the trainer without a name, freed with its end
                                make_trainer([members[k].options for k in group], spec, examples, seed=order_seed),
                                evaluated, watcher, should_stop, words, keeper, next(training)):
                return outcomes
        examples.clear()                                # makes room on the device for those of the next fold
    return outcomes


def fit_standardizer(options: TrainOptions, data: Dataset, *, folds: bool) -> Standardizer:
    """Fitted on the training part; in cross-validation on all of the folds, so that their members can be one ensemble.

    The mean and deviation of an input know nothing of labels.
    """
    return Standardizer.fit(_pooled(data) if folds else data.x_train, options.standardize)     # type: ignore[arg-type]


def _members_at_once(spec: NetworkSpec, options: TrainOptions, backend: Backend) -> int:
    """How many members fit into half of the free memory."""
    return int(max(1, backend.available_bytes() // 2 // bytes_per_member(spec, options)))


def _train_group(outcomes: Sequence[Outcome], trainer: Trainer, parts: Mapping[str, Examples], watcher: Progress,
                 should_stop: Callable[[], bool] | None, words: str, keeper: Keeper | None, number: int) -> bool:
    """Train a group and note what became of it; whether to go on with the next."""
    options, history, alone = outcomes[0].member.options, History(), None
    total, goes_on = options.total_steps(trainer.examples.n), True
    if keeper is not None:
        keeper.begin(number, trainer, history)
    try:
        train(trainer, total, parts=parts, evaluate_every=options.evaluate_every, watcher=watcher,
              should_stop=should_stop, history=history, description=words, precise_bn=options.precise_bn,
              keeper=keeper)
        goes_on = trainer.step >= total
    except DivergenceError as error:
        alone = Divergence(str(error), error.step, error.lr)            # of the last member, or of the only one
    except KeyboardInterrupt:                                           # anywhere
        goes_on = False
        if keeper is not None:
            keeper.save_after_hurry(trainer, history)
    tensors, single = tensors_of(trainer.network), len(outcomes) == 1
    for k, outcome in enumerate(outcomes):
        divergence = alone if single else trainer.frozen[k]
        outcome.status = (f"{DIVERGED}{divergence.step}" if divergence is not None
                          else FINISHED if goes_on else INTERRUPTED)
        outcome.history = [_row_of(row, k, single) for row in history.rows if single or not row["frozen"][k]]
        outcome.tensors = chosen(tensors, [k])
        outcome.snapshots = [chosen(snapshot, [k]) for snapshot in trainer.snapshots.values()]
        outcome.seconds = sum(history.epoch_seconds) / len(outcomes)
    return goes_on


def _row_of(row: Row, member: int, single: bool) -> Row:
    """A member's own numbers of a row of the history, as Python's."""
    return {name: value if single or np.ndim(value) == 0 else value[member].item()
            for name, value in row.items() if name != "frozen"}
