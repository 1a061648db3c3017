"""The reports' claims, each decided from the figures of its study.

A difference between settings counts where Welch's test finds it at the level of 5 %, from the spread over seeds; what
is smaller leaves a claim undecided, not refuted. Words that are no difference, such as "jumps" or "learns", have the
bars below.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fastmlp.studies.catalogue import Row, matches
from fastmlp.studies.findings import FAILS, HOLDS, UNDECIDED, Claim
from fastmlp.studies.store import Result

Runs = Sequence[tuple[Row, Sequence[Result]]]       # each setting with its finished trials, one a seed

ROUGHER = 3.0           # times the mean change between epochs that makes one curve jump and the other smooth
LESS = 0.5              # of the other's range over initial weights: less sensitive
UNMOVED, MOVED = 0.99, 0.9      # of the loss that there was at first: has not learned, has learned


class NoneFinishedError(Exception):
    """A claim is about settings of which no trial finished."""


def decide(claim: Mapping[str, Any], runs: Runs, *, comparable: bool = True) -> Claim:
    """A claim of `reports.toml` with its verdict; `claim["decide"]` names the function below that finds it.

    Trials on other data than the reports', or shorter ones, leave it undecided: see `comparable`.
    """
    try:
        holds, evidence = RULES[claim["decide"]](claim, runs)
    except NoneFinishedError as error:
        return Claim(claim["text"], UNDECIDED, str(error))
    return Claim(claim["text"], UNDECIDED if holds is None or not comparable else HOLDS if holds else FAILS, evidence)


def surely_larger(one: Sequence[float], other: Sequence[float]) -> bool | None:
    """Whether the first mean is larger; None where that is not sure at the level of 5 % (Welch 1947, two-sided).

    Examples
    --------
    >>> surely_larger([3.0, 3.1], [1.0, 1.1]), surely_larger([1.0], [0.0])
    (True, None)
    """
    from scipy.special import stdtrit

    if min(len(one), len(other)) < 2:
        return None
    difference = float(np.mean(one) - np.mean(other))
    parts = [float(np.var(values, ddof=1)) / len(values) for values in (one, other)]    # of the squared standard error
    if not sum(parts):
        return difference > 0 if difference else None
    freedom = sum(parts) ** 2 / sum(part ** 2 / (len(values) - 1)
                                    for part, values in zip(parts, (one, other), strict=True))
    certain = abs(difference) > float(stdtrit(freedom, 0.975)) * math.sqrt(sum(parts))
    return difference > 0 if certain else None


def together(verdicts: Sequence[bool | None]) -> bool | None:
    """True where all are, False where one is, else None."""
    return False if False in verdicts else None if None in verdicts else True


def _results(runs: Runs, where: Mapping[str, Any]) -> list[Result]:
    """The finished trials of the settings with these options."""
    finished = [result for row, results in runs if matches(row.options, where) for result in results
                if result.status == "finished"]
    if not finished:
        settings = ", ".join(f"{name} {value}" for name, value in where.items())
        raise NoneFinishedError(f"No trial with {settings} finished; they diverged.")
    return finished


def _scores(runs: Runs, where: Mapping[str, Any], name: str) -> list[float]:
    return [result.scores[name] for result in _results(runs, where)]


def _jumps(claim: Mapping[str, Any], runs: Runs) -> tuple[bool | None, str]:
    """Mean change of the validation accuracy between epochs of the second half of the training."""
    def roughness(where: Mapping[str, Any]) -> float:
        curves = [np.asarray(result.history["val_accuracy"]) for result in _results(runs, where)]
        return float(np.mean([np.abs(np.diff(curve[len(curve) // 2:])).mean() for curve in curves]))

    rough, smooth = roughness(claim["rough"]), roughness(claim["smooth"])
    return rough > ROUGHER * smooth, (f"In the second half of the training the validation accuracy changes by "
                                      f"{rough:.4f} an epoch at the higher rate, by {smooth:.4f} at the lower.")


def _gap_narrows(claim: Mapping[str, Any], runs: Runs) -> tuple[bool | None, str]:
    """Training less validation accuracy at the end, beside that of the smallest value."""
    along, where = claim["along"], claim["where"]
    values = sorted({row.options[along] for row, _ in runs if matches(row.options, where)})
    gaps = [[result.scores["train_accuracy"] - result.scores["val_accuracy"]
             for result in _results(runs, {**where, along: value})] for value in values]
    verdict = together([surely_larger(gaps[0], gap) for gap in gaps[1:]])
    return verdict, "The gap is " + ", ".join(
        f"{np.mean(gap):.4f} at {value:g}" for value, gap in zip(values, gaps, strict=True)) + "."


def _less_sensitive(claim: Mapping[str, Any], runs: Runs) -> tuple[bool | None, str]:
    """Range of the mean validation accuracy over initial deviations, with and without batch norm."""
    values = sorted({row.options[claim["along"]] for row, _ in runs})
    ranges = []
    for batch_norm in (True, False):
        means = [np.mean(_scores(runs, {claim["along"]: value, "batch_norm": batch_norm}, "val_accuracy"))
                 for value in values]
        ranges.append(float(max(means) - min(means)))
    return ranges[0] < LESS * ranges[1], (
        f"Over the deviations the mean validation accuracy ranges over {ranges[0]:.4f} with batch norm, over "
        f"{ranges[1]:.4f} without.")


def _ends_higher(claim: Mapping[str, Any], runs: Runs) -> tuple[bool | None, str]:
    results, words, verdicts = _results(runs, claim["where"]), [], []
    for name in ("cost", "loss"):
        columns = [result.history[f"train_{name}"] for result in results]
        first, last = [column[0] for column in columns], [column[-1] for column in columns]
        verdicts.append(surely_larger(last, first))
        words.append(f"{name} from {np.mean(first):.3f} to {np.mean(last):.3f}")
    return together(verdicts), "On the training set the mean goes " + ", ".join(words) + "."


def _same_best(claim: Mapping[str, Any], runs: Runs) -> tuple[bool | None, str]:
    along, verdicts, words = claim["along"], [], []
    values = sorted({row.options[along] for row, _ in runs})
    for batch_norm in (False, True):
        scores = {value: _scores(runs, {along: value, "batch_norm": batch_norm}, "val_accuracy") for value in values}
        best = max(values, key=lambda value: np.mean(scores[value]))
        verdicts.append(best == claim["best"] or
                        (None if surely_larger(scores[best], scores[claim["best"]]) is None else False))
        words.append(f"{best:g} {'with' if batch_norm else 'without'} batch norm ({np.mean(scores[best]):.4f}; at "
                     f"{claim['best']:g} {np.mean(scores[claim['best']]):.4f})")
    return together(verdicts), "The best mean validation accuracy is at " + ", at ".join(words) + "."


def _higher_with_batch_norm(claim: Mapping[str, Any], runs: Runs) -> tuple[bool | None, str]:
    verdicts, words = [], []
    for where in claim["where"]:
        with_it, without = (_scores(runs, {**where, "batch_norm": on}, "val_accuracy") for on in (True, False))
        verdicts.append(surely_larger(with_it, without))
        at = ", ".join(f"{value:g}" for value in where.values())
        words.append(f"at {at} {np.mean(with_it):.4f} with and {np.mean(without):.4f} without")
    return together(verdicts), "Mean validation accuracy: " + "; ".join(words) + "."


def _learn(claim: Mapping[str, Any], runs: Runs) -> tuple[bool | None, str]:
    """Whether every setting's training loss fell by a tenth."""
    left, words = _loss_left(claim, runs)
    return max(left) < MOVED, words


def _do_not_learn(claim: Mapping[str, Any], runs: Runs) -> tuple[bool | None, str]:
    """Whether every setting's training loss stayed where it was, to one in a hundred."""
    left, words = _loss_left(claim, runs)
    return min(left) > UNMOVED, words


def _loss_left(claim: Mapping[str, Any], runs: Runs) -> tuple[list[float], str]:
    left, words = [], []
    for where in claim["where"]:
        columns = [result.history["train_loss"] for result in _results(runs, where)]
        first, last = (float(np.mean([column[place] for column in columns])) for place in (0, -1))
        left.append(last / first)
        words.append(f"from {first:.3f} to {last:.3f} at sigma {where['init_std']:g}")
    return left, "The training loss goes " + ", ".join(words) + "."


RULES: dict[str, Callable[[Mapping[str, Any], Runs], tuple[bool | None, str]]] = {
    "jumps": _jumps, "gap_narrows": _gap_narrows, "less_sensitive": _less_sensitive, "ends_higher": _ends_higher,
    "same_best": _same_best, "higher_with_batch_norm": _higher_with_batch_norm, "learn": _learn,
    "do_not_learn": _do_not_learn,
}
