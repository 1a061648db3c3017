"""The studies' pictures: curves over seeds, scatters, intervals beside reported figures, boxes, images of weights.

Each function returns a `Figure` that depends on nothing but the arguments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.errors import DataError
from fastmlp.plots import draw_gradient_errors, plain_text, weight_images
from fastmlp.population_plots import COLOURS, draw_curve, mean_curve
from fastmlp.studies.findings import Figure
from fastmlp.studies.pictures import WIDTH, handle, png_of, sheet, svg_of

_MARKERS = "os^DvP*X"   # one a group, so that colours are not all that tells them apart
_HEADINGS = {"loss": ("Loss", "loss"), "cost": ("Cost: loss + L2 penalty", "cost"),
             "accuracy": ("Accuracy", "accuracy (fraction correct)"), "lr": ("Learning rate", "learning rate")}


def curves_figure(name: str, caption: str, runs: Sequence[tuple[str, Sequence[Mapping[str, Sequence[float]]]]],
                  measures: Sequence[str] = ("loss", "cost", "accuracy", "lr")) -> Figure:
    """Draw how runs were trained: means over seeds and bands of one standard deviation, a colour for each run.

    The validation part is solid, the training part dashed.

    Parameters
    ----------
    name, caption : str
        As of `Figure`.
    runs : sequence of (label, histories)
        At most eight; `histories` has one mapping for each seed, with columns `step`, `lr`, and `loss`, `cost`,
        `accuracy` each with `train_` and `val_` before it. Absent columns and values not finite are not drawn.
    measures : sequence of {"loss", "cost", "accuracy", "lr"}
        The panels, in this order.

    Raises
    ------
    DataError
        There is nothing to draw, or more than eight runs.

    Examples
    --------
    >>> history = {"step": [0, 100], "train_loss": [2.3, 1.8], "val_loss": [2.3, 1.9]}
    >>> curves_figure("loss", "Loss over steps.", [("50-50", [history, history])], ["loss"]).svg[:5]
    '<?xml'
    """
    from matplotlib.ticker import MaxNLocator

    _check_colours(name, len(runs))
    rows = (len(measures) + 1) // 2
    figure = sheet(3.1 * max(rows, 1) + 0.5)
    panels = figure.subplots(max(rows, 1), min(max(len(measures), 1), 2), squeeze=False).ravel()
    for axes, measure in zip(panels, measures, strict=False):
        parts = (("lr", "-"),) if measure == "lr" else ((f"train_{measure}", "--"), (f"val_{measure}", "-"))
        for (_, histories), colour in zip(runs, COLOURS, strict=False):
            joined = _joined(histories, [column for column, _ in parts])
            for column, dash in parts:
                draw_curve(axes, mean_curve(joined, range(len(histories)), column), colour, None, dash, marker="",
                           opacity=0.15)
        heading, label = _HEADINGS[measure]
        axes.set_title(heading)
        axes.set_xlabel("update step")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        if measure == "lr":
            axes.ticklabel_format(axis="y", style="scientific", scilimits=(-2, 3))
    if not any(axes.lines for axes in panels):
        raise DataError(f"figure {name}: no run has a finite value of {', '.join(measures) or 'any measure'} to draw")
    for axes in panels[len(measures):]:
        axes.set_visible(False)
    handles = [handle(label, color=colour) for (label, _), colour in zip(runs, COLOURS, strict=False)]
    if set(measures) - {"lr"}:
        handles += [handle("validation", color="#595959"), handle("training", color="#595959", linestyle="--")]
    _legend_below(figure, handles)
    return Figure(name, caption, svg=svg_of(figure))


def scatter_figure(name: str, caption: str, groups: Mapping[str, Sequence[tuple[float, Sequence[float]]]],
                   chosen_range: tuple[float, float] | None = None, x_label: str = "", y_label: str = "",
                   log_x: bool = True, *, reported: Sequence[tuple[float, float]] = ()) -> Figure:
    """Draw a measure against an option: light points for seeds, their means with bars of one standard deviation.

    Parameters
    ----------
    name, caption : str
        As of `Figure`.
    groups : mapping of str to sequence of (x, values over seeds)
        A colour and a marker for each label, at most eight; values that are not finite are not drawn.
    chosen_range : (low, high), optional
        Of x, shaded.
    x_label, y_label : str
    log_x : bool
        Whether the horizontal axis is logarithmic.
    reported : sequence of (x, y)
        Figures that a report states, drawn as crosses.

    Raises
    ------
    DataError
        There is nothing to draw, more than eight groups, or an x of 0 or below on a logarithmic axis.

    Examples
    --------
    >>> groups = {"coarse": [(1e-4, [0.51, 0.52, 0.50]), (1e-2, [0.49, 0.48, 0.50])]}
    >>> scatter_figure("l2", "Accuracy against lambda.", groups, (1e-5, 1e-3), "lambda", "accuracy").name
    'l2'
    """
    _check_colours(name, len(groups))
    figure = sheet(4.6)
    axes = figure.subplots()
    if chosen_range is not None:
        axes.axvspan(*chosen_range, color="#56B4E9", alpha=0.18, linewidth=0, label="chosen range")
    everywhere = [x for points in groups.values() for x, _ in points] + [x for x, _ in reported]
    if log_x and any(x <= 0 for x in everywhere):
        raise DataError(f"figure {name}: {min(everywhere):g} cannot be drawn on a logarithmic axis; pass log_x=False")
    drawn = 0
    for (label, points), colour, marker in zip(groups.items(), COLOURS, _MARKERS, strict=False):
        finite = sorted((x, values[np.isfinite(values)]) for x, values in
                        ((x, np.asarray(values, np.float64)) for x, values in points) if np.isfinite(values).any())
        if not finite:
            continue
        drawn += 1
        axes.plot(np.concatenate([np.full(len(values), x) for x, values in finite]),
                  np.concatenate([values for _, values in finite]), marker, color=colour, markersize=5, alpha=0.3,
                  markeredgewidth=0)
        axes.errorbar([x for x, _ in finite], [values.mean() for _, values in finite],
                      [values.std(ddof=1) if len(values) > 1 else 0.0 for _, values in finite], fmt=marker,
                      color=colour, capsize=3, markersize=6, label=f"{plain_text(label)}: mean ± std, seeds light")
    if reported:
        axes.plot(*zip(*reported, strict=True), "x", color="black", markersize=8, markeredgewidth=1.8, label="reported")
    if not drawn and not reported:
        raise DataError(f"figure {name}: no group has a finite value to draw")
    if log_x:
        axes.set_xscale("log")
    axes.set_xlabel(plain_text(x_label), parse_math=False)
    axes.set_ylabel(plain_text(y_label), parse_math=False)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return Figure(name, caption, svg=svg_of(figure))


def box_figure(name: str, caption: str, boxes: Mapping[str, npt.ArrayLike]) -> Figure:
    """Draw relative errors of gradients as a box for each tensor on a logarithmic axis, with the bar at 1e-6.

    Parameters
    ----------
    name, caption : str
        As of `Figure`.
    boxes : mapping of str to array
        Relative errors by tensor; see `fastmlp.plots.plot_gradient_errors`.

    Raises
    ------
    DataError
        There are no errors.

    Examples
    --------
    >>> box_figure("gradients", "Relative errors.", {"layer 1 w": [1e-9, 3e-9], "layer 1 b": [2e-10]}).name
    'gradients'
    """
    if not any(np.size(errors) for errors in boxes.values()):
        raise DataError(f"figure {name}: there are no errors to draw boxes of")
    figure = sheet(5.0)
    draw_gradient_errors(figure, boxes)
    return Figure(name, caption, svg=svg_of(figure))


def images_figure(name: str, caption: str, rows: Sequence[
        tuple[str, npt.NDArray[Any], tuple[int, int, int], Sequence[Any]]]) -> Figure:
    """Draw weights as images, a row for each label, each image scaled by itself; as PNG with 128 colours.

    Parameters
    ----------
    name, caption : str
        As of `Figure`.
    rows : sequence of (label, weights, image_shape, classes)
        `weights` of shape (D, C), one column for each of the C `classes`; `image_shape` is (channels, height, width).

    Raises
    ------
    DataError
        There are no weights, or they do not fit their shape; see `fastmlp.plots.weight_images`.

    Examples
    --------
    >>> weights = np.random.default_rng(0).normal(size=(64, 2))
    >>> images_figure("weights", "Weights.", [("lambda 0.1", weights, (1, 8, 8), ["even", "odd"])]).png[1:4]
    b'PNG'
    """
    most = max((weights.shape[1] for _, weights, _, _ in rows), default=0)
    if not most:
        raise DataError(f"figure {name}: there are no weights to draw")
    figure = sheet(rows_height := (WIDTH - 1.3) / most * len(rows) + 0.4)
    figure.set_layout_engine("none")
    panels = figure.subplots(len(rows), most, squeeze=False, gridspec_kw={
        "left": 1.3 / WIDTH, "right": 0.995, "bottom": 0.005, "top": 1 - 0.3 / rows_height, "wspace": 0.05,
        "hspace": 0.05})
    for axes in panels.ravel():
        axes.set_axis_off()
    before: list[Any] = []
    for line, (label, weights, shape, classes) in zip(panels, rows, strict=True):
        line[0].text(-0.08, 0.5, plain_text(label), transform=line[0].transAxes, ha="right", va="center", fontsize=9,
                     parse_math=False)
        for axes, image in zip(line, weight_images(weights, shape), strict=False):
            axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        if list(classes) != before:       # headings over the first row, and again where the classes change
            for axes, word in zip(line, classes, strict=False):
                axes.set_title(plain_text(str(word)), fontsize=8, pad=3, parse_math=False)
        before = list(classes)
    return Figure(name, caption, png=png_of(figure))


def _check_colours(name: str, labels: int) -> None:
    if labels > len(COLOURS):
        raise DataError(f"figure {name}: {labels} labels are more than the {len(COLOURS)} colours that can be told "
                        f"apart; draw fewer in a figure")


def _legend_below(figure: Any, handles: Sequence[Any]) -> None:
    """A legend of as many columns, at most four, as the picture is wide enough for."""
    for columns in range(min(4, len(handles)), 0, -1):
        legend = figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False)
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
            break
        legend.remove()


def _joined(histories: Sequence[Mapping[str, Sequence[float]]], columns: Sequence[str]) -> dict[str, Any]:
    """Histories of single runs below one another, as `mean_curve` takes them; what is absent is NaN."""
    joined: dict[str, list[float]] = {name: [] for name in ("member", "step", *columns)}
    for seed, history in enumerate(histories):
        length = len(history["step"])
        joined["member"] += [seed] * length
        for column in ("step", *columns):
            joined[column] += list(history.get(column, [np.nan] * length))
    return joined
