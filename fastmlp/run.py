"""One training from options to a folder of results: what `fastmlp train` does."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.backend import Backend
from fastmlp.building import make_backend, make_examples, make_spec, make_trainer
from fastmlp.checkpoints import Keeper
from fastmlp.checks import check_batches
from fastmlp.config import TrainOptions
from fastmlp.data import Dataset, load_dataset
from fastmlp.data.download import data_folder
from fastmlp.data.rows_on_disk import RowsOnDisk
from fastmlp.data.standardize import Standardizer
from fastmlp.errors import DivergenceError
from fastmlp.evaluation import ensemble_accuracy, evaluate
from fastmlp.examples import Examples
from fastmlp.files import without_password, write_csv, write_json
from fastmlp.history import History
from fastmlp.interrupts import stop_on_interrupt
from fastmlp.layout import NetworkSpec
from fastmlp.model import Model, save_model
from fastmlp.options import plain
from fastmlp.parameters import joined, make_network, tensors_of
from fastmlp.progress import make_progress
from fastmlp.resuming import check_circumstances, make_keeper
from fastmlp.run_folders import CONFIG_FILE, FIRST_FILE, RESULT_FILE, run_folder
from fastmlp.trainer import Trainer
from fastmlp.training import train

HISTORY_COLUMNS = ("step", "epoch", "lr", "train_loss", "train_cost", "train_accuracy",
                   "val_loss", "val_cost", "val_accuracy")


def run_training(options: TrainOptions, say: Callable[[str], None] = print, *,
                 resumed: bool = False) -> tuple[Path, dict[str, Any]]:
    """Train one network and write everything about it to a folder.

    Parameters
    ----------
    options : TrainOptions
        What to do.
    say : callable, default print
        Receives lines for people; not called under `options.quiet`.
    resumed : bool, default False
        `options.out` holds a run of these options that was stopped: go on with it.

    Returns
    -------
    folder : Path
        Holds config.json, environment.json, history.csv, model.safetensors, curves.png, weights.png (for images, with
        no or one hidden layer) and, written last, result.json.
    result : dict
        What result.json holds; `status` is "finished" or "interrupted", and then there is a checkpoint to go on from.

    Raises
    ------
    FastMLPError
        Options, data or device cannot be used; nothing has been written then.
    CheckpointError
        The run cannot go on: something is not as it was. Its folder stays as it is.
    DivergenceError
        The loss became NaN or infinite; the last good state has been written.
    """
    if options.quiet:
        say = say_nothing
    backend, data = make_backend(options), load(options)
    n_train = len(data.y_train)
    check_batches(n_train, options.batch_size, options.batch_norm and bool(options.hidden))
    trainer, parts, model = prepare(options, data, backend)
    history, failure = History(), None
    # From here on Ctrl-C leaves a whole folder.
    with stop_on_interrupt(quiet=options.quiet) as interrupted, run_folder(options.out, resumed=resumed) as folder:
        keeper = open_run(folder, options, data, backend, say, resumed=resumed)
        say(f"device {backend.description}" + (f" (auto: {backend.reason})" if backend.reason else ""))
        say(describe_data(data) + (", read from disk as needed" if parts["train"].on_disk else
                                   ", streamed from the host" if parts["train"].streams else ""))
        say(f"model  {shape_of(model.network.spec)}: {model.network.spec.n_parameters} parameters")
        status, began = "finished", time.perf_counter()
        if keeper.begin(0, trainer, history):
            say(f"resume from step {trainer.step} of {options.total_steps(n_train)}")
        try:
            train(trainer, options.total_steps(n_train), parts={k: parts[k] for k in ("train", "val") if k in parts},
                  evaluate_every=options.evaluate_every, watcher=make_progress("quiet" if options.quiet else "auto"),
                  should_stop=interrupted, history=history, description=f"{data.name} {shape_of(model.network.spec)}",
                  precise_bn=options.precise_bn, keeper=keeper)
        except DivergenceError as error:
            status, failure = "diverged", error
        except KeyboardInterrupt:                                       # a second Ctrl-C, anywhere
            status = "interrupted"
            keeper.save_after_hurry(trainer, history)
        if status == "finished" and trainer.step < options.total_steps(n_train):
            status = "interrupted"
        result = summarize(trainer, history, parts if status == "finished" else {}, status,
                           time.perf_counter() - began)
        if status == "interrupted":
            result["interrupted_by"] = interrupted.by
        if status == "finished" and trainer.snapshots:
            model = snapshot_ensemble(model, trainer)
            result |= measure_ensemble(model, parts)
        with keeper.writing_results(failure):
            write_results(folder, options, data, model, trainer, history, result)
            write_json(folder / RESULT_FILE, result)                    # last: it marks the folder as finished
        if status != "interrupted":
            keeper.clear()
    if failure is not None:
        raise DivergenceError(f"{failure}; written to {folder}", step=failure.step, lr=failure.lr)
    if status == "finished":
        say(f"test   accuracy {result['test_accuracy']:.4f}, loss {result['test_loss']:.4f} after "
            f"{result['seconds_training']:.2f} s of training ({result['seconds_per_epoch']:.3f} s an epoch)")
        if trainer.snapshots and "test" in parts:
            say(f"       ensemble of {model.network.members} cycles' ends: {result['ensemble_test_accuracy']:.4f}, by "
                f"vote {result['ensemble_vote_test_accuracy']:.4f}")
    say(f"{status}: results in {folder}")
    if status == "interrupted":
        say(keeper.way_on())
    return folder, result


def open_run(folder: Path, options: TrainOptions, data: Dataset, backend: Backend, say: Callable[[str], None], *,
             resumed: bool) -> Keeper:
    """Write what a run begins with, or see that it is as it was; what keeps its checkpoints."""
    keeper = make_keeper(folder, options, data, backend)
    if resumed:
        keeper.together = check_circumstances(folder, data, backend, say).get("together")
    else:
        write_circumstances(folder, options, data, backend)
    return keeper


def load(options: TrainOptions) -> Dataset:
    """The data that the options ask for. Folds take the place of a validation part."""
    return load_dataset(
        options.data, data_dir=options.data_dir, target=options.target, train_batches=options.train_batches,
        validation_batches=options.validation_batches, validation=0 if options.folds else options.validation,
        test=options.test, seed=options.seed, data_memory=options.data_memory)


def describe_data(data: Dataset) -> str:
    """One line for people."""
    return (f"data   {data.name}: {len(data.y_train)} to train, {len(data.y_val)} to validate, {len(data.y_test)} to "
            f"test, {data.x_train.shape[1]} inputs, {len(data.classes)} classes")


def shape_of(spec: NetworkSpec) -> str:
    """The shape of a network for people: `64-50-10, batch norm`."""
    return f"{'-'.join(map(str, spec.sizes))}{', batch norm' if spec.batch_norm and spec.hidden else ''}"


def prepare(options: TrainOptions, data: Dataset, backend: Backend) -> tuple[Trainer, dict[str, Examples], Model]:
    """Network, device-resident data and trainer for one run; parts without rows are left out."""
    standardizer = Standardizer.fit(data.x_train, options.standardize)      # type: ignore[arg-type]
    parts, spec = make_examples(options, data, standardizer, backend), make_spec(options, data)
    trainer = make_trainer([options], spec, parts, seed=options.seed)
    return trainer, parts, Model(trainer.network, standardizer, data.classes, data.image_shape, data.feature_names)


def summarize(trainer: Trainer, history: History, parts: dict[str, Examples], status: str,
              seconds: float) -> dict[str, Any]:
    """What result.json says. The test set is touched here, once, and only when training finished."""
    last = next((row for row in reversed(history.rows) if "train_accuracy" in row), {})
    test = evaluate(trainer.network, parts["test"]) if "test" in parts else None
    training = sum(history.epoch_seconds)
    return {
        "status": status,
        "test_accuracy": None if test is None else float(test.accuracy[0]),
        "test_loss": None if test is None else float(test.loss[0]),
        **{name: last.get(name) for name in HISTORY_COLUMNS[3:]},
        "steps": trainer.step,
        "epochs": trainer.epoch,
        "n_parameters": trainer.network.spec.n_parameters,
        "seconds_training": training,
        "seconds_per_epoch": history.seconds_per_epoch,
        "seconds_with_evaluation": seconds,
        "samples_per_second": sum(history.epoch_examples) / training if training > 0 else None,
        "device": trainer.network.backend.description,
    }


def snapshot_ensemble(model: Model, trainer: Trainer) -> Model:
    """The networks of all cycles' ends as one model; the trained one is the last."""
    network = trainer.network
    tensors = joined([*trainer.snapshots.values(), tensors_of(network)])
    l2 = np.repeat(network.backend.to_host(network.l2), len(tensors["w0"]))
    return replace(model, network=make_network(network.spec, network.backend, tensors, dtype=network.dtype.name, l2=l2))


