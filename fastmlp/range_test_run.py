"""A range test from options to a folder of results: what `fastmlp lr-range` does."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fastmlp.building import make_backend, make_spec
from fastmlp.checks import check_batches
from fastmlp.command_options import RANGE_TEST_READS, LrRangeOptions
from fastmlp.config import TrainOptions
from fastmlp.errors import FastMLPError
from fastmlp.files import write_csv, write_json
from fastmlp.interrupts import stop_on_interrupt
from fastmlp.options import plain
from fastmlp.progress import make_progress
from fastmlp.range_test import LrRange, measure_range, suggest
from fastmlp.run import describe_data, load, say_nothing, shape_of, write_circumstances
from fastmlp.run_folders import RESULT_FILE, run_folder


def run_lr_range(options: TrainOptions, own: LrRangeOptions,
                 say: Callable[[str], None] = print) -> tuple[Path, dict[str, Any]]:
    """Find bounds of the learning rate and write everything about them to a folder.

    Parameters
    ----------
    options : TrainOptions
        What is trained.
    own : LrRangeOptions
        How the rate rises.
    say : callable, default print
        Receives lines for people; not called under `options.quiet`.

    Returns
    -------
    folder : Path
        Holds config.json, environment.json, lr-range.csv, lr-range.png and, written last, result.json.
    result : dict
        What result.json holds; `status` is "finished" or "interrupted".

    Raises
    ------
    FastMLPError
        Options, data or device cannot be used; nothing has been written then. Or no bounds follow, because the loss
        did not improve or every network diverged first: then everything has been written, the bounds as null.
    """
    if options.quiet:
        say = say_nothing
    backend, data = make_backend(options), load(options)
    check_batches(len(data.y_train), options.batch_size, options.batch_norm and bool(options.hidden))
    shape, failure = shape_of(make_spec(options, data)), None
    # From here on Ctrl-C leaves a whole folder.
    with stop_on_interrupt(quiet=options.quiet) as interrupted, run_folder(options.out) as folder:
        used = {name: value for name, value in plain(options).items() if name in RANGE_TEST_READS}
        write_circumstances(folder, options, data, backend, {**used, **plain(own)})
        say(f"device {backend.description}" + (f" (auto: {backend.reason})" if backend.reason else ""))
        say(describe_data(data))
        say(f"model  {shape}; {own.members} members")
        found = measure_range(options, own, data, backend, should_stop=interrupted,
                              watcher=make_progress("quiet" if options.quiet else "auto"))
        status = "finished" if found.complete else "interrupted"
        if found.complete:
            try:
                suggest(found)
            except FastMLPError as error:
                status, failure = "without bounds", error
        result = {
            "status": status, "lr_min": found.lr_min, "lr_max": found.lr_max, "notes": found.notes,
            "tested_from": own.lr_min, "tested_to": own.lr_max, "steps": len(found.rates), "members": own.members,
            "diverged_at": {str(k): rate for k, rate in sorted(found.diverged_at.items())},
            "device": backend.description,
        }
        if not found.complete:
            result["interrupted_by"] = interrupted.by
        write_range(folder, found, f"{data.name}, {shape}", log_axis=own.spacing == "geometric")
        write_json(folder / RESULT_FILE, result)
    if failure is not None:
        failure.args = (f"{failure}; what was measured is in {folder}",)
        raise failure
    if found.complete:
        for note in found.notes:
            say(f"note   {note}")
        say(f"lr_min {found.lr_min:g}, lr_max {found.lr_max:g}: fastmlp train ... --lr-min {found.lr_min:g} "
            f"--lr-max {found.lr_max:g}")
    say(f"{status}: results in {folder}")
    return folder, result


def write_range(folder: Path, found: LrRange, title: str, *, log_axis: bool) -> None:
    """Write lr-range.csv, a row for each step, and lr-range.png; nothing, if no step was made."""
    from fastmlp.range_test_plot import plot_lr_range

    if not len(found.rates):
        return
    accuracy: list[float | None] = [None] * len(found.rates)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)                 # the mean of members that all diverged
        means = np.nanmean(found.accuracies, axis=1)
    for step, mean in zip(found.measured_at[1:], means[1:], strict=True):
        accuracy[step - 1] = float(mean)
    columns = {"step": list(range(1, len(found.rates) + 1)), "lr": found.rates.tolist(), "loss": found.loss.tolist(),
               "smoothed_loss": found.smoothed_loss.tolist(), "val_accuracy": accuracy,
               **{f"loss_{k}": found.losses[:, k].tolist() for k in range(found.losses.shape[1])}}
    write_csv(folder / "lr-range.csv", columns)
    plot_lr_range(columns, folder / "lr-range.png", title=title, bounds=(found.lr_min, found.lr_max),
                  log_axis=log_axis)
