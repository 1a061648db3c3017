"""A population from options to a folder of results: what `fastmlp train` does with --members, --sweep and --folds."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fastmlp.building import make_augmentation, make_backend, make_schedule, make_spec
from fastmlp.config import TrainOptions
from fastmlp.errors import DivergenceError
from fastmlp.files import write_csv, write_json
from fastmlp.groups import smallest_part
from fastmlp.interrupts import stop_on_interrupt
from fastmlp.model import save_model
from fastmlp.population import Population, check_population, train_population
from fastmlp.progress import make_progress
from fastmlp.run import describe_data, load, open_run, say_nothing, shape_of
from fastmlp.run_folders import RESULT_FILE, run_folder
from fastmlp.sweeps import describe

MOST_LINES = 12     # of settings in the table for people; summary.csv has them all


def run_population(options: TrainOptions, say: Callable[[str], None] = print, *,
                   resumed: bool = False) -> tuple[Path, dict[str, Any]]:
    """Train a population and write everything about it to a folder.

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
        Holds config.json, environment.json, members.csv, summary.csv, history.csv, curves.png, model.safetensors (the
        chosen setting's members that did not diverge, as an ensemble) and, written last, result.json.
    result : dict
        What result.json holds; `status` is "finished" or "interrupted", and then there are checkpoints to go on from.

    Raises
    ------
    FastMLPError
        Options, data or device cannot be used; nothing has been written then.
    CheckpointError
        The run cannot go on: something is not as it was. Its folder stays as it is.
    DivergenceError
        Every member diverged; everything but a model has been written.
    """
    if options.quiet:
        say = say_nothing
    backend, data = make_backend(options), load(options)
    n_train = smallest_part(data, options.folds)
    options = options.resolved(n_train)
    members, settings = options.population()
    check_population(members, settings, data, options.folds, options.order)
    make_augmentation(options, data)        # or a sentence on why not, before there is a folder
    spec, failure = make_spec(options, data), None
    # From here on Ctrl-C leaves a whole folder.
    with stop_on_interrupt(quiet=options.quiet) as interrupted, run_folder(options.out, resumed=resumed) as folder:
        keeper = open_run(folder, options, data, backend, say, resumed=resumed)
        say(f"device {backend.description}" + (f" (auto: {backend.reason})" if backend.reason else ""))
        say(describe_data(data))
        say(f"model  {shape_of(spec)}: {spec.n_parameters} parameters; {len(members)} members"
            + (f", {len(settings)} settings" if len(settings) > 1 else ""))
        began = time.perf_counter()
        population = train_population(
            members, settings, data, backend, seed=options.seed, folds=options.folds, order=options.order,
            watcher=make_progress("quiet" if options.quiet else "auto"), should_stop=interrupted, keeper=keeper)
        status = "interrupted" if population.interrupted else "finished"
        try:
            population.choose()
        except DivergenceError as error:
            status, failure = "diverged", error
        if status == "finished":
            population.measure_test()
        result = summarize(population, status, time.perf_counter() - began)
        if status == "interrupted":
            result["interrupted_by"] = interrupted.by
        with keeper.writing_results(failure):
            write_population(folder, population, result, n_train)
        if status != "interrupted":
            keeper.clear()
    if failure is not None:
        raise DivergenceError(f"{failure}; written to {folder}", step=failure.step, lr=failure.lr)
    for line in table(population):
        say(line)
    say(f"{status}: results in {folder}")
    if status == "interrupted":
        say(keeper.way_on())
    return folder, result


def summarize(population: Population, status: str, seconds: float) -> dict[str, Any]:
    """What result.json says; about accuracies it says those of the chosen setting, and null where none was chosen."""
    summary, outcomes, chosen = population.summary(), population.outcomes, population.chosen
    names = [f"{part}_accuracy_{word}" for part in ("test", "val") for word in ("mean", "std", "low", "high")]
    training = sum(outcome.seconds for outcome in outcomes)
    return {
        "status": status,
        "members": len(outcomes),
        "diverged": sum(summary["diverged"]),
        "settings": len(population.settings),
        "chosen": None if chosen is None else population.settings[chosen],
        "ensemble_members": 0 if chosen is None else ensemble_size(population, chosen),
        "ensemble_test_accuracy": population.ensemble_accuracy,
        "ensemble_vote_test_accuracy": population.ensemble_vote_accuracy,
        "ensemble_test_log_loss": population.ensemble_log_loss,
        **{name: None if chosen is None else summary[name][chosen] for name in names},
        "n_parameters": make_spec(outcomes[0].member.options, population.data).n_parameters,
        "seconds_training": training,
        "seconds_with_evaluation": seconds,
        "device": population.backend.description,
    }


def write_population(folder: Path, population: Population, result: dict[str, Any], n_train: int) -> None:
    """Write tables, picture, model and, last, the result, whose presence marks the folder as finished."""
    from fastmlp.population_plots import plot_population

    history = population.history()
    write_csv(folder / "members.csv", population.table())
    write_csv(folder / "summary.csv", population.summary())
    write_csv(folder / "history.csv", history)
    if result["status"] != "diverged":
        save_model(folder / "model.safetensors", population.model())
    if history["step"]:
        settings = [outcome.member.setting for outcome in population.outcomes]
        steps = np.linspace(0, max(max(history["step"]), 1), 400)
        rates = make_schedule([population.outcomes[0].member.options], n_train)(steps)
        plot_population(history, settings, [describe(setting) for setting in population.settings],
                        folder / "curves.png", title=_title(population, result), lr_curve=(steps, rates))
    write_json(folder / RESULT_FILE, result)


def _title(population: Population, result: dict[str, Any]) -> str:
    shape = "-".join(map(str, make_spec(population.outcomes[0].member.options, population.data).sizes))
    diverged = f", {result['diverged']} diverged" if result["diverged"] else ""
    accuracy = result["ensemble_test_accuracy"]
    return f"{population.data.name}, {shape}, {result['members']} members{diverged}" + (
        f": test accuracy of the ensemble {accuracy:.4f}" if accuracy is not None else "")


def table(population: Population) -> list[str]:
    """The settings from the best mean validation accuracy down, and the chosen one's test accuracy, for people."""
    summary = population.summary()
    ranks = sorted(range(len(population.settings)), key=lambda k: -(summary["val_accuracy_mean"][k] or 0.0))
    names = [describe(setting) or "all members" for setting in population.settings]
    width = max(map(len, names))
    lines = [f"{'':{width}}  members  diverged  validation accuracy: mean +- deviation (95 % interval of the mean)"]
    lines += [f"{names[k]:{width}}  {summary['n'][k]:7}  {summary['diverged'][k]:8}  "
              f"{_accuracy(summary, 'val_accuracy', k)}" for k in ranks[:MOST_LINES]]
    if len(ranks) > MOST_LINES:
        lines.append(f"... and {len(ranks) - MOST_LINES} more settings: see summary.csv")
    chosen = population.chosen
    if chosen is not None and population.ensemble_accuracy is not None:
        which = f" with {names[chosen]}, the best by validation" if len(names) > 1 else ""
        lines += [f"test   accuracy {_accuracy(summary, 'test_accuracy', chosen)}{which}",
                  f"       ensemble of {ensemble_size(population, chosen)}: {population.ensemble_accuracy:.4f}, by "
                  f"vote {population.ensemble_vote_accuracy:.4f}"]
    return lines


def ensemble_size(population: Population, setting: int) -> int:
    """Networks in a setting's ensemble: its members that did not diverge, and their snapshots."""
    return sum(1 + len(population.outcomes[k].snapshots) for k in population.members_of(setting))


def _accuracy(summary: dict[str, list[Any]], name: str, setting: int) -> str:
    mean, std, low, high = (summary[f"{name}_{word}"][setting] for word in ("mean", "std", "low", "high"))
    if mean is None:
        return "not measured"
    return f"{mean:.4f}" + ("" if std is None else f" +- {std:.4f} ({low:.4f} to {high:.4f})")
