"""The members of a population: how their settings differ, and how that is written on the command line."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmlp.errors import ConfigError

if TYPE_CHECKING:
    from fastmlp.config import TrainOptions

SWEEPABLE = ("l2", "lr", "lr_min", "lr_max", "init", "init_std")
MOST_MEMBERS = 10_000       # more is a slip of the finger
NOTATION = ("NAME=VALUE,VALUE,... or NAME=FIRST..LAST:COUNT, where each value is the same factor above the one before "
            "or, if FIRST is 0, the same step")


@dataclass(frozen=True)
class Sweep:
    """One option and the values it shall take."""

    name: str
    values: tuple[Any, ...]

    def __str__(self) -> str:
        return f"{self.name}={','.join(map(str, self.values))}"


@dataclass(frozen=True)
class Member:
    """One network of a population.

    Attributes
    ----------
    options : TrainOptions
        Its own: seed and swept values are in their places.
    setting : int
        Number of its combination of swept values; members that differ in seed or fold only share it.
    fold : int or None
        The part of the data that it is validated on, in cross-validation.
    """

    options: TrainOptions
    setting: int = 0
    fold: int | None = None


def parse_sweep(text: str) -> Sweep:
    """`l2=0,1e-4..1e-2:3` as a sweep.

    Raises
    ------
    ValueError
        The text is none; the message says what it should be.

    Examples
    --------
    >>> parse_sweep("l2=0,1e-4..1e-2:3").values
    (0.0, 0.0001, 0.001, 0.01)
    >>> parse_sweep("lr-min=0..0.2:3").values, parse_sweep("init=he,xavier").values
    ((0.0, 0.1, 0.2), ('he', 'xavier'))
    """
    name, equals, listed = text.partition("=")
    name = name.strip().replace("-", "_")
    if not equals:
        raise ValueError(f"a sweep: {NOTATION}")
    if name not in SWEEPABLE:
        raise ValueError(f"a sweep of one of {', '.join(SWEEPABLE)}")
    pieces = [piece.strip() for piece in listed.split(",")]
    values: list[Any] = pieces if name == "init" else [value for piece in pieces for value in _numbers(piece)]
    if len(set(values)) < len(values) or not all(value != "" for value in values):
        raise ValueError("a sweep of different values")
    return Sweep(name, tuple(values))


def _numbers(piece: str) -> list[float]:
    """One number, or those of a range."""
    first, dots, rest = piece.partition("..")
    try:
        if not dots:
            return [float(piece)]
        last, _, count = rest.partition(":")
        low, high, n = float(first), float(last), int(count)
    except ValueError:
        raise ValueError(f"a sweep: {NOTATION}") from None
    if not (math.isfinite(low) and math.isfinite(high) and 2 <= n <= MOST_MEMBERS) or low == high:
        raise ValueError(f"a range of 2 to {MOST_MEMBERS} values between two different numbers")
    space = np.geomspace if low * high > 0 else np.linspace
    return [float(f"{value:.12g}") for value in space(low, high, n)]        # 0.001, not 0.0010000000000000002


def combinations(sweeps: Sequence[Sweep]) -> list[dict[str, Any]]:
    """Every combination of the swept values, the last sweep's changing fastest; one empty one without sweeps.

    Raises
    ------
    ConfigError
        An option is swept twice.
    """
    names = [sweep.name for sweep in sweeps]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"--sweep {name} is there twice: give all its values in one")
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*(sweep.values for sweep in sweeps))]


def describe(setting: Mapping[str, Any]) -> str:
    """A setting in a few words: `l2=0.001, init=he`."""
    return ", ".join(f"{name}={value:.6g}" if isinstance(value, float) else f"{name}={value}"
                     for name, value in setting.items())


def make_members(options: TrainOptions, settings: Sequence[Mapping[str, Any]], n_seeds: int = 1,
                 folds: int | None = None) -> list[Member]:
    """Every setting with every seed, counted from that of the options on, and every fold.

    Raises
    ------
    ConfigError
        The options' own checks, for the setting that they name; or there are more than 10,000 members.
    """
    n = len(settings) * n_seeds * (folds or 1)
    if not 1 <= n <= MOST_MEMBERS:
        raise ConfigError(f"{len(settings)} settings, {n_seeds} seeds and {folds or 1} folds are {n} members: choose "
                          f"values that make 1 to {MOST_MEMBERS}")
    return [Member(replace(own, seed=own.seed + k), number, fold)
            for number, own in enumerate(_with_setting(options, setting) for setting in settings)
            for k in range(n_seeds) for fold in (range(folds) if folds else [None])]


def own_members(options: TrainOptions, given: Sequence[Mapping[str, Any]],
                folds: int | None = None) -> tuple[list[Member], list[dict[str, Any]]]:
    """Members of which each has settings of its own, a seed among them; and what settings there are but for the seed.

    Raises
    ------
    ConfigError
        The options' own checks.
    """
    names = dict.fromkeys(name for own in given for name in own if name != "seed")
    settings: list[dict[str, Any]] = []
    members = []
    for own in given:
        setting = {name: own.get(name, getattr(options, name)) for name in names}
        if setting not in settings:
            settings.append(setting)
        single = replace(_with_setting(options, setting), seed=own.get("seed", options.seed))
        members += [Member(single, settings.index(setting), fold) for fold in (range(folds) if folds else [None])]
    return members, settings


def _with_setting(options: TrainOptions, setting: Mapping[str, Any]) -> TrainOptions:
    try:
        return replace(options, **setting)
    except ConfigError as error:
        raise ConfigError(f"the setting {describe(setting)} cannot be: {error}") from error
