"""Optuna's samplers by name, each trial with a stream of random numbers of its own where the sampler draws any."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np

from fastmlp.errors import MissingExtraError
from fastmlp.search.space import Choices, Dimension, Space
from fastmlp.search.storage import import_optuna, quiet_warnings
from fastmlp.seeds import Stream

#: What some samplers are made with, beside a seed.
DETAILS: dict[str, dict[str, Any]] = {
    "tpe": {"constant_liar": True},     # trials amid training count as bad, so that it looks elsewhere
    "qmc": {"scramble": True, "warn_independent_sampling": False},
    "gp": {}, "random": {},
}
#: Not Optuna's CmaEsSampler: it unpickles its state from the database, and so runs whatever a stranger put there.
CLASSES = {"random": "RandomSampler", "tpe": "TPESampler", "qmc": "QMCSampler", "gp": "GPSampler"}
#: Walk along one sequence of points, which must be the same for all trials of a stage.
SEQUENCES = ("qmc",)
NEEDED = {"gp": "torch"}


def seed_of(seed: int, stage: int, place: int) -> int:
    """A seed for the trial at this place of a stage, so that a trial that is repeated is the same one.

    Examples
    --------
    >>> seed_of(0, 1, 0) != seed_of(0, 1, 1) != seed_of(0, 2, 1)
    True
    """
    return int(np.random.SeedSequence((seed, int(Stream.SEARCH), stage, place)).generate_state(1)[0])


def check_sampler(name: str) -> None:
    """Refuse a sampler that cannot be had.

    Raises
    ------
    MissingExtraError
        It needs a package that is not installed.
    """
    import_optuna()
    if name in NEEDED and find_spec(NEEDED[name]) is None:
        raise MissingExtraError(f"--sampler {name} needs the package {NEEDED[name]}: pip install {NEEDED[name]}")


def make_sampler(name: str, seed: int) -> Any:
    """The sampler of this name."""
    with quiet_warnings():
        return getattr(import_optuna().samplers, CLASSES[name])(seed=seed, **DETAILS[name])


def distributions(space: Space) -> dict[str, Any]:
    """The space in Optuna's words."""
    return {name: _distribution(values) for name, values in space.items()}


def _distribution(values: Dimension) -> Any:
    kinds = import_optuna().distributions
    if isinstance(values, Choices):
        return kinds.CategoricalDistribution(values.labels)
    kind = kinds.IntDistribution if isinstance(values.low, int) else kinds.FloatDistribution
    return kind(values.low, values.high, log=values.log)
