"""From finished trials to what a study finds: tables, figures, reported figures beside ours, claims decided."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fastmlp.population import mean_and_interval
from fastmlp.studies.catalogue import MEASURES, Row, Study
from fastmlp.studies.claims import Runs, decide
from fastmlp.studies.figures import curves_figure, scatter_figure
from fastmlp.studies.findings import Comparison, Figure, Finding, Table
from fastmlp.studies.interval_figures import comparison_figure
from fastmlp.studies.reading import ours, spread
from fastmlp.studies.store import Result

#: How options are written, after the reports: lambda is the penalty's factor, eta the learning rate.
WRITTEN: dict[str, Callable[[Any], str]] = {
    "hidden": lambda widths: "-".join(map(str, widths)) or "no hidden layer",
    "batch_norm": lambda on: "batch norm" if on else "no batch norm",
    "l2": lambda value: f"λ {value:g}",
    "lr": lambda value: f"η {value:g}",
    "lr_min": lambda value: f"η from {value:g}",
    "lr_max": lambda value: f"η to {value:g}",
    "init": lambda kind: {"he": "He", "xavier": "Xavier", "normal": "normal"}.get(kind, kind),
    "init_std": lambda value: f"σ {value:g}",
    "cycles": lambda n: f"{n} cycle{'s'[:n != 1]}",
}
WORDS = {"test_accuracy": "test accuracy", "val_accuracy": "validation accuracy", "train_accuracy": "training accuracy",
         "train_loss": "training loss", "val_loss": "validation loss", "val_cost": "validation cost",
         "test_loss": "test loss"}
#: What a figure that a row states is compared with. Of "the final loss" a report does not say what it is of: its values
#: are too high for a loss at such accuracies, and near the cost.
COMPARED = {"test_accuracy": "test_accuracy", "course_test_accuracy": "test_accuracy", "val_accuracy": "val_accuracy",
            "train_accuracy": "train_accuracy", "loss": "val_cost"}
BEST_SHARE = 0.25       # of a scatter's settings, by validation accuracy, that make the chosen range


def find(study: Study, runs: Runs, *, comparable: bool) -> Finding:
    """What a study's trials show.

    Parameters
    ----------
    study : Study
        What was asked.
    runs : sequence of (Row, list of Result)
        Its settings, each with its trials, one a seed.
    comparable : bool
        Whether the trials are those of the report: on its data, and as long.
    """
    labels = label_rows([row for row, _ in runs])
    comparisons = _comparisons(study, runs, labels, comparable)
    figures = _curves(study, runs, labels) + _scatter(study, runs)
    stated = [comparison for comparison in comparisons if "accuracy" in comparison.what]
    if len(stated) > 1:
        figures.append(comparison_figure(f"{study.name}-reported", "Reported accuracies beside ours.", stated))
    diverged = sum(result.status != "finished" for _, results in runs for result in results)
    notes = study.notes if comparable else ()
    if diverged:
        notes += (f"{diverged} of the trials diverged; they are left out of the means.",)
    return Finding(study.name, study.title, study.asked, tuple(comparisons),
                   tuple(decide(claim, runs, comparable=comparable) for claim in study.claims),
                   tuple(_tables(runs, labels)), tuple(figures), notes)


def label_rows(rows: Sequence[Row]) -> list[str]:
    """What tells the settings of a study apart, in a few words each; what all share is left out."""
    shared = set.intersection(*({(name, str(value)) for name, value in _described(row).items()} for row in rows))
    return [row.label or ", ".join(WRITTEN[name](value) if name in WRITTEN else f"{name} {value}"
                      for name, value in _described(row).items() if (name, str(value)) not in shared) or "the setting"
            for row in rows]


def _described(row: Row) -> dict[str, Any]:
    own = {name: row.options[name] for name in (*WRITTEN, *row.options) if name in row.options}
    return own if row.options.get("init") == "normal" or "init_std" not in own else {
        name: value for name, value in own.items() if name != "init_std"}


def values_of(results: Sequence[Result], name: str) -> list[float]:
    """One score of the trials that finished."""
    return [result.scores[name] for result in results if name in result.scores]


def compare(what: str, reported: float, values: Sequence[float], *, comparable: bool, remark: str = "") -> Comparison:
    """A stated figure beside ours; whether it lies within our spread is only said of the same trials."""
    found = mean_and_interval(values)
    comparison = Comparison(what, reported, found["mean"], found["std"], len(values), None, remark)
    interval = spread(comparison) if comparable else None
    return comparison if interval is None else replace(
        comparison, lies_within=bool(interval[0] <= reported <= interval[1]))


def _comparisons(study: Study, runs: Runs, labels: Sequence[str], comparable: bool) -> list[Comparison]:
    comparisons = []
    for (row, results), label in zip(runs, labels, strict=True):
        for name in MEASURES:
            if name in row.reported:
                ours_is = COMPARED[name]
                by = ", the course's own figure" if name.startswith("course") else ""
                comparisons.append(compare(f"{label}: {WORDS[ours_is]}{by}", row.reported[name],
                                           values_of(results, ours_is), comparable=comparable, remark=row.note))
    if study.best and any(values_of(results, "val_accuracy") for _, results in runs):
        best = max(range(len(runs)), key=lambda k: np.mean(values_of(runs[k][1], "val_accuracy") or [0.0]))
        comparisons.append(compare(
            f"the best by validation, {labels[best]}: test accuracy", study.best["test_accuracy"],
            values_of(runs[best][1], "test_accuracy"), comparable=comparable, remark=study.best["remark"]))
    return comparisons


def _tables(runs: Runs, labels: Sequence[str]) -> list[Table]:
    """Every setting's scores, mean and deviation over seeds."""
    rows = [(label, *(_written(values_of(results, name)) for name in WORDS))
            for (_, results), label in zip(runs, labels, strict=True)]
    return [Table("Mean and standard deviation over seeds", ("setting", *WORDS.values()), tuple(rows))] if rows else []


