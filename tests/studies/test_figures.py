"""Figures of studies: drawn, deterministic, small, and refused in one sentence where there is nothing to draw."""

import io
import math
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from fastmlp.errors import DataError
from fastmlp.studies import figures, interval_figures
from fastmlp.studies.findings import Comparison

HISTORY = {"step": [0, 100, 200], "lr": [0.0, 0.1, 0.0], "train_loss": [2.3, 1.9, 1.7], "val_loss": [2.3, 2.0, 1.8],
           "train_accuracy": [0.1, 0.3, 0.4], "val_accuracy": [0.1, 0.3, math.nan]}
OTHER = HISTORY | {"val_loss": [2.5, 2.2, 2.0]}
COMPARISONS = (Comparison("50-50: accuracy", 0.53, 0.525, 0.002, 5, True),
               Comparison("9 layers $_{: accuracy", 0.6, 0.5, 0.002, 5, False, "why"),
               Comparison("diverged", 0.1, None, None, 0, None), Comparison("one seed", 0.5, 0.5, None, 1, None))
WEIGHTS = np.random.default_rng(0).normal(size=(3072, 10))

MADE = {
    "curves": lambda: figures.curves_figure("curves", "c", [("with", [HISTORY, OTHER]), ("without", [HISTORY])]),
    "scatter": lambda: figures.scatter_figure("scatter", "c", {"coarse": [(1e-4, [0.5, 0.6, math.nan]), (1.0, [])]},
                                              (1e-5, 1e-3), "lambda", "accuracy", reported=[(1e-3, 0.55)]),
    "comparison": lambda: interval_figures.comparison_figure("comparison", "c", COMPARISONS),
    "steps": lambda: interval_figures.steps_figure("steps", "c", [("base", [0.5, 0.52], 0.55), ("$more", [0.6], 0.6)]),
    "box": lambda: figures.box_figure("box", "c", {"layer 1 w": np.array([1e-9, 1e-5]), "layer 1 b": [0.0]}),
    "images": lambda: figures.images_figure("images", "c", [
        (f"lambda {k}", WEIGHTS, (3, 32, 32), [f"class {c}" for c in range(10)]) for k in range(5)]),
}


@pytest.fixture
def drawn(monkeypatch):
    """The figures as Matplotlib has them, for a look inside."""
    sheets, make = [], figures.sheet
    for module in (figures, interval_figures):
        monkeypatch.setattr(module, "sheet", lambda height: sheets.append(make(height)) or sheets[-1])
    return sheets


def words(figure):
    return "\n".join("".join(text.itertext()) for text in ET.fromstring(figure.svg).iter() if text.tag.endswith("text"))


@pytest.mark.parametrize("kind", MADE)
def test_a_figure_is_named_captioned_small_and_equal_whenever_it_is_drawn(kind):
    figure, again = MADE[kind](), MADE[kind]()
    assert (figure.name, figure.caption) == (kind, "c")
    assert figure == again
    if kind == "images":
        assert figure.svg is None
        assert figure.png.startswith(b"\x89PNG")
        assert len(figure.png) < 150_000
    else:
        assert figure.png is None
        assert ET.fromstring(figure.svg).tag.endswith("svg")
        assert "<!--" not in figure.svg
        assert len(figure.svg) < 60_000


def test_curves_are_means_over_seeds_with_training_dashed_and_a_colour_for_each_run(drawn):
    figure = MADE["curves"]()
    loss, cost, accuracy, rate = drawn[0].axes
    assert [(line.get_color(), line.get_linestyle()) for line in loss.lines] == [
        ("#0072B2", "--"), ("#0072B2", "-"), ("#D55E00", "--"), ("#D55E00", "-")]
    np.testing.assert_allclose(loss.lines[1].get_ydata(), [2.4, 2.1, 1.9])
    assert len(loss.collections) == 1                        # the one quantity that differs between seeds has a band
    assert not cost.lines
    assert len(accuracy.lines[1].get_ydata()) == 2           # what is not finite is left out
    assert len(rate.lines) == 2
    for word in ("with", "without", "validation", "training"):
        assert word in words(figure).splitlines()
    assert all(axes.get_legend() is None for axes in drawn[0].axes), "a legend inside a panel covers its curves"


def test_measures_choose_the_panels_and_an_odd_number_leaves_no_empty_one(drawn):
    figures.curves_figure("c", "c", [("one", [HISTORY])], ("loss", "accuracy", "lr"))
    assert [axes.get_title() for axes in drawn[0].axes if axes.get_visible()] == ["Loss", "Accuracy", "Learning rate"]