def measure_ensemble(model: Model, parts: dict[str, Examples]) -> dict[str, Any]:
    """What result.json says about an ensemble: accuracies of its mean probability and of its vote."""
    everyone = range(model.network.members)
    return {"ensemble_members": len(everyone), **{
        f"ensemble_{word}{part}_accuracy": ensemble_accuracy(model.network, parts[part], everyone, vote=bool(word))
        for part in ("test", "val") if part in parts for word in ("", "vote_")}}


def write_results(folder: Path, options: TrainOptions, data: Dataset, model: Model, trainer: Trainer, history: History,
                  result: dict[str, Any]) -> None:
    """Write history, model and pictures: all but the result, whose presence marks the folder as finished."""
    from fastmlp.plots import plot_curves, plot_weights

    columns = {name: history.column(name) for name in HISTORY_COLUMNS}
    write_csv(folder / "history.csv", columns)
    save_model(folder / "model.safetensors", model)
    title = f"{data.name}, {'-'.join(map(str, model.network.spec.sizes))}" + (
        f": test accuracy {result['test_accuracy']:.4f}" if result["test_accuracy"] is not None else "")
    if history.rows:
        steps = np.linspace(0, max(trainer.step, 1), 400)
        plot_curves(columns, folder / "curves.png", title=title, lr_curve=(steps, trainer.schedule(steps)))
    if data.image_shape is not None and len(options.hidden) <= 1 and data.image_shape[0] in (1, 3):
        first = _first_weights(trainer)
        if np.isfinite(first).all():
            plot_weights(first, data.image_shape, [str(label) for label in data.classes], folder / "weights.png")


