import pytest

from fastmlp.studies.catalogue import Row
from fastmlp.studies.claims import decide, surely_larger
from fastmlp.studies.findings import FAILS, HOLDS, UNDECIDED
from fastmlp.studies.store import Result


def results(values, name="val_accuracy", **columns):
    """A finished trial for each seed's value."""
    return [Result("finished", 1.0, 1, {name: value}, columns) for value in values]


def verdict(runs, **claim):
    return decide({"text": "so it is", **claim}, runs).verdict


@pytest.mark.parametrize(("one", "other", "expected"), [
    ([1.0, 1.1], [0.1, 0.2], True), ([0.1, 0.2], [1.0, 1.1], False), ([1.0, 1.3], [0.9, 1.2], None),
    ([5.0], [1.0], None), ([1.0, 1.1], [0.7, 0.85], None), ([1.0] * 2, [0.5] * 2, True), ([1.0] * 2, [1.0] * 2, None),
    ([1.0, 1.1] * 5, [0.7, 0.85] * 5, True),
])
def test_a_difference_counts_where_so_many_seeds_make_it_certain(one, other, expected):
    assert surely_larger(one, other) is expected


@pytest.mark.parametrize(("rough", "expected"), [([0.1, 0.4, 0.1, 0.4], HOLDS), ([0.1, 0.1, 0.1, 0.11], FAILS)])
def test_jumps_are_the_changes_between_epochs(rough, expected):
    runs = [(Row({"lr": 0.1}), results([0.4], val_accuracy=rough)),
            (Row({"lr": 0.001}), results([0.4], val_accuracy=[0.1, 0.11, 0.12, 0.13]))]
    assert verdict(runs, decide="jumps", rough={"lr": 0.1}, smooth={"lr": 0.001}) == expected


@pytest.mark.parametrize(("at_high", "expected"), [
    ([0.50, 0.51], HOLDS), ([0.7, 0.71], FAILS), ([0.55, 0.65], UNDECIDED),
])
def test_a_gap_narrows_if_every_penalty_s_is_smaller_than_without(at_high, expected):
    def gap(values):
        return [Result("finished", 1.0, 1, {"train_accuracy": value, "val_accuracy": 0.4}, {}) for value in values]

    runs = [(Row({"l2": 0.0, "lr": 0.1}), gap([0.60, 0.61])), (Row({"l2": 1.0, "lr": 0.1}), gap(at_high)),
            (Row({"l2": 0.0, "lr": 0.5}), gap([0.0, 0.0]))]
    assert verdict(runs, decide="gap_narrows", along="l2", where={"lr": 0.1}) == expected


@pytest.mark.parametrize(("with_it", "expected"), [((0.50, 0.52), HOLDS), ((0.1, 0.5), FAILS)])
def test_less_sensitive_is_a_range_half_as_wide(with_it, expected):
    runs = [(Row({"init_std": std, "batch_norm": on}), results([value]))
            for on, values in ((True, with_it), (False, (0.1, 0.5)))
            for std, value in zip((0.1, 0.01), values, strict=True)]
    assert verdict(runs, decide="less_sensitive", along="init_std") == expected


@pytest.mark.parametrize(("cost", "loss", "expected"), [
    ([[1.0, 2.0], [1.0, 2.1]], [[1.0, 3.0], [1.0, 3.1]], HOLDS),
    ([[1.0, 2.0], [1.0, 2.1]], [[1.0, 0.5], [1.0, 0.49]], FAILS),
    ([[1.0, 2.0]], [[1.0, 3.0]], UNDECIDED),
])
def test_cost_and_loss_must_both_end_higher(cost, loss, expected):
    trials = [Result("finished", 1.0, 1, {}, {"train_cost": costs, "train_loss": losses})
              for costs, losses in zip(cost, loss, strict=True)]
    assert verdict([(Row({"lr_min": 0.01}), trials)], decide="ends_higher", where={"lr_min": 0.01}) == expected


@pytest.mark.parametrize(("at_other", "expected"), [
    ([0.40, 0.41], HOLDS), ([0.60, 0.61], FAILS), ([0.49, 0.55], UNDECIDED),
])
def test_the_best_is_the_same_unless_another_is_surely_better(at_other, expected):
    runs = [(Row({"l2": l2, "batch_norm": on}), results(values)) for on in (True, False)
            for l2, values in ((1e-2, [0.50, 0.51]), (1e-4, at_other))]
    assert verdict(runs, decide="same_best", along="l2", best=1e-2) == expected


def test_batch_norm_must_help_at_every_setting_that_is_named():
    runs = [(Row({"l2": 1.0, "batch_norm": True}), results([0.5, 0.51])),
            (Row({"l2": 1.0, "batch_norm": False}), results([0.3, 0.31])),
            (Row({"l2": 2.0, "batch_norm": True}), results([0.2, 0.21])),
            (Row({"l2": 2.0, "batch_norm": False}), results([0.3, 0.31]))]
    assert verdict(runs, decide="higher_with_batch_norm", where=[{"l2": 1.0}]) == HOLDS
    assert verdict(runs, decide="higher_with_batch_norm", where=[{"l2": 1.0}, {"l2": 2.0}]) == FAILS


def test_to_learn_is_to_lower_the_loss():
    runs = [(Row({"init_std": 0.1}), results([0.5], train_loss=[2.3, 1.0])),
            (Row({"init_std": 1e-4}), results([0.1], train_loss=[2.3, 2.3]))]
    assert verdict(runs, decide="learn", where=[{"init_std": 0.1}]) == HOLDS
    assert verdict(runs, decide="learn", where=[{"init_std": 0.1}, {"init_std": 1e-4}]) == FAILS
    assert verdict(runs, decide="do_not_learn", where=[{"init_std": 1e-4}]) == HOLDS
    assert verdict(runs, decide="do_not_learn", where=[{"init_std": 0.1}, {"init_std": 1e-4}]) == FAILS


def test_what_diverged_decides_nothing():
    diverged = [Result("diverged at step 3", 1.0, 1, {}, {"train_loss": [2.3]})]
    claim = decide({"text": "it learns", "decide": "learn", "where": [{"init_std": 0.1}]},
                   [(Row({"init_std": 0.1}), diverged)])
    assert claim.verdict == UNDECIDED
    assert "diverged" in claim.evidence or "finished" in claim.evidence


def test_other_data_than_the_reports_decide_nothing():
    runs = [(Row({"init_std": 0.1}), results([0.5], train_loss=[2.3, 1.0]))]
    claim = {"text": "it learns", "decide": "learn", "where": [{"init_std": 0.1}]}
    assert decide(claim, runs).verdict == HOLDS
    assert decide(claim, runs, comparable=False).verdict == UNDECIDED
