"""A picture of a population's training: means over members, and bands around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.plots import make_figure, plain_text, save_figure

#: Of Okabe and Ito, with a darker yellow, and a grey for what has no colour of its own.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#B5A900")
DASHES = ("-", "--", "-.", (0, (1, 1)))
_GREY = "#BBBBBB"
_MOST_ROWS = 24         # of settings with a row of their own

Curve = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]


def plot_population(history: Mapping[str, Sequence[float]], settings: Sequence[int], names: Sequence[str],
                    path: str | Path, *, title: str, lr_curve: tuple[npt.NDArray[Any], npt.NDArray[Any]]) -> None:
    """Draw how a population was trained: means over members, and one standard deviation around them.

    Of one setting: loss, cost and accuracy on training and validation part, and the learning rate. Of several: losses
    and validation accuracy, and each member's accuracy at the end, which for one that diverged is its last good epoch.
    The eight settings with the best validation accuracy at the end have colours; the others are grey.

    Parameters
    ----------
    history : mapping of str to sequence
        Columns of one length, a row for each member and evaluation; see `Population.history`.
    settings : sequence of int
        The setting of each member.
    names : sequence of str
        What the settings are called.
    path : str or Path
        The picture, 1200 x 900 pixels; its ending gives the format.
    title : str
        The line above the panels.
    lr_curve : (steps, rates)
        The schedule in more detail than one value an epoch; drawn where there is one setting.

    Raises
    ------
    OutputError
        The picture cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "curves.png"
    >>> history = {"member": [0, 0, 1, 1], "step": [0, 5, 0, 5], "train_loss": [2.3, 1.8, 2.4, 1.9]}
    >>> plot_population(history, [0, 0], [""], target, title="", lr_curve=(np.arange(6.0), np.ones(6)))
    >>> target.exists()
    True
    """
    from matplotlib.ticker import MaxNLocator

    figure = make_figure()
    panels = figure.subplots(2, 2).ravel()
    if len(names) == 1:
        _draw_parts(panels, history)
        panels[3].plot(*lr_curve, color=COLOURS[0])
        panels[3].ticklabel_format(axis="y", style="scientific", scilimits=(-2, 3))
        headings = ("Loss", "Cost: loss + L2 penalty", "Accuracy", "Learning rate")
    else:
        _draw_settings(panels, history, settings, names)
        headings = ("Training loss", "Validation loss", "Validation accuracy", "Validation accuracy at the end")
    for axes, heading in zip(panels, headings, strict=True):
        axes.set_title(heading)
        axes.grid(alpha=0.3)
        if heading != headings[3] or len(names) == 1:
            axes.set_xlabel("update step")
            axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False,
                  title="mean over members, band: one standard deviation")
    figure.suptitle(plain_text(title), parse_math=False)
    save_figure(figure, path)


def _draw_parts(panels: Sequence[Any], history: Mapping[str, Sequence[float]]) -> None:
    """Of one setting loss, cost and accuracy on training and validation part."""
    members = sorted(set(history["member"]))
    for axes, quantity in zip(panels, ("loss", "cost", "accuracy"), strict=False):
        for part, word, colour, dash in (("train", "training", COLOURS[0], "-"),
                                         ("val", "validation", COLOURS[1], "--")):
            draw_curve(axes, mean_curve(history, members, f"{part}_{quantity}"), colour, word, dash)


def _draw_settings(panels: Sequence[Any], history: Mapping[str, Sequence[float]], settings: Sequence[int],
                   names: Sequence[str]) -> None:
    """Of several settings losses and validation accuracy; those without a colour first and below."""
    groups = {k: [member for member, own in enumerate(settings) if own == k] for k in range(len(names))}
    ends = {k: [mean_curve(history, [member], "val_accuracy")[1][-1:] for member in members]
            for k, members in groups.items()}
    final = {k: np.concatenate(values) for k, values in ends.items()}                   # (members,) accuracies
    ranked = sorted(groups, key=lambda k: -final[k].mean() if len(final[k]) else 1.0)
    shown = sorted(ranked[:len(COLOURS)])                               # in the order of the sweep
    others = sorted(ranked[len(COLOURS):])
    for k in [*others, *shown]:
        has_colour = k in shown
        colour = COLOURS[shown.index(k)] if has_colour else _GREY
        dash = DASHES[shown.index(k) % len(DASHES)] if has_colour else "-"
        label = names[k] if has_colour else ("other settings" if k == others[0] else None)
        for axes, quantity in zip(panels, ("train_loss", "val_loss", "val_accuracy"), strict=False):
            draw_curve(axes, mean_curve(history, groups[k], quantity), colour, label, dash, marker="",
                       opacity=0.12 if has_colour else 0.0)
    rows = sorted(ranked[:_MOST_ROWS])
    for row, k in enumerate(rows):
        colour = COLOURS[shown.index(k)] if k in shown else _GREY
        panels[3].plot(final[k], np.full(len(final[k]), row), "o", color=colour, markersize=4, alpha=0.5)
        panels[3].plot(final[k].mean() if len(final[k]) else np.nan, row, "|", color=colour, markersize=14,
                       markeredgewidth=2.5)
    panels[3].set_yticks(range(len(rows)), [names[k] for k in rows], fontsize=8)
    panels[3].invert_yaxis()
    panels[3].set_xlabel("members (dots) and their mean (bar)" + (
        f"; the best {len(rows)} of {len(names)} settings" if len(rows) < len(names) else ""))


def mean_curve(history: Mapping[str, Sequence[float]], members: Sequence[float], name: str) -> Curve:
    """Step, mean and deviation over those of the members that were measured, evaluation by evaluation."""
    of, steps = np.asarray(history["member"]), np.asarray(history["step"], np.float64)
    values = np.asarray(history.get(name, np.full(len(of), np.nan)), np.float64)
    measured = [np.flatnonzero((of == member) & np.isfinite(values)) for member in members]
    longest = max((len(rows) for rows in measured), default=0)
    at = [[rows[k] for rows in measured if len(rows) > k] for k in range(longest)]
    return (np.array([steps[rows].mean() for rows in at]), np.array([values[rows].mean() for rows in at]),
            np.array([values[rows].std(ddof=1) if len(rows) > 1 else 0.0 for rows in at]))


def draw_curve(axes: Any, curve: Curve, colour: str, label: str | None, dash: Any, *, marker: str = "o",
               opacity: float = 0.2) -> None:
    """A line through the means and, where they deviate, a band of one standard deviation around it."""
    step, mean, deviation = curve
    if not len(step):
        return
    axes.plot(step, mean, linestyle=dash, marker=marker if len(step) <= 30 else "", markersize=3, color=colour,
              label=label)
    if deviation.any() and opacity:
        axes.fill_between(step, mean - deviation, mean + deviation, color=colour, alpha=opacity, linewidth=0)
