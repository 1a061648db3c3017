"""Pictures are written, in the size promised, and show what they should."""

import struct
import subprocess
import sys

import numpy as np
import pytest

from fastmlp import plots
from fastmlp.errors import DataError, OutputError


@pytest.fixture
def figures(monkeypatch):
    """The figures that were drawn, for a look inside."""
    made = []
    make = plots.make_figure
    monkeypatch.setattr(plots, "make_figure", lambda: made.append(make()) or made[-1])
    return made


def size(path):
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG")
    return struct.unpack(">II", data[16:24])


def history(rows, *, validation=True):
    step = np.arange(rows) * 100
    columns = {"step": step, "epoch": np.arange(rows), "lr": np.full(rows, 1e-3)}
    for part in ("train", "val") if validation else ("train",):
        columns |= {f"{part}_{name}": np.linspace(2, 1, rows) for name in ("loss", "cost", "accuracy")}
    return columns


def legends(figure):
    return [[text.get_text() for text in axes.get_legend().get_texts()] for axes in figure.axes[:3]]


def test_curves_have_four_panels_with_training_and_validation(tmp_path, figures):
    plots.plot_curves(history(5), tmp_path / "c.png", title="digits")
    assert size(tmp_path / "c.png") == (1200, 900)
    assert len(figures[0].axes) == 4
    assert legends(figures[0]) == [["training", "validation"]] * 3
    colours = {line.get_color() for line in figures[0].axes[0].lines}
    dashes = {line.get_linestyle() for line in figures[0].axes[0].lines}
    assert len(colours) == len(dashes) == 2


@pytest.mark.parametrize("absent", ["no columns", "all NaN", "None"])
def test_curves_without_validation_show_training_only(tmp_path, figures, absent):
    columns = history(3, validation=False)
    if absent != "no columns":
        nothing = [np.nan if absent == "all NaN" else None] * 3
        columns |= {f"val_{name}": nothing for name in ("loss", "cost", "accuracy")}
    plots.plot_curves(columns, tmp_path / "c.png")
    assert legends(figures[0]) == [["training"]] * 3


def test_a_history_of_one_row_is_a_visible_point(tmp_path, figures):
    plots.plot_curves(history(1), tmp_path / "c.png")
    for axes in figures[0].axes:
        assert {line.get_marker() for line in axes.lines} == {"o"}


def test_a_loss_that_became_infinite_does_not_spoil_the_axis(tmp_path, figures):
    plots.plot_curves(history(3) | {"train_loss": [2.0, 1.0, np.inf]}, tmp_path / "c.png")
    assert figures[0].axes[0].get_ylim()[1] < 3


def test_a_dense_learning_rate_curve_replaces_the_histories(tmp_path, figures):
    steps = np.arange(401)
    rates = np.abs(steps % 200 - 100) / 100
    plots.plot_curves(history(3), tmp_path / "c.png", lr_curve=(steps, rates))
    (line,) = figures[0].axes[3].lines
    np.testing.assert_array_equal(line.get_ydata(), rates)


def test_each_unit_is_an_image_laid_out_as_the_data_is_and_scaled_by_itself(tmp_path, figures):
    rng = np.random.default_rng(1)
    w = rng.normal(size=(3 * 4 * 5, 2)).astype(np.float32)
    w[:, 1] *= 100
    plots.plot_weights(w, (3, 4, 5), ["cat", "dog"], tmp_path / "w.png")
    assert size(tmp_path / "w.png") == (1200, 900)
    for axes, name, column in zip(figures[0].axes, ["cat", "dog"], w.T.astype(float), strict=True):
        image = axes.images[0].get_array()
        assert axes.get_title() == name
        assert image.shape == (4, 5, 3)
        assert (image.min(), image.max()) == (0, 1)
        expected = (column - column.min()) / (column.max() - column.min())
        np.testing.assert_allclose(image[1, 2, :], expected.reshape(3, 4, 5)[:, 1, 2])


def test_grey_images_and_unit_numbers_where_units_are_not_classes(tmp_path, figures):
    plots.plot_weights(np.eye(4)[:, :3], (1, 2, 2), ["a", "b"], tmp_path / "w.png")
    drawn = [axes for axes in figures[0].axes if axes.images]
    assert [axes.get_title() for axes in drawn] == ["0", "1", "2"]
    assert drawn[0].images[0].get_array().squeeze().tolist() == [[1, 0], [0, 0]]


def test_at_most_a_hundred_units_are_drawn_and_the_title_says_so(tmp_path, figures):
    plots.plot_weights(np.zeros((1, 101)), (1, 1, 1), [], tmp_path / "w.png")  # all equal: no division by zero either
    assert sum(len(axes.images) for axes in figures[0].axes) == 100
    assert "100 of 101" in figures[0].get_suptitle()


@pytest.mark.parametrize(("w", "shape"), [
    (np.zeros((5, 2)), (1, 2, 2)), (np.zeros((8, 2)), (2, 2, 2)), (np.full((4, 1), np.nan), (1, 2, 2)),
])
def test_weights_that_are_no_images_are_refused(tmp_path, w, shape):
    with pytest.raises(DataError):
        plots.plot_weights(w, shape, [], tmp_path / "w.png")


def test_gradient_errors_are_boxes_and_those_above_the_bar_stand_out(tmp_path, figures):
    errors = {"w": [1e-9, 1e-8], "zero": np.zeros(5), "bad": [1e-9, 2e-6], "nan": [1e-9, np.nan]}
    plots.plot_gradient_errors(errors, tmp_path / "g.png", "check")
    assert size(tmp_path / "g.png") == (1200, 900)
    (axes,) = figures[0].axes
    colours = [box.get_facecolor()[:3] for box in axes.patches]
    assert colours[0] == colours[1] != colours[2] == colours[3]
    assert axes.get_yscale() == "log"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["w", "zero", "bad", "nan (1 not finite)"]
    assert any(set(line.get_ydata()) == {1e-16} for line in axes.lines)  # the zeros are on the picture
    lowest, highest = axes.get_ylim()
    assert 0 < lowest < 1e-16
    assert highest > 2e-6
    assert any(list(line.get_ydata()) == [1e-6, 1e-6] for line in axes.lines)


def test_the_whiskers_reach_the_largest_error(tmp_path, figures):
    plots.plot_gradient_errors({"w": [1e-9] * 999 + [1e-3]}, tmp_path / "g.png", "check")
    assert max(np.max(line.get_ydata()) for line in figures[0].axes[0].lines) == 1e-3


def test_the_ending_gives_the_format(tmp_path):
    plots.plot_curves(history(2), tmp_path / "c.svg")
    assert b"<svg" in (tmp_path / "c.svg").read_bytes()


def test_a_picture_that_cannot_be_written_is_an_output_error(tmp_path):
    with pytest.raises(OutputError):
        plots.plot_curves(history(2), tmp_path / "absent" / "c.png")


def test_pyplot_stays_out_of_it_and_matplotlib_out_of_the_import(tmp_path):
    code = f"""
import sys
from fastmlp import plots
assert "matplotlib" not in sys.modules
plots.plot_curves({{"step": [0], "lr": [1.0], "train_loss": [2.0]}}, {str(tmp_path / "c.png")!r})
assert "matplotlib.pyplot" not in sys.modules
plots.plot_gradient_errors({{"w": [1e-9]}}, {str(tmp_path / "g.png")!r}, "check")
import matplotlib.pyplot
assert matplotlib.pyplot.get_fignums() == []
"""
    subprocess.run([sys.executable, "-c", code], check=True)
