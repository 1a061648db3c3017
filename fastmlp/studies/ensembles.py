"""What ensembles of a study's networks reach on the test part: of seeds, of cycles' ends, of both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.evaluation import count_votes, majority, mean_scores
from fastmlp.population import mean_and_interval
from fastmlp.studies.findings import FAILS, HOLDS, UNDECIDED, Claim, Table

Logits = npt.NDArray[Any]       # (cycles' ends, n, C) of one trial on the test part; the trained network is the last

SINGLE, ENSEMBLE = "single network", "all seeds"
COLUMNS = ("setting", SINGLE, "its cycles' ends", ENSEMBLE, "all seeds, by vote", "all seeds' cycles' ends")


def ensemble_accuracies(trials: Sequence[Logits], labels: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Accuracies of one setting's networks and of their ensembles, in the order of `COLUMNS`.

    Parameters
    ----------
    trials : sequence of ndarray (S, n, C)
        Logits of each seed's networks at the ends of S cycles.
    labels : ndarray (n,)

    Returns
    -------
    dict
        By column: a list over seeds for the first two, then numbers.

    Examples
    --------
    >>> right, wrong = np.array([[[3.0, 0.0]]]), np.array([[[0.0, 1.0]]])
    >>> ensemble_accuracies([right, wrong], np.array([0]))["all seeds"]
    1.0
    """
    def accuracy(logits: Logits, vote: bool = False) -> float:
        scores = mean_scores(logits)
        decided = majority(count_votes(logits), scores) if vote else scores.argmax(axis=-1)
        return float(np.mean(decided == labels))

    last = np.stack([logits[-1] for logits in trials])
    return dict(zip(COLUMNS[1:], (
        [accuracy(logits[-1:]) for logits in trials], [accuracy(logits) for logits in trials],
        accuracy(last), accuracy(last, vote=True), accuracy(np.concatenate(trials)),
    ), strict=True))


def ensemble_table(names: Sequence[str], accuracies: Sequence[dict[str, Any]]) -> Table:
    """A row for each setting; what there is one of for each seed has mean and deviation."""
    def written(value: Any) -> str:
        if not isinstance(value, list):
            return f"{value:.4f}"
        found = mean_and_interval(value)
        return f"{found['mean']:.4f}" + (f" ± {found['std']:.4f}" if found["std"] is not None else "")

    rows = tuple((name, *(written(value) for value in own.values()))
                 for name, own in zip(names, accuracies, strict=True))
    return Table("Test accuracy of single networks and of ensembles, which average probabilities", COLUMNS, rows)


def aim_claims(aims: dict[str, float], best: str, accuracies: dict[str, Any], comparable: bool) -> tuple[Claim, ...]:
    """Whether the setting that is best by validation reaches what was aimed at."""
    single, ensemble = float(np.mean(accuracies[SINGLE])), float(accuracies[ENSEMBLE])
    return tuple(Claim(f"{what} reaches a test accuracy of {aims[key]}.",
                       (HOLDS if value >= aims[key] else FAILS) if comparable else UNDECIDED,
                       f"{value:.4f} with {best}, the best setting by mean validation accuracy.")
                 for what, key, value in (("A single network (the mean over seeds)", "single", single),
                                          ("The ensemble of all seeds", "ensemble", ensemble)))
