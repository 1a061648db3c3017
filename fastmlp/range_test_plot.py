"""The picture of a range test: loss and accuracy against the learning rate, and the bounds that follow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fastmlp.plots import BLUE, GREY, VERMILLION, make_figure, plain_text, save_figure


def plot_lr_range(columns: Mapping[str, Sequence[float | None]], path: str | Path, *, title: str,
                  bounds: tuple[float, float], log_axis: bool = True) -> None:
    """Draw loss and validation accuracy of a range test against the learning rate, and the bounds that it suggests.

    Parameters
    ----------
    columns : mapping of str to sequence
        Of one length: `lr`, `loss`, `smoothed_loss` and `val_accuracy`, which is None or NaN where it was not measured.
    path : str or Path
        The picture, 1200 x 900 pixels; its ending gives the format.
    title : str
        The line above the panels.
    bounds : (lr_min, lr_max)
        NaN where there are none.
    log_axis : bool, default True
        Whether rates have a logarithmic axis.

    Raises
    ------
    OutputError
        The picture cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "lr-range.png"
    >>> plot_lr_range({"lr": [0.01, 0.1], "loss": [2.3, 1.8], "smoothed_loss": [2.1, 2.0], "val_accuracy": [None, 0.3]},
    ...               target, title="digits", bounds=(0.02, 0.1))
    >>> target.exists()
    True
    """
    figure = make_figure()
    upper, lower = figure.subplots(2, 1, sharex=True)
    values = {name: np.asarray(column, np.float64) for name, column in columns.items()}
    values = {name: np.where(np.isfinite(column), column, np.nan) for name, column in values.items()}
    lr, smoothed, accuracy = values["lr"], values["smoothed_loss"], values["val_accuracy"]
    measured = np.isfinite(accuracy)
    upper.plot(lr[measured], accuracy[measured], "o-", markersize=4, color=VERMILLION, label="mean over members")
    lower.plot(lr, values["loss"], color=BLUE, alpha=0.25, label="each step, median over members")
    lower.plot(lr, smoothed, color=BLUE, label="smoothed over steps")
    if np.isfinite(smoothed).any():         # what diverges would hide all else
        low, start = np.nanmin(smoothed), smoothed[0]
        lower.set_ylim(low - 0.2 * (start - low) - 0.01, start + 0.3 * (start - low) + 0.01)
    for axes, label in ((upper, "validation accuracy (fraction correct)"), (lower, "training loss")):
        for rate, name, dash in zip(bounds, ("lr_min", "lr_max"), ("--", "-."), strict=True):
            if math.isfinite(rate):
                axes.axvline(rate, color=GREY, linestyle=dash, label=f"{name} {rate:g}")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    if log_axis:
        lower.set_xscale("log")
    lower.set_xlabel("learning rate")
    figure.suptitle(plain_text(title), parse_math=False)
    save_figure(figure, path)
