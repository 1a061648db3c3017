"""What is measured while a network trains."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

Row = dict[str, Any]


@dataclass
class History:
    """The measurements of a training: a row at step 0, after every evaluated epoch, and at the end.

    Attributes
    ----------
    rows : list of dict
        `step, epoch, lr`, and for each evaluated part `<part>_loss, <part>_cost, <part>_accuracy`; numbers for one
        network, arrays (M,) for a population, whose rows also say which members were `frozen` (see `Trainer`).
    epoch_seconds, epoch_examples : list
        Time in training steps, evaluation left out, and examples seen, of every epoch.
    epoch_is_whole : list of bool
        Whether the epoch passed over all the data.
    """

    rows: list[Row] = field(default_factory=list)
    epoch_seconds: list[float] = field(default_factory=list)
    epoch_examples: list[int] = field(default_factory=list)
    epoch_is_whole: list[bool] = field(default_factory=list)

    def add_epoch(self, seconds: float, examples: int, *, goes_on: bool, n: int) -> None:
        """Note the steps of an epoch of n examples, or, if it `goes_on`, further steps of the last one."""
        if goes_on:
            seconds, examples = seconds + self.epoch_seconds.pop(), examples + self.epoch_examples.pop()
            self.epoch_is_whole.pop()
        self.epoch_seconds.append(seconds)
        self.epoch_examples.append(examples)
        self.epoch_is_whole.append(examples == n)

    def go_back(self, step: int, epochs: int) -> None:
        """Forget what came after so many steps, which were so many whole epochs."""
        self.rows = [row for row in self.rows if row["step"] <= step]
        for column in (self.epoch_seconds, self.epoch_examples, self.epoch_is_whole):
            del column[epochs:]

    def column(self, name: str) -> list[Any]:
        """One measurement over all rows; NaN where it was not made."""
        return [row.get(name, float("nan")) for row in self.rows]

    @property
    def seconds_per_epoch(self) -> float:
        """Median over the whole epochs (over all, if none is whole) of the seconds spent in training steps."""
        whole = [s for s, is_whole in zip(self.epoch_seconds, self.epoch_is_whole, strict=True) if is_whole]
        return float(np.median(whole or self.epoch_seconds)) if self.epoch_seconds else 0.0
