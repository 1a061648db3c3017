"""Pictures of a training run: its curves, its first layer's weights, and the errors of its gradients.

Colours are those of Okabe and Ito, which stay apart for colour-blind readers; where two lines share a panel they differ
in dash as well. Figures are made without `pyplot`, so that a program's own figures and backend stay as they are.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.errors import DataError
from fastmlp.files import write_atomically

BLUE, VERMILLION, GREY = "#0072B2", "#D55E00", "#595959"
_DOTS_PER_INCH = 100
_MOST_IMAGES = 100
_GRADIENT_BAR = 1e-6  # above it a relative error in float64 means a wrong gradient
_LOWEST_ERROR = 1e-16  # where errors of exactly zero are drawn on the logarithmic axis


def plot_curves(
    history: Mapping[str, Sequence[float]],
    path: str | Path,
    *,
    title: str | None = None,
    lr_curve: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
) -> None:
    """Draw loss, cost, accuracy and learning rate against the update step.

    Parameters
    ----------
    history : mapping of str to sequence
        Columns of one length n >= 1: `step`, `lr`, and `loss`, `cost`, `accuracy` each with `train_` and `val_` before
        it. A column that is absent, or in which no value is finite, is left out.
    path : str or Path
        The picture, 1200 x 900 pixels; its ending gives the format, as .png, .svg or .pdf.
    title : str, optional
        The line above the panels.
    lr_curve : (steps, rates), optional
        The schedule in more detail than one value an epoch, so that its shape is seen.

    Raises
    ------
    OutputError
        The picture cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "curves.png"
    >>> plot_curves({"step": [0, 100], "lr": [1e-5, 1e-3], "train_loss": [2.3, 1.8], "val_loss": [2.3, 1.9]}, target)
    >>> target.exists()
    True
    """
    from matplotlib.ticker import MaxNLocator

    figure = make_figure()
    step = np.asarray(history["step"], dtype=np.float64)
    marker = "o" if step.size <= 30 else ""  # a line of many points is clearer without; one point is nothing without
    panels = figure.subplots(2, 2).ravel()
    for axes, quantity in zip(panels, ("loss", "cost", "accuracy"), strict=False):
        for part, word, colour, dash in (("train", "training", BLUE, "-"), ("val", "validation", VERMILLION, "--")):
            values = np.asarray(history.get(f"{part}_{quantity}", []), dtype=np.float64)
            measured = np.isfinite(values)
            if measured.any():
                axes.plot(step[measured], values[measured], dash, marker=marker, markersize=4, color=colour, label=word)
        if axes.lines:
            axes.legend(frameon=False)
    for axes, heading, label in zip(
        panels,
        ("Loss", "Cost: loss + L2 penalty", "Accuracy", "Learning rate"),
        ("loss", "cost", "accuracy (fraction correct)", "learning rate"),
        strict=True,
    ):
        axes.set_title(heading)
        axes.set_xlabel("update step")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        if step.size == 1:
            axes.set_xlim(step[0] - 1, step[0] + 1)
    if lr_curve is None:
        panels[3].plot(step, np.asarray(history["lr"], dtype=np.float64), marker=marker, markersize=4, color=BLUE)
    else:
        panels[3].plot(*lr_curve, color=BLUE)
    panels[3].ticklabel_format(axis="y", style="scientific", scilimits=(-2, 3))
    if title:
        figure.suptitle(plain_text(title), parse_math=False)
    save_figure(figure, path)


def plot_weights(
    w: npt.NDArray[Any], image_shape: tuple[int, int, int], classes: Sequence[Any], path: str | Path
) -> None:
    """Draw the weights of each unit of a layer that sees images as an image.

    Parameters
    ----------
    w : ndarray (D, H)
        One column a unit. Each is scaled by itself so that its smallest weight is black (0) and its largest full (1).
    image_shape : (channels, height, width)
        How the D inputs are laid out; 1 channel is drawn in grey, 3 in red, green and blue.
    classes : sequence of C names
        The titles of the images where H == C; otherwise units are numbered from 0.
    path : str or Path
        The picture, 1200 x 900 pixels, with the first 100 units at most; its ending gives the format.

    Raises
    ------
    DataError
        The weights do not fit the images, hold values that are not finite, or the images have neither 1 nor 3 channels.
    OutputError
        The picture cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "weights.png"
    >>> plot_weights(np.random.default_rng(0).normal(size=(64, 2)), (1, 8, 8), ["even", "odd"], target)
    >>> target.exists()
    True
    """
    units = w.shape[1]
    images = weight_images(w, image_shape)[:_MOST_IMAGES]
    shown = len(images)

    figure = make_figure()
    columns = min(shown, math.ceil(math.sqrt(shown * 4 / 3)))  # as wide as the figure is
    titles = [str(name) for name in classes] if units == len(classes) else [str(unit) for unit in range(shown)]
    panels = figure.subplots(math.ceil(shown / columns), columns, squeeze=False).ravel()
    for axes in panels:
        axes.set_axis_off()
    for axes, image, name in zip(panels, images, titles, strict=False):
        axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        name = plain_text(name)
        axes.set_title(name if len(name) <= 14 else f"{name[:13]}…", fontsize=12 if columns <= 6 else 7,
                       parse_math=False)
    some = "" if shown == units else f", {shown} of {units}"
    figure.suptitle(f"Weights of the first layer's units, each scaled to 0..1{some}")
    save_figure(figure, path)


def weight_images(w: npt.NDArray[Any], image_shape: tuple[int, int, int]) -> npt.NDArray[np.float64]:
    """The weights of each unit as an image, scaled by itself so that its smallest weight is 0 and its largest 1.

    Parameters
    ----------
    w : ndarray (D, H)
        One column a unit.
    image_shape : (channels, height, width)
        How the D inputs are laid out.

    Returns
    -------
    ndarray (H, height, width, channels), float64

    Raises
    ------
    DataError
        The weights do not fit the images, hold values that are not finite, or the images have neither 1 nor 3 channels.

    Examples
    --------
    >>> weight_images(np.array([[1.0], [2.0], [3.0], [2.0]]), (1, 2, 2))[0, :, :, 0].tolist()
    [[0.0, 0.5], [1.0, 0.5]]
    """
    inputs, units = w.shape
    if inputs != math.prod(image_shape) or image_shape[0] not in (1, 3):
        raise DataError(f"weights of {inputs} inputs cannot be drawn as images (channels, height, width) {image_shape}")
    if not np.isfinite(w).all():
        raise DataError("weights that are NaN or infinite cannot be drawn as images")
    images = np.moveaxis(w.T.reshape(units, *image_shape).astype(np.float64), 1, -1)
    lowest = images.min(axis=(1, 2, 3), keepdims=True)
    span = images.max(axis=(1, 2, 3), keepdims=True) - lowest
    scaled: npt.NDArray[np.float64] = (images - lowest) / np.where(span > 0, span, 1)
    return scaled


def plot_gradient_errors(errors: Mapping[str, npt.ArrayLike], path: str | Path, title: str) -> None:
    """Draw the relative errors of gradients as one box a parameter, against the bar of 1e-6 that they must stay below.

    Parameters
    ----------
    errors : mapping of str to 1-D array
        Relative errors by parameter, as {"layer 1 w": ...}. Zeros are drawn at 1e-16; values that are not finite
        cannot be drawn and are counted in the label.
    path : str or Path
        The picture, 1200 x 900 pixels; its ending gives the format.
    title : str
        The line above it.

    Notes
    -----
    A box spans the middle half of the errors with a line at the median; its whiskers reach to the smallest and the
    largest, because the largest is what decides. A parameter with an error above the bar is drawn in another colour.

    Raises
    ------
    OutputError
        The picture cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "errors.png"
    >>> plot_gradient_errors({"w": [1e-9, 3e-9, 0.0], "b": [2e-10]}, target, "Gradients of 64-10-3")
    >>> target.exists()
    True
    """
    figure = make_figure()
    draw_gradient_errors(figure, errors).set_title(plain_text(title), parse_math=False)
    save_figure(figure, path)


def draw_gradient_errors(figure: Any, errors: Mapping[str, npt.ArrayLike]) -> Any:
    """Fill a figure with boxes of relative errors, as `plot_gradient_errors` says; returns the axes."""
    from matplotlib.patches import Patch

    axes = figure.subplots()
    labels, boxes, colours = [], [], []
    for label, values in errors.items():
        error = np.asarray(values, dtype=np.float64).ravel()
        finite = error[np.isfinite(error)]
        labels.append(label if finite.size == error.size else f"{label} ({error.size - finite.size} not finite)")
        boxes.append(np.maximum(finite, _LOWEST_ERROR))
        good = finite.size == error.size and bool((finite <= _GRADIENT_BAR).all())
        colours.append(BLUE if good else VERMILLION)
    drawn = axes.boxplot(boxes, whis=(0, 100), showfliers=False, widths=0.5, patch_artist=True,
                         medianprops={"color": "black"})
    for box, colour in zip(drawn["boxes"], colours, strict=True):
        box.set(facecolor=colour, alpha=0.6)
    axes.set_xticks(range(1, len(labels) + 1), labels, **({"rotation": 60, "ha": "right"} if len(labels) > 6 else {}))
    bar = axes.axhline(_GRADIENT_BAR, color=GREY, linestyle="--", label="the bar, 1e-6")
    figure.legend(
        handles=[bar, Patch(color=BLUE, alpha=0.6, label="all errors below the bar"),
                 Patch(color=VERMILLION, alpha=0.6, label="errors above the bar or not finite")],
        loc="outside lower center", ncols=3, frameon=False,
    )
    axes.set_yscale("log")
    axes.set_ylim(_LOWEST_ERROR / 3, max([_GRADIENT_BAR, *(box.max() for box in boxes if box.size)]) * 10)
    axes.set_ylabel(f"relative error (zeros drawn at {_LOWEST_ERROR:.0e})")
    axes.grid(axis="y", alpha=0.3)
    return axes


def plain_text(text: str) -> str:
    """The user's own words as they can be drawn: file names may hold bytes that are no text."""
    return text.encode("utf-8", "replace").decode()


def make_figure() -> Any:
    """An empty picture of 1200 x 900 pixels."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(rect=(0.005, 0.005, 0.99, 0.985))  # a margin around it all
    return Figure(figsize=(12, 9), dpi=_DOTS_PER_INCH, layout=layout)


def save_figure(figure: Any, path: str | Path) -> None:
    """Write a picture, whole or not at all."""
    picture = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")      # a name in a script that the font lacks: boxes will do
        figure.savefig(picture, format=Path(path).suffix.lstrip(".") or "png", dpi=_DOTS_PER_INCH)
    write_atomically(path, picture.getvalue())
