"""The studies: what `reports.toml` says of each, and the trials that it takes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from fastmlp.config import TrainOptions
from fastmlp.errors import ConfigError
from fastmlp.options import plain
from fastmlp.seeds import Stream, generator
from fastmlp.trials import ONLY_AT_THE_END

ALL = "all"
HALF_CYCLE = 5          # epochs from the lowest to the highest rate, as in most of the reports
QUICK_HALF_CYCLE, QUICK_EPOCHS, QUICK_DRAWN = 1, 4, 6
#: Figures that a row may state; what else it holds are options, a note, and the half cycle.
MEASURES = ("test_accuracy", "course_test_accuracy", "val_accuracy", "train_accuracy", "loss")
#: Options that say where and how a trial is computed, not what: a trial is the same whatever they are.
CIRCUMSTANCES = ("data_dir", "data_memory", "evaluate_every", "device", "kernels", "threads", "precision", "keep_data",
                 "members", "sweep", "folds", "order", "out", "quiet")


@dataclass(frozen=True)
class Trial:
    """One network to be trained.

    Attributes
    ----------
    options : TrainOptions
        How, but for the step size.
    half_cycle : int
        The step size of a cyclical schedule, in epochs.
    """

    options: TrainOptions
    half_cycle: int = HALF_CYCLE

    @property
    def key(self) -> str:
        """A name made from all that decides about its numbers, and differs from the default."""
        default, own = plain(TrainOptions()), plain(self.options)
        own = {name: value for name, value in own.items() if value != default[name] and name not in CIRCUMSTANCES}
        text = json.dumps({**own, "half_cycle": self.half_cycle}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:20]

    def resolved(self, n_train: int) -> TrainOptions:
        """Its options with the step size that so many training examples make."""
        if self.options.schedule != "cyclical":
            return self.options
        steps = max(1, self.half_cycle * (n_train // self.options.batch_size))
        return dataclasses.replace(self.options, step_size=steps)


@dataclass(frozen=True)
class Row:
    """One setting of a study, which is trained with every seed.

    Attributes
    ----------
    options : dict
        Options of `fastmlp train` that the study sets for it.
    half_cycle : int
        In epochs.
    reported : dict
        Names of `MEASURES` and the figures that the report states for them.
    note : str
        What else it says of this setting.
    label : str
        What it is called; by default by what tells it from the others.
    """

    options: dict[str, Any]
    half_cycle: int = HALF_CYCLE
    reported: dict[str, float] = field(default_factory=dict)
    note: str = ""
    label: str = ""


@dataclass(frozen=True)
class Study:
    """A study as `reports.toml` describes it; see there."""

    name: str
    title: str
    asked: str
    rows: tuple[Row, ...] = ()
    curves: bool = False
    curves_of: dict[str, Any] = field(default_factory=dict)
    weights: bool = False
    scatter: str = ""
    best: dict[str, Any] = field(default_factory=dict)
    claims: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    ensembles: bool = False
    aims: dict[str, float] = field(default_factory=dict)
    gradients: tuple[dict[str, Any], ...] = ()
    gradient_claim: dict[str, Any] = field(default_factory=dict)

    def trials(self, base: TrainOptions, seed: int) -> list[Trial]:
        """A trial for each row, with this seed."""
        return [Trial(dataclasses.replace(
            base, **row.options, seed=seed, evaluate_every=1 if self.has_curve(row) else ONLY_AT_THE_END),
            row.half_cycle) for row in self.rows]

    def for_tables(self) -> Study:
        """The same for data that are no images: without the settings that move images."""
        return dataclasses.replace(self, rows=tuple(
            row for row in self.rows if not row.options.get("mirror") and not row.options.get("shift")))

    def has_curve(self, row: Row) -> bool:
        """Whether the course of this row's training is shown."""
        return self.curves or (bool(self.curves_of) and matches(row.options, self.curves_of))


def matches(options: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether options have all these values."""
    return all(options.get(name) == value for name, value in wanted.items())


@cache
def _written() -> list[dict[str, Any]]:
    """What `reports.toml` holds, in its order."""
    studies: list[dict[str, Any]] = tomllib.loads(
        (files("fastmlp.studies") / "reports.toml").read_text(encoding="utf-8"))["study"]
    return studies


def study_names() -> list[str]:
    """The names of all studies, in the order in which they are shown.

    Examples
    --------
    >>> study_names()[:2]
    ['002-linear', '004-gradient-boxplots']
    """
    return [study["name"] for study in _written()]


def find_studies(wanted: Sequence[str], *, data: str = "cifar10", quick: bool = False) -> list[Study]:
    """The studies of these names, each once, in the order in which all are shown.

    Parameters
    ----------
    wanted : sequence of str
        Whole names; names without the report's number, which stand for every report's study of that name; or "all".
    data : str, default "cifar10"
        The data set they are for: what belongs to CIFAR-10's files is left out for others.
    quick : bool, default False
        Short trainings and few drawn values.

    Raises
    ------
    ConfigError
        There is no such study.

    Examples
    --------
    >>> [study.name for study in find_studies(["depth", "001-wider"])]
    ['000-depth', '001-depth', '001-wider', '003-depth']
    """
    chosen: set[str] = set()
    for word in wanted:
        fitting = [name for name in study_names() if word in (ALL, name, name.partition("-")[2] or name)]
        if not fitting:
            raise ConfigError(f"study {word!r} is unknown: choose from those of fastmlp study --list, or all")
        chosen.update(fitting)
    return [_study(written, data == "cifar10", quick) for written in _written() if written["name"] in chosen]


def _study(written: Mapping[str, Any], is_cifar10: bool, quick: bool) -> Study:
    common = {**written.get("options", {}), **(written.get("cifar10", {}) if is_cifar10 else {})}
    half_cycle = written.get("half_cycle", HALF_CYCLE)
    rows = [_row(row, common, half_cycle, quick) for row in written.get("rows", ())]
    rows += [_row({drawn: value}, common, half_cycle, quick) for drawn, value in _drawn(written, quick)]
    own = {name: written[name] for name in ("name", "title", "asked", "curves", "curves_of", "weights", "scatter",
                                            "best", "gradient_claim", "ensembles", "aims") if name in written}
    return Study(**own, rows=tuple(rows), claims=tuple(written.get("claims", ())),
                 notes=tuple(written.get("notes", ())),
                 gradients=tuple(written.get("gradients", ())))


def _row(written: Mapping[str, Any], common: Mapping[str, Any], half_cycle: int, quick: bool) -> Row:
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in {**common, **written}.items()
               if name not in (*MEASURES, "note", "label", "half_cycle")}
    half_cycle = written.get("half_cycle", half_cycle)
    if quick:
        half_cycle = QUICK_HALF_CYCLE
        cycles = 2 if options.get("snapshots") else 1
        options |= {"epochs": QUICK_EPOCHS} if "epochs" in options else {"cycles": cycles}
    return Row(options, half_cycle, {name: written[name] for name in MEASURES if name in written},
               written.get("note", ""), written.get("label", ""))


def _drawn(written: Mapping[str, Any], quick: bool) -> list[tuple[str, float]]:
    """Values drawn evenly in the logarithm; the same ones for every seed of the networks."""
    if "drawn" not in written:
        return []
    drawn = written["drawn"]
    exponents = generator(0, Stream.SEARCH).uniform(np.log10(drawn["low"]), np.log10(drawn["high"]), drawn["n"])
    return [(drawn["name"], float(f"{10 ** exponent:.6g}")) for exponent in
            exponents[:QUICK_DRAWN if quick else None]]
