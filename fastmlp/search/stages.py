"""From coarse to fine: how many trials a stage has, and the space of the next one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fastmlp.search.space import Choices, Dimension, Range, Space

#: Of all finished trials, those that the next stage is drawn around ...
BEST_PART = 0.25
#: ... and at least so many: the span of fewer is luck.
FEWEST_BEST = 3


def stage_trials(total: int, before: int, stage: int, stages: int) -> int:
    """How many trials a stage has: an equal share of what earlier stages have left.

    Examples
    --------
    >>> stage_trials(40, 0, 1, 2), stage_trials(40, 20, 2, 2), stage_trials(5, 0, 1, 2)
    (20, 20, 3)
    """
    return max(0, -(-(total - before) // (stages - stage + 1)))


def narrowed(given: Space, space: Space, points: Sequence[Mapping[str, Any]], accuracies: Sequence[float],
             in_stage: int) -> dict[str, Dimension]:
    """The space around the best quarter of all finished trials.

    A range spans their values, widened on either side by half of a step (the stage's range divided by its trials, which
    is the usual distance of two neighbours), but never beyond what was given. Choices are those that occur among them.

    Parameters
    ----------
    given : Space
        That of the first stage.
    space : Space
        That of the stage that ends.
    points : sequence of mapping
        Of the finished trials of all stages.
    accuracies : sequence of float
        Theirs.
    in_stage : int
        How many of them belong to the stage that ends.

    Examples
    --------
    >>> space = {"l2": Range(1e-4, 1.0, True)}
    >>> points = [{"l2": value} for value in (1e-4, 1e-3, 1e-2, 1e-1)]
    >>> print(narrowed(space, space, points, [0.1, 0.4, 0.5, 0.3], 4)["l2"])
    0.000316228..0.316228
    """
    n_best = min(len(points), max(FEWEST_BEST, math.ceil(BEST_PART * len(points))))
    best = [points[k] for k in sorted(range(len(points)), key=lambda k: (-accuracies[k], k))[:n_best]]
    return {name: _narrowed(given[name], values, [point[name] for point in best], in_stage)
            for name, values in space.items()}


def _narrowed(given: Dimension, values: Dimension, best: Sequence[Any], in_stage: int) -> Dimension:
    if isinstance(values, Choices) or isinstance(given, Choices):
        return Choices(tuple(label for label in given.ends if label in best))       # type: ignore[misc]
    half = (values.position(values.high) - values.position(values.low)) / max(1, in_stage) / 2
    positions = [values.position(value) for value in best]
    low, high = values.value(min(positions) - half), values.value(max(positions) + half)
    if isinstance(given.low, int):
        low, high = math.floor(low), math.ceil(high)
    return Range(max(given.low, low), min(given.high, high), given.log)
