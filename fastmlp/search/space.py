"""What is searched: ranges and choices of options, how they are written, and what a point of the space means.

A choice is kept as it is written (`50-50` for `--hidden 50 50`): so it stands in tables, pictures and databases.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastmlp.config import NETWORK, TRAINING, TrainOptions
from fastmlp.errors import ConfigError
from fastmlp.options import flag, rules
from fastmlp.sweeps import describe

#: Where and how precisely to compute, and who is trained with which luck, is not for accuracies to decide.
NOT_SEARCHED = ("seed", "dtype", "device", "kernels", "threads", "precision", "keep_data", "evaluate_every")
SEARCHABLE = tuple(name for name, rule in rules(TrainOptions).items()
                   if rule.group in (NETWORK, TRAINING) and name not in NOT_SEARCHED)
NOTATION = ("NAME=LOW..HIGH (by factors or, if LOW is 0 or :linear stands behind, by steps) or NAME=CHOICE,CHOICE,..., "
            "as l2=1e-5..1e-1, dropout=0.1..0.5:linear or hidden=50-50,100-50")
MOST_CORNERS = 4096     # of a space that are tried before it is searched
SWITCH = {"on": True, "true": True, "off": False, "false": False}


@dataclass(frozen=True)
class Range:
    """All numbers from low to high.

    Attributes
    ----------
    low, high : float or int
        Both belong to it.
    log : bool
        Whether equal factors count alike; otherwise equal differences do.
    """

    low: float
    high: float
    log: bool

    def __str__(self) -> str:
        return f"{self.low:.6g}..{self.high:.6g}" + (":linear" if self.low > 0 and not self.log else "")

    @property
    def ends(self) -> tuple[float, ...]:
        """Where it could contradict other options."""
        return self.low, self.high

    def __contains__(self, value: Any) -> bool:
        return bool(self.low <= value <= self.high)

    def position(self, value: float) -> float:
        """Where a value lies on the axis that counts."""
        return math.log(value) if self.log else float(value)

    def value(self, position: float) -> float:
        """The value at a position."""
        return math.exp(position) if self.log else position


@dataclass(frozen=True)
class Choices:
    """Some values, as they are written."""

    labels: tuple[str, ...]

    def __str__(self) -> str:
        return ",".join(self.labels)

    def __contains__(self, label: Any) -> bool:
        return label in self.labels

    @property
    def ends(self) -> tuple[str, ...]:
        """Where it could contradict other options: everywhere."""
        return self.labels


Dimension = Range | Choices
Space = Mapping[str, Dimension]


@dataclass(frozen=True)
class Searched:
    """One option and what it may become."""

    name: str
    values: Dimension

    def __str__(self) -> str:
        return f"{self.name}={self.values}"


def parse_searched(text: str) -> Searched:
    """`l2=1e-5..1e-1` as an option to search.

    Raises
    ------
    ValueError
        The text is none; the message says what it should be.

    Examples
    --------
    >>> parse_searched("l2=1e-5..1e-1").values
    Range(low=1e-05, high=0.1, log=True)
    >>> parse_searched("batch-size=50..200:linear").values, parse_searched("hidden=50-50,none").values
    (Range(low=50, high=200, log=False), Choices(labels=('50-50', 'none')))
    """
    name, equals, listed = text.partition("=")
    name = name.strip().replace("-", "_")
    if not equals:
        raise ValueError(f"something to search: {NOTATION}")
    if name not in SEARCHABLE:
        raise ValueError(f"a search of one of {', '.join(SEARCHABLE)}")
    if ".." in listed:
        return Searched(name, _range(name, listed))
    labels = tuple(piece.strip() for piece in listed.split(","))
    values = []
    for label in labels:
        try:
            values.append(value_of(name, label))
        except ValueError:
            raise ValueError(f"a search: {label!r} is no value of {name}") from None
    if len(set(values)) < len(values):
        raise ValueError("a search of different values")
    return Searched(name, Choices(labels))


def _range(name: str, text: str) -> Range:
    first, _, rest = text.partition("..")
    last, colon, scale = rest.partition(":")
    number = rules(TrainOptions)[name].parse
    if number not in (int, float) or rules(TrainOptions)[name].many:
        raise ValueError(f"a search: {name} has no ranges, so list its choices")
    try:
        low, high = number(first), number(last)
    except ValueError:
        raise ValueError(f"a search: {NOTATION}") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError("a range from a lower to a higher number")
    if colon and scale not in ("log", "linear"):
        raise ValueError(f"a range: behind the colon stands log or linear, not {scale}")
    if low <= 0 and scale == "log":
        raise ValueError("a range by factors, which begins above 0")
    return Range(low, high, low > 0 and scale != "linear")


def value_of(name: str, label: Any) -> Any:
    """What the option becomes: numbers are themselves, `50-50` is (50, 50), `on` is True.

    Raises
    ------
    ValueError
        It is no value of the option.

    Examples
    --------
    >>> value_of("hidden", "50-50"), value_of("l2", 0.01), value_of("batch_norm", "off")
    ((50, 50), 0.01, False)
    """
    rule = rules(TrainOptions)[name]
    if not isinstance(label, str):
        return label
    if rule.many:
        return () if label == "none" else tuple(rule.parse(piece) for piece in label.split("-"))
    if rule.parse is bool:
        if label not in SWITCH:
            raise ValueError("on or off")
        return SWITCH[label]
    return rule.parse(label)


def label_of(value: Any) -> str:
    """A value as it is written on the command line.

    Examples
    --------
    >>> label_of((50, 50)), label_of(True), label_of(0.01)
    ('50-50', 'on', '0.01')
    """
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "-".join(map(str, value)) or "none"
    return str(value)


def with_point(base: TrainOptions, point: Mapping[str, Any]) -> TrainOptions:
    """The options at a point of a space.

    Raises
    ------
    ConfigError
        The options' own checks.
    """
    return replace(base, **{name: value_of(name, label) for name, label in point.items()})


def make_space(searched: Sequence[Searched], base: TrainOptions) -> dict[str, Dimension]:
    """The space, all of whose corners are options that can be trained with.

    Raises
    ------
    ConfigError
        An option is searched twice, or a corner contradicts itself.
    """
    space: dict[str, Dimension] = {}
    for one in searched:
        if one.name in space:
            raise ConfigError(f"--space {one.name} is there twice: give all its values in one")
        space[one.name] = one.values
    corners = itertools.product(*(values.ends for values in space.values()))
    for corner in itertools.islice(corners, MOST_CORNERS):
        point = dict(zip(space, corner, strict=True))
        try:
            with_point(base, point)
        except ConfigError as error:
            raise ConfigError(f"--space allows {describe(point)}, which cannot be: {error}") from error
    return space


def plain_space(space: Space) -> dict[str, dict[str, Any]]:
    """The space in JSON's own types, in the same order."""
    return {name: {"choices": list(values.labels)} if isinstance(values, Choices) else
            {"low": values.low, "high": values.high, "log": values.log} for name, values in space.items()}


def space_from_plain(plain: Mapping[str, Mapping[str, Any]]) -> dict[str, Dimension]:
    """What `plain_space` made plain.

    Examples
    --------
    >>> space = {"l2": Range(1e-5, 0.1, True), "init": Choices(("he", "xavier"))}
    >>> space_from_plain(plain_space(space)) == space
    True
    """
    return {name: Choices(tuple(values["choices"])) if "choices" in values else Range(**values)
            for name, values in plain.items()}


def describe_space(space: Space) -> str:
    """The space for people."""
    return ", ".join(f"{flag(name)[2:]} {values}" for name, values in space.items())