def _written(values: Sequence[float]) -> str:
    found = mean_and_interval(values)
    return "diverged" if found["mean"] is None else ours(
        Comparison("", 0.0, found["mean"], found["std"], len(values), None)).rpartition(" (")[0]


def _curves(study: Study, runs: Runs, labels: Sequence[str]) -> list[Figure]:
    shown = [(label, [result.history for result in results if result.status == "finished"])
             for (row, results), label in zip(runs, labels, strict=True) if study.has_curve(row)]
    shown = [(label, histories) for label, histories in shown if histories]
    if not shown:
        return []
    return [curves_figure(f"{study.name}-curves", "Means over seeds, with bands of one standard deviation; training "
                          "part dashed, validation part solid.", shown)]


def _scatter(study: Study, runs: Runs) -> list[Figure]:
    """Accuracy against an option, for settings with and without batch norm if there are both."""
    if not study.scatter:
        return []
    x = study.scatter
    measure = "val_accuracy" if any("val_accuracy" in row.reported for row, _ in runs) else "test_accuracy"
    groups: dict[str, list[tuple[float, list[float]]]] = {}
    for row, results in runs:
        if values_of(results, measure):
            name = WRITTEN["batch_norm"](row.options.get("batch_norm", True))
            groups.setdefault(name, []).append((row.options[x], values_of(results, measure)))
    if not groups:
        return []
    stated = [(row.options[x], row.reported[measure]) for row, _ in runs if measure in row.reported]
    chosen = best_range([(row.options[x], values_of(results, "val_accuracy")) for row, results in runs])
    caption = (f"{WORDS[measure].capitalize()} against λ. The shaded range, {chosen[0]:g} to {chosen[1]:g}, is that of "
               f"the best quarter of the settings by mean validation accuracy.")
    return [scatter_figure(f"{study.name}-scatter", caption, groups, chosen, "λ", WORDS[measure], reported=stated)]


def best_range(points: Sequence[tuple[float, Sequence[float]]]) -> tuple[float, float]:
    """From the lowest to the highest x of the best quarter (at least two) by mean.

    Examples
    --------
    >>> best_range([(1e-4, [0.4]), (1e-3, [0.6]), (1e-2, [0.5]), (1e-1, [0.1])])
    (0.001, 0.01)
    """
    ranked = sorted((point for point in points if len(point[1])), key=lambda point: -float(np.mean(point[1])))
    best = [x for x, _ in ranked[:max(2, round(BEST_SHARE * len(ranked)))]]
    return min(best), max(best)


def group_runs(rows: Sequence[Row], by_seed: Sequence[Sequence[Result | None]]) -> list[tuple[Row, list[Result]]]:
    """Rows with their results, from the results by seed and row."""
    return [(row, [results[k] for results in by_seed if results[k] is not None])    # type: ignore[misc]
            for k, row in enumerate(rows)]

