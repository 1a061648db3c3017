"""Studies from their names to a page: what `fastmlp study` does."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from fastmlp import __version__
from fastmlp.building import make_backend
from fastmlp.command_options import StudyOptions
from fastmlp.config import TrainOptions
from fastmlp.interrupts import Interruption, stop_on_interrupt
from fastmlp.progress import make_progress
from fastmlp.run import say_nothing
from fastmlp.run_folders import make_folder
from fastmlp.studies import gradients
from fastmlp.studies.analysis import find, group_runs, label_rows, values_of
from fastmlp.studies.catalogue import Study, find_studies
from fastmlp.studies.claims import Runs
from fastmlp.studies.ensembles import ENSEMBLE, aim_claims, ensemble_accuracies, ensemble_table
from fastmlp.studies.figures import images_figure
from fastmlp.studies.findings import Figure, Finding, Report
from fastmlp.studies.interval_figures import steps_figure
from fastmlp.studies.page import write_report
from fastmlp.studies.store import TrialStore
from fastmlp.studies.training import LOGITS, WEIGHTS, Laboratory, make_plan

REPORTED_ON = "cifar10"         # the data set of all reports


def run_studies(names: Sequence[str], options: StudyOptions,
                say: Callable[[str], None] = print) -> tuple[Path, Report | Interruption]:
    """Train what studies need, where it is not kept from before, and write the page about them.

    Parameters
    ----------
    names : sequence of str
        Of studies, as `find_studies` takes them.
    options : StudyOptions
        On which data, with how many seeds, where to.
    say : callable, default print
        Receives lines for people; not called under `options.quiet`.

    Returns
    -------
    folder : Path
        Holds `trials/`, a file for each finished trial, and report.html, report.md, tables/ and figures/.
    report : Report or None
        What was found; the interruption, after one, when only the trials have been written.

    Raises
    ------
    FastMLPError
        A name, data or device cannot be used, or the folder holds trials on other data.
    """
    if options.quiet:
        say = say_nothing
    studies, base = find_studies(names, data=options.data, quick=options.quick), options.base
    backend = make_backend(base)
    stem = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in Path(options.data).name)
    folder = options.out or Path("studies") / (stem + "-quick" * options.quick)
    laboratory = Laboratory(base, backend, lambda data: TrialStore(make_folder(folder / "trials"), data))
    if laboratory.data_for(base).image_shape is None:
        studies = [study.for_tables() for study in studies]
    say(f"device {backend.description}" + (f" (auto: {backend.reason})" if backend.reason else ""))
    say(f"studies {', '.join(study.name for study in studies)}: {options.seeds} seed{'s'[:options.seeds != 1]}")
    began = time.perf_counter()
    with stop_on_interrupt(quiet=options.quiet) as interrupted:
        plan = make_plan(studies, base, range(options.seeds))
        bar = make_progress("auto" if sys.stderr.isatty() and not options.quiet else "quiet")   # else a line a group
        whole = laboratory.train(plan, say, bar, interrupted)
        if not whole:
            say(f"interrupted: the finished trials are kept in {folder}; the same command goes on")
            return folder, interrupted
    comparable = options.data == REPORTED_ON and not options.quick
    say("figures and page")
    findings = tuple(_find(study, options, laboratory, comparable) for study in studies)
    spent = sum(result.seconds for trial in plan.trials.values() if (result := laboratory.store.load(trial)))
    command = shlex.join(["fastmlp", "study", *names, "--data", options.data,
                          *(["--target", options.target] if options.target is not None else []),
                          "--seeds", str(options.seeds), *(["--quick"] if options.quick else [])])
    report = Report("Five reports on multi-layer perceptrons, done again" + (": a quick look" * options.quick), (
        ("data", options.data + ("" if options.data == REPORTED_ON else "; the reports used CIFAR-10, so their figures "
                                 "cannot be compared with these")),
        ("seeds", f"{options.seeds}, each with its own initial weights, order of the examples and validation split"),
        ("networks", f"{len(plan.trials)} trained"),
        ("time", f"{spent / 60:.1f} minutes to train and measure them, {(time.perf_counter() - began) / 60:.1f} for "
                 f"this run of the command"),
        ("device", backend.description), ("version", f"fastmlp {__version__}"), ("command", command)), findings)
    write_report(report, folder)
    say(f"finished: {folder / 'report.html'}")
    return folder, report


def _find(study: Study, options: StudyOptions, laboratory: Laboratory, comparable: bool) -> Finding:
    """All that one study found: of its trials, and of its gradients."""
    finding = Finding(study.name, study.title, study.asked)
    if study.rows:
        by_seed = [[laboratory.store.load(trial) for trial in study.trials(options.base, seed)]
                   for seed in range(options.seeds)]
        finding = find(study, group_runs(study.rows, by_seed), comparable=comparable)
        if study.weights:
            finding = replace(finding, figures=finding.figures + _weights(study, options.base, laboratory))
        if study.ensembles:
            finding = _with_ensembles(finding, study, group_runs(study.rows, by_seed), options, laboratory, comparable)
    if study.gradients:
        checks = gradients.check(study)
        finding = replace(
            finding, claims=finding.claims + tuple(gradients.gradient_claims(study, checks)),
            tables=finding.tables + tuple(gradients.gradient_tables(study, checks)),
            figures=finding.figures + tuple(gradients.gradient_figures(study, checks)),
            notes=finding.notes + gradients.fault_notes(study))
    return finding


def _weights(study: Study, base: TrainOptions, laboratory: Laboratory) -> tuple[Figure, ...]:
    """The first seed's weights as images, where the data are images."""
    data = laboratory.data_for(base)
    kept = [laboratory.store.load_array(trial, WEIGHTS) for trial in study.trials(base, base.seed)]
    rows = [(label, weights, data.image_shape, [str(name) for name in data.classes])
            for label, weights in zip(label_rows(study.rows), kept, strict=True)
            if weights is not None and data.image_shape is not None]
    if not rows:
        return ()
    return (images_figure(f"{study.name}-weights", "Weights of each class as images, of the first seed; grey values or "
                          "colours scaled from the smallest weight of an image to its largest.", rows),)


def _with_ensembles(finding: Finding, study: Study, runs: Runs, options: StudyOptions, laboratory: Laboratory,
                    comparable: bool) -> Finding:
    """The finding, with what ensembles of its networks reach and whether that is what was aimed at."""
    labels, test = label_rows(study.rows), laboratory.data_for(options.base).y_test
    kept = [[laboratory.store.load_array(study.trials(options.base, seed)[k], LOGITS) for seed in range(options.seeds)]
            for k in range(len(study.rows))]
    reached = {k: ensemble_accuracies([logits for logits in own if logits is not None], test)
               for k, own in enumerate(kept) if any(logits is not None for logits in own)}
    if not reached:
        return finding
    best = max(reached, key=lambda k: float(np.mean(values_of(runs[k][1], "val_accuracy"))))
    figure = steps_figure(f"{study.name}-steps", "Test accuracy of each setting: light points are seeds, with their "
                          "mean and standard deviation; diamonds are the ensemble of all seeds' networks.",
                          [(labels[k], values_of(runs[k][1], "test_accuracy"), reached[k][ENSEMBLE])
                           for k in reached])
    return replace(finding, claims=finding.claims + aim_claims(study.aims, labels[best], reached[best], comparable),
                   tables=(*finding.tables, ensemble_table([labels[k] for k in reached], list(reached.values()))),
                   figures=(figure, *finding.figures))
