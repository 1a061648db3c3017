"""The picture of a search: a panel for each option, on the axis that counts, in which nothing misleads."""

import itertools

import pytest

from fastmlp.errors import DataError
from fastmlp.search import plots
from fastmlp.search.space import Choices, Range

SPACE = {"l2": Range(1e-5, 0.1, True), "dropout": Range(0.0, 0.5, False), "cycles": Range(1, 3, True),
         "hidden": Choices(("50-50", "100-50", "none"))}
LATER = {"l2": Range(1e-4, 1e-2, True), "dropout": Range(0.1, 0.2, False), "cycles": Range(1, 2, True),
         "hidden": Choices(("100-50",))}
TABLE = {"trial": [0, 1, 2, 3], "stage": [1, 1, 1, 2], "val_accuracy": [0.3, None, 0.4, 0.5],
         "l2": [1e-4, 0.1, 0.01, 1e-3], "dropout": [0.0, 0.5, 0.2, 0.1], "cycles": [1, 3, 2, 2],
         "hidden": ["50-50", "none", "100-50", "100-50"]}


@pytest.fixture
def draw(monkeypatch):
    """Draw without writing a file; the figure."""
    def run(table=TABLE, spaces=(SPACE, LATER), best=3, title="digits"):
        drawn = []
        monkeypatch.setattr(plots, "save_figure", lambda figure, _: drawn.append(figure))
        plots.plot_search(table, spaces, best, "search.png", title=title)
        return drawn[0]
    return run


def panel(figure, name):
    return next(axes for axes in figure.axes if axes.get_xlabel() == name)


def points(axes, label):
    line = next(line for line in axes.lines if line.get_label() == label)
    return list(zip(line.get_xdata(), line.get_ydata(), strict=True))


def test_every_option_has_a_panel_with_every_trial_on_the_axis_that_counts(draw):
    figure = draw()
    assert [axes.get_xlabel() for axes in figure.axes if axes.get_visible()] == ["l2", "dropout", "cycles", "hidden"]
    assert [panel(figure, name).get_xscale() for name in SPACE] == ["log", "linear", "log", "linear"]
    for name in ("l2", "dropout", "cycles"):
        assert points(panel(figure, name), "stage 1") == [(TABLE[name][0], 0.3), (TABLE[name][2], 0.4)]
        assert points(panel(figure, name), "stage 2") == [(TABLE[name][3], 0.5)]
        low, high = panel(figure, name).get_xlim()
        assert low < SPACE[name].low
        assert SPACE[name].high < high
    axes = panel(figure, "hidden")
    assert [text.get_text() for text in axes.get_xticklabels()] == ["50-50", "100-50", "none"]
    assert [round(x) for x, _ in points(axes, "stage 1") + points(axes, "stage 2")] == [0, 1, 1]


def test_the_best_is_circled_and_what_has_no_accuracy_is_a_cross_off_the_scale(draw):
    figure = draw()
    for name in ("l2", "dropout", "cycles"):
        assert points(panel(figure, name), "best") == [(TABLE[name][3], 0.5)]
        axes = panel(figure, name)
        cross = next(line for line in axes.lines if line.get_label() == "diverged or impossible")
        assert list(cross.get_xdata()) == [TABLE[name][1]]
        assert cross.get_transform() == axes.get_xaxis_transform()
        assert list(cross.get_ydata()) == [0]                           # on the lower edge, whatever the scale
    assert panel(figure, "l2").get_ylim()[0] > 0.2                        # it does not stretch the scale


def test_the_spaces_of_later_stages_are_shaded(draw):
    figure = draw()
    assert [(round(patch.get_x(), 6), round(patch.get_x() + patch.get_width(), 6)) for name in SPACE
            for patch in panel(figure, name).patches] == [(1e-4, 1e-2), (0.1, 0.2), (1, 2), (0.7, 1.3)]


def test_whole_numbers_are_written_as_such(draw):
    axes = panel(draw(), "cycles")
    axes.figure.canvas.draw()
    low, high = axes.get_xlim()
    assert [text.get_text() for which in ("major", "minor") for text in axes.get_xticklabels(which=which)
            if low <= text.get_position()[0] <= high] == ["1", "2", "3"]


def test_long_titles_and_choices_do_not_run_over_each_other_or_the_edge(draw):
    space = {"hidden": Choices(("50-50", "100-50", "200-100-50-50", "400-200-100-50", "none")),
             **{name: SPACE[name] for name in ("l2", "dropout", "cycles")}}
    figure = draw(spaces=[space], title="best of " + ", ".join(f"option_{k}=0.000123456" for k in range(8)))
    figure.canvas.draw()
    title = figure._suptitle.get_window_extent()
    assert 0 <= title.x0 < title.x1 <= 1200
    assert title.y1 <= 900
    labels = panel(figure, "hidden").get_xticklabels()
    corners = [text.get_window_extent().get_points() for text in labels]
    beside = all(former[1, 0] < later[0, 0] for former, later in itertools.pairwise(corners))
    assert beside or {text.get_rotation() for text in labels} == {20.0}


def test_one_trial_can_be_drawn_and_none_is_one_sentence(draw):
    one = {name: values[:1] for name, values in TABLE.items()}
    assert points(panel(draw(one, [SPACE], 0), "l2"), "best") == [(1e-4, 0.3)]
    with pytest.raises(DataError, match=r"^none of 1 trials has a validation accuracy: there is nothing to draw$"):
        draw({**one, "val_accuracy": [None]}, [SPACE], None)
