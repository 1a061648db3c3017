"""From options to what trains: schedule, optimizer, network, data. Members of a population differ in some options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp import schedules
from fastmlp.augmentation import Augmentation
from fastmlp.backend import Backend, resolve
from fastmlp.config import TrainOptions
from fastmlp.data import Dataset
from fastmlp.data.standardize import Standardizer
from fastmlp.dropout import Dropout
from fastmlp.errors import ConfigError
from fastmlp.examples import Examples
from fastmlp.layout import NetworkSpec
from fastmlp.network import Network
from fastmlp.optimizers import SGD, Adam, Optimizer
from fastmlp.trainer import Trainer


def make_backend(options: TrainOptions) -> Backend:
    """Where and how the options ask to compute."""
    return resolve(options.device, options.precision, kernels=options.kernels, threads=options.threads)


def make_schedule(members: Sequence[TrainOptions], n_train: int) -> schedules.Schedule:
    """The learning-rate schedule that the members' options ask for, for this many training examples."""
    options = members[0]
    resolved, total = options.resolved(n_train), options.total_steps(n_train)

    def rates(name: str) -> npt.NDArray[np.float64]:
        return np.array([getattr(member, name) for member in members], np.float64)      # (M,)

    bounds: dict[str, Any] = {"lr_min": rates("lr_min"), "lr_max": rates("lr_max")}
    steps_per_epoch = -(-n_train // options.batch_size)
    return {
        "cyclical": partial(schedules.cyclical, step_size=resolved.step_size or 1, **bounds),
        "one-cycle": partial(schedules.one_cycle, total_steps=total, **bounds),
        "cosine": partial(schedules.cosine, total_steps=total, **bounds),
        "constant": partial(schedules.constant, lr=rates("lr")),
        "step": partial(schedules.step_decay, lr=rates("lr"), drop=options.lr_drop,
                        every=options.lr_drop_every * steps_per_epoch),
    }[options.schedule]


def make_optimizer(options: TrainOptions) -> Optimizer:
    """The optimizer that the options ask for."""
    return SGD(momentum=options.momentum) if options.optimizer == "sgd" else Adam(decoupled=True)


def make_spec(options: TrainOptions, data: Dataset) -> NetworkSpec:
    """The shape of the network for these data."""
    return NetworkSpec(data.x_train.shape[1], options.hidden, len(data.classes), options.batch_norm, options.activation,
                       options.loss)


def make_augmentation(options: TrainOptions, data: Dataset) -> Augmentation | None:
    """What the options ask to do to the training images; None if nothing.

    Raises
    ------
    ConfigError
        The examples are no images, or the shift is too large for them.
    """
    if not (options.mirror or options.shift):
        return None
    if data.image_shape is None:
        asked = "--mirror" if options.mirror else f"--shift {options.shift}"
        raise ConfigError(f"{asked} is for images, such as cifar10 and digits, and nothing says that the rows of "
                          f"{data.name} are some: leave it out")
    return Augmentation(data.image_shape, options.mirror, options.shift)


def make_examples(options: TrainOptions, data: Dataset, standardizer: Standardizer,
                  backend: Backend) -> dict[str, Examples]:
    """The parts "train", "val" and "test" where the training runs; parts without rows are left out."""
    augmentation = make_augmentation(options, data)
    return {
        name: Examples(x, y, len(data.classes), standardizer, backend, options.dtype, keep=options.keep_data,
                       augmentation=augmentation if name == "train" else None)
        for name, x, y in (("train", data.x_train, data.y_train), ("val", data.x_val, data.y_val),
                           ("test", data.x_test, data.y_test)) if len(y)
    }


def make_trainer(members: Sequence[TrainOptions], spec: NetworkSpec, parts: Mapping[str, Examples], *,
                 seed: int, schedule: schedules.Schedule | None = None) -> Trainer:
    """A new network of these members, and what trains it; `seed` is that of the order of the examples.

    The schedule is the members' own, unless another is given.
    """
    options, backend = members[0], parts["train"].backend
    network = Network(spec, backend, members=len(members), dtype=options.dtype, l2=[member.l2 for member in members])
    network.initialize([member.seed for member in members], [member.init for member in members],
                       [member.init_std for member in members])
    schedule = schedule or make_schedule(members, parts["train"].n)
    return Trainer(network, parts["train"], make_optimizer(options), schedule,
                   batch_size=options.batch_size, seed=seed, bn_decay=options.bn_decay,
                   snapshot_steps=options.snapshot_steps(parts["train"].n),
                   dropout=Dropout(options.dropout, [member.seed for member in members]) if options.dropout else None,
                   label_smoothing=options.label_smoothing)
