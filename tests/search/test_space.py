"""What is searched: how it is written, what is refused, and how a later stage's space lies within the first's."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmlp.config import TrainOptions
from fastmlp.errors import ConfigError
from fastmlp.search.options import SearchOptions, check_base
from fastmlp.search.space import (
    SEARCHABLE,
    Choices,
    Range,
    make_space,
    parse_searched,
    plain_space,
    space_from_plain,
    with_point,
)
from fastmlp.search.stages import narrowed, stage_trials


@pytest.mark.parametrize(("text", "values"), [
    ("l2=1e-5..1e-1", Range(1e-5, 0.1, True)),
    ("momentum=0..0.9", Range(0.0, 0.9, False)),
    ("momentum=0.5..0.9:linear", Range(0.5, 0.9, False)),
    ("lr-max=0.01..1:log", Range(0.01, 1.0, True)),
    ("cycles=1..3", Range(1, 3, True)),
    ("hidden=50-50,100-50,none", Choices(("50-50", "100-50", "none"))),
    ("init=he, xavier", Choices(("he", "xavier"))),
    ("batch_norm=on,off", Choices(("on", "off"))),
    ("l2=0,1e-3", Choices(("0", "1e-3"))),
])
def test_ranges_and_choices_are_read_as_they_are_written(text, values):
    assert parse_searched(text).values == values


@pytest.mark.parametrize(("text", "words"), [
    ("l2", "NAME=LOW..HIGH"), ("seed=1,2", "one of"), ("device=cpu,gpu", "one of"), ("nonsense=1..2", "one of"),
    ("l2=a..b", "NAME=LOW"), ("l2=1..0.1", "lower to a higher"), ("l2=1..1", "lower to a higher"),
    ("l2=0..1:log", "above 0"), ("l2=1e-5..1:5", "log or linear"), ("init=he..xavier", "no ranges"),
    ("hidden=50..100", "no ranges"), ("hidden=50-x", "'50-x' is no value of hidden"), ("hidden=", "'' is no value"),
    ("batch_norm=maybe", "maybe"), ("l2=0.1,1e-1", "different"), ("l2=0.1..inf", "lower to a higher"),
])
def test_what_cannot_be_searched_is_refused_with_a_sentence(text, words):
    with pytest.raises(ValueError, match=words.replace("..", r"\.\.")):
        parse_searched(text)


@pytest.mark.parametrize(("texts", "base", "words"), [
    (["l2=-1..1"], {}, ["--l2 -1.0"]),
    (["init=he,magic"], {}, ["--init magic"]),
    (["lr_min=1e-6..1e-2", "lr_max=1e-3..1"], {}, ["lr_min=0.01", "lr_max=0.001", "--lr-min"]),
    (["lr=0.1..1"], {}, ["--schedule cyclical"]),
    (["l2=0..1", "l2=1..2"], {}, ["twice"]),
    (["momentum=0..0.9"], {"optimizer": "adamw"}, ["--optimizer sgd"]),
])
def test_a_corner_that_cannot_be_is_refused_before_anything_is_trained(texts, base, words):
    with pytest.raises(ConfigError) as caught:
        make_space([parse_searched(text) for text in texts], TrainOptions(**base))
    assert all(word in str(caught.value) for word in words), caught.value


def test_a_point_becomes_options():
    options = with_point(TrainOptions(), {"hidden": "100-50", "batch_norm": "off", "l2": 0.25, "batch_size": 64})
    assert (options.hidden, options.batch_norm, options.l2, options.batch_size) == ((100, 50), False, 0.25, 64)


def test_every_training_option_can_be_searched_but_those_of_luck_and_place():
    assert {"l2", "lr_min", "lr_max", "hidden", "cycles", "init", "batch_size", "optimizer"} <= set(SEARCHABLE)
    assert not {"seed", "device", "threads", "data", "out", "members"} & set(SEARCHABLE)


@pytest.mark.parametrize("base", [{"members": 3}, {"folds": 3, "validation": None}])
def test_a_search_of_populations_is_refused(base):
    with pytest.raises(ConfigError, match=f"--{next(iter(base))}"):
        check_base(TrainOptions(**base))


def test_forty_trials_are_tried_unless_time_alone_limits_them():
    assert SearchOptions().total == 40
    assert SearchOptions(minutes=5).total is None
    assert SearchOptions(minutes=5, trials=7).total == 7


@given(st.integers(1, 500), st.integers(1, 10))
def test_the_stages_share_all_trials_evenly(total, stages):
    shares, before = [], 0
    for stage in range(1, stages + 1):
        shares.append(stage_trials(total, before, stage, stages))
        before += shares[-1]
    assert sum(shares) == total
    assert max(shares) - min(shares) <= 1


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.sampled_from("abc")), min_size=1, max_size=60))
def test_a_later_space_holds_the_best_and_stays_within_the_first(drawn):
    space = {"l2": Range(1e-5, 0.1, True), "momentum": Range(0.0, 0.9, False), "width": Range(1, 64, True),
             "init": Choices(("a", "b", "c"))}
    points = [{"l2": 10 ** (-5 + 4 * u), "momentum": 0.9 * u, "width": round(64 ** u), "init": label}
              for u, _, label in drawn]
    points = [{**point, "l2": min(max(point["l2"], 1e-5), 0.1)} for point in points]
    accuracies = [accuracy for _, accuracy, _ in drawn]
    later = narrowed(space, space, points, accuracies, len(points))
    best = points[max(range(len(points)), key=lambda k: accuracies[k])]
    for name, values in later.items():
        assert best[name] in values
        assert all(end in space[name] for end in values.ends)
    assert isinstance(later["width"].low, int)
    assert space_from_plain(plain_space(later)) == later


def test_ranges_shrink_around_the_best_quarter_and_are_widened_by_half_a_step():
    space = {"l2": Range(1e-6, 1e2, True), "init": Choices(("he", "xavier"))}
    points = [{"l2": 10.0 ** (k / 2 - 6), "init": "he" if k == 8 else "xavier"} for k in range(16)]
    later = narrowed(space, space, points, [-abs(k - 6) for k in range(16)], 16)     # the best are 6, then 5, 7, then 4
    half = 8 / 16 / 2                                                               # decades
    assert math.log10(later["l2"].low) == pytest.approx(-6 + 4 / 2 - half)
    assert math.log10(later["l2"].high) == pytest.approx(-6 + 7 / 2 + half)
    assert later["init"] == Choices(("xavier",))
