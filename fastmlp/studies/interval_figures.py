"""Pictures of intervals, a row for each setting: ours beside reported figures, and one improvement after another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastmlp.errors import DataError
from fastmlp.plots import plain_text
from fastmlp.population_plots import COLOURS
from fastmlp.studies.findings import Comparison, Figure
from fastmlp.studies.pictures import handle, sheet, svg_of
from fastmlp.studies.reading import spread


def comparison_figure(name: str, caption: str, comparisons: Sequence[Comparison]) -> Figure:
    """Draw a row for each comparison: our mean with a thick bar of ± std and a thin one as wide as our spread counts.

    The reported figure is a diamond: full where it lies within our spread, open where it does not or that is unknown.

    Parameters
    ----------
    name, caption : str
        As of `Figure`.
    comparisons : sequence of Comparison
        Of one unit, because they share an axis.

    Raises
    ------
    DataError
        There are no comparisons.

    Examples
    --------
    >>> rows = [Comparison("50-50: test accuracy", 0.53, 0.525, 0.002, 5, True)]
    >>> comparison_figure("reported", "Reported and ours.", rows).png is None
    True
    """
    if not comparisons:
        raise DataError(f"figure {name}: there is no comparison to draw")
    figure = sheet(0.42 * len(comparisons) + 1.1)
    axes = figure.subplots()
    for row, comparison in enumerate(comparisons):
        if (interval := spread(comparison)) is not None:
            axes.plot(interval, [row, row], color=COLOURS[0], linewidth=1.2, solid_capstyle="butt")
        if comparison.mean is not None:
            std = comparison.std or 0.0
            axes.plot([comparison.mean - std, comparison.mean + std], [row, row], color=COLOURS[0], linewidth=5,
                      alpha=0.55, solid_capstyle="butt")
            axes.plot(comparison.mean, row, "o", color=COLOURS[0], markersize=5)
        # Above its interval, because names are longer than a margin can be.
        axes.text(0.005, row - 0.22, plain_text(comparison.what), transform=axes.get_yaxis_transform(), va="bottom",
                  fontsize=9, parse_math=False)
        axes.plot(comparison.reported, row, "D", markersize=6.5, markeredgecolor=COLOURS[1], markeredgewidth=1.4,
                  markerfacecolor=COLOURS[1] if comparison.lies_within else "none")
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_ylim(len(comparisons) - 0.6, -0.75)
    axes.grid(axis="x", alpha=0.3)
    figure.legend(handles=[
        handle("ours: mean and spread", color=COLOURS[0], marker="o", markersize=5, linewidth=1.2),
        handle("± std", color=COLOURS[0], alpha=0.55, linewidth=5),
        *(handle(word, linestyle="", marker="D", markersize=6.5, markeredgecolor=COLOURS[1], markerfacecolor=inside)
          for word, inside in (("reported, within", COLOURS[1]), ("reported, not within", "none"))),
    ], loc="outside lower center", ncols=4, frameon=False)
    return Figure(name, caption, svg=svg_of(figure))


def steps_figure(name: str, caption: str, rows: Sequence[tuple[str, Sequence[float], float]]) -> Figure:
    """Draw one setting below the other: light points for seeds, mean and deviation, a diamond for their ensemble.

    Parameters
    ----------
    name, caption : str
        As of `Figure`.
    rows : sequence of (label, values over seeds, value of the ensemble)

    Raises
    ------
    DataError
        There are no rows.

    Examples
    --------
    >>> steps_figure("steps", "One by one.", [("wider", [0.5, 0.52], 0.54)]).name
    'steps'
    """
    if not rows:
        raise DataError(f"figure {name}: there is no setting to draw")
    figure = sheet(0.42 * len(rows) + 1.2)
    axes = figure.subplots()
    for row, (_, values, ensemble) in enumerate(rows):
        axes.plot(values, [row] * len(values), "o", color=COLOURS[0], markersize=5, alpha=0.35, markeredgewidth=0)
        axes.errorbar(np.mean(values), row, xerr=np.std(values, ddof=1) if len(values) > 1 else 0.0, fmt="o",
                      color=COLOURS[0], markersize=6, capsize=3)
        axes.plot(ensemble, row, "D", color=COLOURS[1], markersize=6)
    axes.set_yticks(range(len(rows)), [plain_text(label) for label, _, _ in rows], parse_math=False)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel("test accuracy")
    figure.legend(handles=[handle("single networks", color=COLOURS[0], marker="o"),
                           handle("ensemble", linestyle="", color=COLOURS[1], marker="D")],
                  loc="outside lower center", ncols=2, frameon=False)
    return Figure(name, caption, svg=svg_of(figure))
