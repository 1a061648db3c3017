"""How sweeps are written, and which members they make."""

import pytest

from fastmlp.config import TrainOptions
from fastmlp.errors import ConfigError
from fastmlp.sweeps import Sweep, combinations, describe, make_members, parse_sweep


@pytest.mark.parametrize(("text", "values"), [
    ("l2=1e-5,1e-4", (1e-5, 1e-4)), ("l2=0", (0.0,)), ("lr-max=0.1, 0.2", (0.1, 0.2)),
    ("init=he,xavier", ("he", "xavier")),
    ("l2=1e-5..1e-1:5", (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)), ("l2=1e-1..1e-3:3", (0.1, 0.01, 0.001)),
    ("lr=0..1:5", (0.0, 0.25, 0.5, 0.75, 1.0)), ("l2=0,1e-3..1e-1:3", (0.0, 0.001, 0.01, 0.1)),
])
def test_lists_and_ranges_are_read(text, values):
    sweep = parse_sweep(text)
    assert sweep.values == values
    assert sweep.name == text.split("=")[0].replace("-", "_")
    assert parse_sweep(str(sweep)) == sweep


@pytest.mark.parametrize(("text", "words"), [
    ("l2", "NAME=VALUE"), ("hidden=5", "one of l2, lr, lr_min, lr_max, init, init_std"), ("seed=1,2", "one of l2"),
    ("l2=", "NAME=VALUE"), ("l2=a", "NAME=VALUE"), ("l2=1..2", "NAME=VALUE"), ("l2=1..2:x", "NAME=VALUE"),
    ("l2=1..2:1", "2 to 10000 values"), ("l2=1..1:3", "different numbers"), ("l2=1..inf:3", "2 to 10000"),
    ("l2=1..2:99999999999", "2 to 10000"), ("l2=1,1", "different values"), ("init=he,", "different values"),
])
def test_what_is_no_sweep_is_refused(text, words):
    with pytest.raises(ValueError, match=words):
        parse_sweep(text)


def test_combinations_vary_the_last_sweep_fastest_and_refuse_one_twice():
    sweeps = [Sweep("l2", (0.1, 0.2)), Sweep("init", ("he", "xavier"))]
    assert [describe(setting) for setting in combinations(sweeps)] == [
        "l2=0.1, init=he", "l2=0.1, init=xavier", "l2=0.2, init=he", "l2=0.2, init=xavier"]
    assert combinations([]) == [{}]
    with pytest.raises(ConfigError, match="l2 is there twice"):
        combinations([sweeps[0], sweeps[0]])


def test_members_are_every_setting_with_every_seed_and_fold():
    members = make_members(TrainOptions(seed=7), [{"l2": 0.1}, {"l2": 0.2}], 2, 2)
    assert [(member.options.l2, member.options.seed, member.fold, member.setting) for member in members] == [
        (0.1, 7, 0, 0), (0.1, 7, 1, 0), (0.1, 8, 0, 0), (0.1, 8, 1, 0),
        (0.2, 7, 0, 1), (0.2, 7, 1, 1), (0.2, 8, 0, 1), (0.2, 8, 1, 1)]
