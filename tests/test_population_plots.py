"""The picture of a population: means, bands, and a colour for each of the best settings."""

import struct

import numpy as np
import pytest

from fastmlp import population_plots
from fastmlp.population_plots import COLOURS, plot_population

LR = (np.arange(3.0), np.ones(3))


@pytest.fixture
def figures(monkeypatch):
    """The figures that were drawn, for a look inside."""
    made = []
    make = population_plots.make_figure
    monkeypatch.setattr(population_plots, "make_figure", lambda: made.append(make()) or made[-1])
    return made


def history(accuracies, rows=3):
    """Members whose validation accuracy ends at these values; the last row of each is not measured if it is NaN."""
    columns = {"member": np.repeat(np.arange(len(accuracies)), rows), "step": np.tile(np.arange(rows) * 10,
                                                                                     len(accuracies))}
    for name in ("loss", "cost", "accuracy"):
        for part in ("train", "val"):
            columns[f"{part}_{name}"] = np.concatenate([np.linspace(0.1, end, rows) for end in accuracies])
    return columns


def test_one_setting_is_drawn_as_means_and_deviations_of_both_parts(tmp_path, figures):
    plot_population(history([0.5, 0.7]), [0, 0], [""], tmp_path / "c.png", title="digits", lr_curve=LR)
    assert struct.unpack(">II", (tmp_path / "c.png").read_bytes()[16:24]) == (1200, 900)
    axes = figures[0].axes[2]
    assert [line.get_label() for line in axes.lines] == ["training", "validation"]
    np.testing.assert_allclose(axes.lines[1].get_ydata(), [0.1, 0.35, 0.6])
    (path,) = axes.collections[1].get_paths()
    assert path.vertices[:, 1].max() == pytest.approx(0.6 + np.std([0.5, 0.7], ddof=1))
    assert len(figures[0].axes[3].lines) == 1


def test_a_member_that_stopped_counts_as_far_as_it_went(tmp_path, figures):
    columns = history([0.5, 0.7])
    columns["val_accuracy"][-1] = np.nan
    plot_population(columns, [0, 0], [""], tmp_path / "c.png", title="", lr_curve=LR)
    np.testing.assert_allclose(figures[0].axes[2].lines[1].get_ydata(), [0.1, 0.35, 0.5])


def test_the_best_eight_settings_have_colours_and_the_legend_names_them(tmp_path, figures):
    ends = [0.9, 0.1, 0.8, 0.81, 0.82, 0.2, 0.83, 0.84, 0.85, 0.86]
    names = [f"l2={k}" for k in range(10)]
    plot_population(history(ends), list(range(10)), names, tmp_path / "c.png", title="$x_{$ 犬", lr_curve=LR)
    drawn = {line.get_label(): line.get_color() for line in figures[0].axes[2].lines if line.get_label()[0] != "_"}
    assert set(drawn) == {"other settings", *(name for name in names if name not in ("l2=1", "l2=5"))}
    assert len({drawn[name] for name in drawn}) == len(COLOURS) + 1
    assert [label.get_text() for label in figures[0].axes[3].get_yticklabels()] == names
    dashes = [line.get_linestyle() for line in figures[0].axes[2].lines[2:]]
    assert dashes[0] != dashes[1]


def test_settings_that_were_never_measured_are_drawn_as_nothing(tmp_path, figures):
    columns = history([0.5, 0.7])
    columns["val_accuracy"][3:] = columns["val_loss"][3:] = columns["train_loss"][3:] = np.nan
    plot_population(columns, [0, 1], ["a", "b"], tmp_path / "c.png", title="", lr_curve=LR)
    assert [line.get_label() for line in figures[0].axes[2].lines] == ["a"]


def test_of_many_settings_the_last_panel_shows_the_best(tmp_path, figures):
    plot_population(history(np.linspace(0.2, 0.9, 40)), list(range(40)), [str(k) for k in range(40)],
                    tmp_path / "c.png", title="", lr_curve=LR)
    assert "best 24 of 40" in figures[0].axes[3].get_xlabel()