def _first_weights(trainer: Trainer) -> npt.NDArray[Any]:
    """The first layer's weights on the host, (D, H)."""
    network = trainer.network
    return network.backend.to_host(network.views()["w0"][0])


def say_nothing(_: str) -> None:
    """What a quiet run does with its lines."""


def write_circumstances(folder: Path, options: TrainOptions, data: Dataset, backend: Backend,
                        used: dict[str, Any] | None = None) -> None:
    """Write environment.json, then config.json, with what was left to be decided filled in.

    Where other options were `used` than those of `fastmlp train`, they are written instead.
    """
    from fastmlp import doctor

    decided: dict[str, Any] = {"device": backend.name, "out": folder}
    if not options.validation_batches:
        decided["validation"] = len(data.y_val)
    if not data.brings_test:
        decided["test"] = len(data.y_test)
    if isinstance(data.x_train, RowsOnDisk):
        decided["data_memory"] = data.x_train.memory        # the order of the examples depends on it
    if options.data == "cifar10":
        decided["data_dir"] = data_folder(options.data_dir)
    used = plain(options.resolved(len(data.y_train))) if used is None else used
    command = [without_password(word) for word in sys.argv]
    write_json(folder / FIRST_FILE, {"device": backend.description, "command": command,
                                     **doctor.report(gpu=backend.name == "gpu")})
    write_json(folder / CONFIG_FILE, {**used, **decided})
