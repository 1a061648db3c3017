"""A picture of a search: accuracy against every option that was searched."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastmlp.errors import DataError
from fastmlp.options import flag
from fastmlp.plots import make_figure, plain_text, save_figure
from fastmlp.population_plots import COLOURS
from fastmlp.search.space import Choices, Space

MARKS = "os^Dv<>P*X"    # of the stages, beside their colours
LINE = 120              # letters that fit beside each other in the whole width


def plot_search(table: Mapping[str, Sequence[Any]], spaces: Sequence[Space], best: int | None, path: str | Path, *,
                title: str) -> None:
    """Draw the validation accuracy of every trial against each option.

    Stages have colours and marks of their own, the ranges of later ones are shaded, the best trial is circled, and
    trials without an accuracy are crosses on the lower edge.

    Parameters
    ----------
    table : mapping of str to sequence
        Columns of one length: `trial`, `stage`, `val_accuracy` (None where a trial diverged or was impossible), and the
        searched options.
    spaces : sequence of Space
        Of every stage.
    best : int or None
        The best trial's number.
    path : str or Path
        The picture, 1200 x 900 pixels; its ending gives the format.
    title : str
        The line above the panels.

    Raises
    ------
    DataError
        No trial has an accuracy.
    OutputError
        The picture cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from fastmlp.search.space import Range
    >>> target = Path(tempfile.mkdtemp()) / "search.png"
    >>> table = {"trial": [0, 1], "stage": [1, 1], "l2": [1e-3, 0.1], "val_accuracy": [0.9, None]}
    >>> plot_search(table, [{"l2": Range(1e-4, 1.0, True)}], 0, target, title="digits")
    >>> target.exists()
    True
    """
    if all(accuracy is None for accuracy in table["val_accuracy"]):
        raise DataError(f"none of {len(table['trial'])} trials has a validation accuracy: there is nothing to draw")
    figure = make_figure()
    columns = math.ceil(math.sqrt(len(spaces[0])))
    panels = figure.subplots(math.ceil(len(spaces[0]) / columns), columns, squeeze=False, sharey=True).ravel()
    for axes, name in zip(panels, spaces[0], strict=False):
        _draw(axes, name, table, spaces, best)
    for axes in panels[len(spaces[0]):]:
        axes.set_visible(False)
    figure.supylabel("validation accuracy (fraction correct)", fontsize="medium")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
    figure.suptitle(textwrap.fill(plain_text(title), LINE), parse_math=False)
    save_figure(figure, path)


def _draw(axes: Any, name: str, table: Mapping[str, Sequence[Any]], spaces: Sequence[Space],
          best: int | None) -> None:
    from matplotlib.ticker import LogFormatter

    given = spaces[0][name]
    labels = given.labels if isinstance(given, Choices) else ()
    # Trials with the same choice stand side by side.
    x = [labels.index(value) + 0.05 * (k % 9 - 4) if labels else value for k, value in enumerate(table[name])]
    for stage in sorted(set(table["stage"])):
        mine = [k for k, accuracy in enumerate(table["val_accuracy"])
                if accuracy is not None and table["stage"][k] == stage]
        axes.plot([x[k] for k in mine], [table["val_accuracy"][k] for k in mine], MARKS[(stage - 1) % len(MARKS)],
                  color=COLOURS[(stage - 1) % len(COLOURS)], markersize=6, alpha=0.8, label=f"stage {stage}")
    lost = [k for k, accuracy in enumerate(table["val_accuracy"]) if accuracy is None]
    if lost:
        axes.plot([x[k] for k in lost], [0] * len(lost), "x", color="#595959", label="diverged or impossible",
                  transform=axes.get_xaxis_transform(), clip_on=False, zorder=3)
    for k, number in enumerate(table["trial"]):
        if number == best:
            axes.plot(x[k], table["val_accuracy"][k], "o", markersize=15, markerfacecolor="none",
                      markeredgecolor="black", markeredgewidth=1.5, label="best")
    for stage, space in enumerate(spaces[1:], 2):
        values, colour = space[name], COLOURS[(stage - 1) % len(COLOURS)]
        spans = ([(labels.index(label) - 0.3, labels.index(label) + 0.3) for label in values.labels]
                 if isinstance(values, Choices) else [(values.low, values.high)])
        for k, (low, high) in enumerate(spans):
            axes.axvspan(low, high, color=colour, alpha=0.12, linewidth=0,
                         label=f"range of stage {stage}" if k == 0 else None)
    if labels:
        crowded = len(labels) * max(map(len, labels)) > LINE / axes.get_gridspec().ncols
        axes.set_xticks(range(len(labels)), labels, rotation=20 if crowded else 0, ha="right" if crowded else "center")
        axes.set_xlim(-0.5, len(labels) - 0.5)
    elif not isinstance(given, Choices):
        axes.set_xscale("log" if given.log else "linear")
        if given.log and isinstance(given.low, int):
            axes.xaxis.set_major_formatter(LogFormatter())
            axes.xaxis.set_minor_formatter(LogFormatter())              # 2, not 2 x 10^0
        margin = 0.03 * (given.position(given.high) - given.position(given.low))
        axes.set_xlim(given.value(given.position(given.low) - margin), given.value(given.position(given.high) + margin))
    axes.set_xlabel(flag(name)[2:])
    axes.grid(alpha=0.3)
