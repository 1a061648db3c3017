"""A search from options to a folder of results: what `fastmlp search` does."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastmlp.backend import Backend
from fastmlp.building import make_backend
from fastmlp.config import TrainOptions
from fastmlp.data import Dataset
from fastmlp.errors import OutputError
from fastmlp.files import without_password, write_atomically, write_csv, write_json
from fastmlp.groups import DIVERGED
from fastmlp.history import History
from fastmlp.interrupts import stop_on_interrupt
from fastmlp.options import non_default_toml, plain
from fastmlp.progress import Progress, make_progress
from fastmlp.run import (
    describe_data,
    load,
    measure_ensemble,
    prepare,
    say_nothing,
    snapshot_ensemble,
    summarize,
    write_circumstances,
    write_results,
)
from fastmlp.run_folders import RESULT_FILE, SPACE_FILE, make_run_folder
from fastmlp.search.core import IMPOSSIBLE, POLL, Search, count, wait
from fastmlp.search.options import SearchOptions
from fastmlp.search.plots import plot_search
from fastmlp.search.records import Claim, Record
from fastmlp.search.space import plain_space, with_point
from fastmlp.search.storage import Storage
from fastmlp.sweeps import describe
from fastmlp.training import train

DATABASE = "search.db"


def run_search(options: SearchOptions, base: TrainOptions,
               say: Callable[[str], None] = print) -> tuple[Path, dict[str, Any]]:
    """Search, train the best setting again, measure it on the test set once, and write everything to a folder.

    Parameters
    ----------
    options : SearchOptions
        What to search.
    base : TrainOptions
        What all trials have in common; its folder is that of the search.
    say : callable, default print
        Receives lines for people; not called under `base.quiet`.

    Returns
    -------
    folder : Path
        Holds config.json, environment.json, space.json, trials.csv, search.png, search.db unless the storage is
        elsewhere; and at the end best.toml, what one training leaves (history.csv, curves.png, weights.png,
        model.safetensors) and, written last, result.json.
    result : dict
        What result.json holds; `status` is "finished" or "interrupted".

    Raises
    ------
    FastMLPError
        Options, data, device or storage cannot be used.
    DivergenceError
        Every trial diverged, or the best setting when it was trained again.
    """
    if base.quiet:
        say = say_nothing
    watcher = make_progress("quiet" if base.quiet else "auto")
    backend, data = make_backend(base), load(base)
    folder: Path | None = None

    def open_storage() -> Storage:
        nonlocal folder
        if options.storage is not None:
            return Storage(options.storage)
        folder = _folder(base.out)
        return Storage(folder / DATABASE)

    with contextlib.closing(Search(options, base, data, backend, open_storage, say=say, watcher=watcher)) as search:
        folder = folder or _folder(base.out)            # not for nothing, if the storage holds another search
        result = _run(search, folder, backend, watcher, say)
    return folder, result


def _run(search: Search, folder: Path, backend: Backend, watcher: Progress,
         say: Callable[[str], None]) -> dict[str, Any]:
    """Begin the search, go on with it, or say that it is finished."""
    base, data = search.base, search.data
    if search.ledger.result() is None and (folder / RESULT_FILE).exists():
        raise OutputError(f"{folder} already holds a finished search ({RESULT_FILE}), which {search.storage.name} does "
                          f"not know: name another folder")
    with stop_on_interrupt(quiet=base.quiet) as interrupted:
        if not (folder / SPACE_FILE).exists():
            write_circumstances(folder, replace(base, out=folder), data, backend)
            _write_space(folder, search)
        say(f"device {backend.description}" + (f" (auto: {backend.reason})" if backend.reason else ""))
        say(describe_data(data))
        result = search.ledger.result()
        if result is None:
            result = _searched(search, folder, backend, interrupted, watcher, say)
        else:
            total = search.options.total or 0
            say(f"this search is finished: {search.storage.name}" + (
                f"; it does not go on to {total} trials: begin another search" if total > result["trials"] else ""))
            _write_tables(folder, search)
            if not (folder / RESULT_FILE).exists():
                write_json(folder / RESULT_FILE, result)
    if result["status"] == "interrupted":
        result["interrupted_by"] = interrupted.by
        again = "the same command" + ("" if base.out is not None else f" with --out {folder}")
        say(f"interrupted after {count(len(search.ledger.records()), 'trial')}, which are kept in "
            f"{search.storage.name}: {again} goes on")
        return result
    _say_result(result, say)
    say(f"finished: results in {folder}; fastmlp train --config {folder / 'best.toml'} trains the best setting")
    return result


def _folder(out: Path | None) -> Path:
    """A new folder, or that of this search."""
    if out is not None and (out / SPACE_FILE).exists():
        return out
    return make_run_folder(out)


def _searched(search: Search, folder: Path, backend: Backend, interrupted: Callable[[], bool], watcher: Progress,
              say: Callable[[str], None]) -> dict[str, Any]:
    """Search, and see to the end: by this worker or by another."""
    paused = {"status": "interrupted"}
    try:
        whole = search.run(interrupted, lambda: write_csv(folder / "trials.csv", search.table()))
    except KeyboardInterrupt:                                           # a second Ctrl-C
        whole = False
    best = search.best()
    _write_tables(folder, search)
    if not whole:
        return paused
    if best is None:
        raise search.nothing_found(f"; written to {folder}")
    waiting = False
    while (result := search.ledger.result()) is None:
        if interrupted():
            return paused
        if (claim := search.ledger.take_final()) is not None:
            _final(search, claim, best, folder, backend, interrupted, watcher, say)
            continue
        if not waiting:
            say("waiting for another worker, which trains the best setting")
        waiting = True
        wait(POLL, interrupted)
    write_json(folder / RESULT_FILE, result)                            # this worker's or another's
    return result


def _final(search: Search, claim: Claim, best: Record, folder: Path, backend: Backend,
           interrupted: Callable[[], bool], watcher: Progress, say: Callable[[str], None]) -> None:
    """Train the best setting again, measure it on the test set, write what one training leaves, and tell the result.

    A result is one that the storage knows, so there is only one: a worker that dies before it could tell has published
    none, and another one trains and measures the same network again. After Ctrl-C the setting is left to others.
    """
    result, setting = None, with_point(search.base, best.point)
    say(f"training the best setting again: {describe(best.point)}, validation accuracy {best.accuracy:.4f}")
    try:
        with search.storage.alive([claim.trial_id]):
            result = _trained_again(search, best, setting, folder, backend, interrupted, watcher)
    except KeyboardInterrupt:
        pass
    finally:
        search.ledger.tell_final(claim, result)


def _trained_again(search: Search, best: Record, setting: TrainOptions, folder: Path, backend: Backend,
                   interrupted: Callable[[], bool], watcher: Progress) -> dict[str, Any] | None:
    """What result.json shall hold, all else being written; None after Ctrl-C."""
    trainer, parts, model = prepare(setting, search.data, backend)
    history, began, total = History(), time.perf_counter(), setting.total_steps(parts["train"].n)
    train(trainer, total, parts={name: parts[name] for name in ("train", "val")}, evaluate_every=setting.evaluate_every,
          watcher=watcher, should_stop=interrupted, history=history, precise_bn=setting.precise_bn)
    if trainer.step < total:
        return None
    records = search.ledger.records()
    result = {
        **summarize(trainer, history, parts, "finished", time.perf_counter() - began),
        "best": best.point, "best_trial": best.number, "best_val_accuracy": best.accuracy,
        "best_val_accuracy_std": best.deviation, "trials": len(records),
        "diverged": sum(record.status.startswith(DIVERGED) for record in records),
        "impossible": sum(record.status.startswith(IMPOSSIBLE) for record in records),
        "stages": len(search.ledger.spaces()),
    }
    if trainer.snapshots:
        model = snapshot_ensemble(model, trainer)
        result |= measure_ensemble(model, parts)
    write_results(folder, setting, search.data, model, trainer, history, result)
    return result


def _write_space(folder: Path, search: Search) -> None:
    settings = plain(search.options)
    if search.options.storage is not None:
        settings["storage"] = without_password(search.options.storage)
    write_json(folder / SPACE_FILE, {"search": settings,
                                     "stages": [plain_space(space) for space in search.ledger.spaces()]})


def _write_tables(folder: Path, search: Search) -> None:
    """Write what is known of stages and trials, and as soon as a trial is finished the picture and the best setting."""
    table, best = search.table(), search.best()
    _write_space(folder, search)
    write_csv(folder / "trials.csv", table)
    if best is not None:
        setting = with_point(search.base, best.point)
        write_atomically(folder / "best.toml", non_default_toml(setting, without=("out", "quiet")))
        plot_search(table, search.ledger.spaces(), best.number, folder / "search.png", title=_title(search.data, best))


def _title(data: Dataset, best: Record) -> str:
    return f"{data.name}: best validation accuracy {best.accuracy:.4f} with {describe(best.point)}"


def _say_result(result: dict[str, Any], say: Callable[[str], None]) -> None:
    lost = "".join(f", {result[word]} {word}" for word in ("diverged", "impossible") if result[word])
    say(f"best   {describe(result['best'])}: validation accuracy {result['best_val_accuracy']:.4f}, the best of "
        f"{count(result['trials'], 'trial')}{lost}")
    if result["test_accuracy"] is not None:
        say(f"test   accuracy {result['test_accuracy']:.4f}, loss {result['test_loss']:.4f}")