def test_a_scatter_has_seeds_means_the_chosen_range_and_reported_figures(drawn):
    figure = MADE["scatter"]()
    seeds, mean, *_, reported = (line for line in drawn[0].axes[0].lines if len(line.get_ydata()))
    assert seeds.get_ydata().tolist() == [0.5, 0.6]
    assert seeds.get_alpha() < 0.5
    assert list(mean.get_ydata()) == [pytest.approx(0.55)]
    assert reported.get_marker() == "x"
    assert drawn[0].axes[0].get_xscale() == "log"
    assert "chosen range" in words(figure)


def test_steps_have_seeds_their_mean_and_the_ensemble(drawn):
    MADE["steps"]()
    lines = drawn[0].axes[0].lines
    assert lines[0].get_xdata().tolist() == [0.5, 0.52]
    assert lines[1].get_xdata() == pytest.approx([0.51])
    assert [line.get_xdata().tolist() for line in lines if line.get_marker() == "D"] == [[0.55], [0.6]]
    assert [label.get_text() for label in drawn[0].axes[0].get_yticklabels()] == ["base", "$more"]


def test_a_comparison_has_our_interval_and_a_diamond_that_is_full_only_within(drawn):
    figure = MADE["comparison"]()
    lines = drawn[0].axes[0].lines
    np.testing.assert_allclose(lines[0].get_xdata(), [0.525 - 0.016, 0.525 + 0.016])
    np.testing.assert_allclose(lines[1].get_xdata(), [0.523, 0.527])
    full = [line.get_markerfacecolor() != "none" for line in lines if line.get_marker() == "D"]
    assert full == [True, False, False, False]
    for comparison in COMPARISONS:
        assert comparison.what in words(figure)


def test_boxes_stand_beside_the_bar(drawn):
    MADE["box"]()
    axes = drawn[0].axes[0]
    assert axes.get_yscale() == "log"
    assert any(list(line.get_ydata()) == [1e-6, 1e-6] for line in axes.lines)


def test_images_are_scaled_each_by_itself(drawn):
    figure = figures.images_figure("w", "c", [("a", np.array([[0.0, 10], [2, 20], [1, 30], [1, 20]]), (1, 2, 2), "ab")])
    shown = [axes.images[0].get_array() for axes in drawn[0].axes if axes.images]
    assert [(image.min(), image.max()) for image in shown] == [(0, 1), (0, 1)]
    from PIL import Image
    with Image.open(io.BytesIO(figure.png)) as picture:
        assert picture.width == 900


@pytest.mark.parametrize("draw", [
    lambda: figures.curves_figure("empty", "c", []),
    lambda: figures.curves_figure("empty", "c", [("a", [])]),
    lambda: figures.curves_figure("empty", "c", [("a", [HISTORY])], ()),
    lambda: figures.curves_figure("empty", "c", [("a", [{"step": [0], "train_loss": [math.nan]}])], ["loss"]),
    lambda: figures.curves_figure("empty", "c", [(str(k), [HISTORY]) for k in range(9)]),
    lambda: figures.scatter_figure("empty", "c", {}),
    lambda: figures.scatter_figure("empty", "c", {"a": [(1.0, [math.nan])]}),
    lambda: figures.scatter_figure("empty", "c", {"a": [(0.0, [0.5])]}),
    lambda: figures.scatter_figure("empty", "c", {str(k): [(1.0, [0.5])] for k in range(9)}),
    lambda: interval_figures.comparison_figure("empty", "c", []),
    lambda: interval_figures.steps_figure("empty", "c", []),
    lambda: figures.box_figure("empty", "c", {}),
    lambda: figures.box_figure("empty", "c", {"w": []}),
    lambda: figures.images_figure("empty", "c", []),
])
def test_what_cannot_be_drawn_is_refused_in_one_sentence_that_names_the_figure(draw):
    with pytest.raises(DataError, match=r"^figure empty: [^\n]+[^.\n]$"):
        draw()


@pytest.mark.parametrize("labels", [["50-50", "9-5"], [f"50-30-20-20-10-10-10-10, {norm}, sigma {std}" for norm in
                                                     ("batch norm", "no batch norm") for std in (0.1, 0.001)]])
def test_a_legend_is_no_wider_than_its_picture(monkeypatch, labels):
    drawn = []
    monkeypatch.setattr(figures, "svg_of", lambda figure: drawn.append(figure) or "<svg/>")
    figures.curves_figure("curves", "c", [(label, [HISTORY]) for label in labels])
    figure, = drawn
    legend, = figure.legends
    assert legend.get_window_extent().width <= figure.bbox.width
    assert len(legend.get_texts()) == len(labels) + 2
