import pytest

from fastmlp.studies.analysis import best_range, compare, find, group_runs, label_rows
from fastmlp.studies.catalogue import Row, Study
from fastmlp.studies.store import Result

CURVE = {"step": [0.0, 10.0], "lr": [0.1, 0.1], **{f"{part}_{name}": [2.3, 1.0] for part in ("train", "val")
                                                   for name in ("loss", "cost", "accuracy")}}


def trial(test=0.5, val=0.4, status="finished"):
    scores = {"test_accuracy": test, "val_accuracy": val, "train_accuracy": 0.6, "train_loss": 1.0, "val_loss": 1.1,
              "val_cost": 1.5, "test_loss": 1.2} if status == "finished" else {}
    return Result(status, 1.0, 1, scores, CURVE)


def test_settings_are_called_by_what_tells_them_apart():
    rows = [Row({"hidden": (50, 50), "batch_norm": on, "l2": 0.005, "init": "normal", "init_std": std})
            for on in (True, False) for std in (0.1, 1e-4)]
    assert label_rows(rows) == ["batch norm, σ 0.1", "batch norm, σ 0.0001", "no batch norm, σ 0.1",
                                "no batch norm, σ 0.0001"]
    assert label_rows([Row({"hidden": (), "cycles": 1}), Row({"hidden": (9, 5), "cycles": 3})]) == [
        "no hidden layer, 1 cycle", "9-5, 3 cycles"]
    assert label_rows([Row({"l2": 0.1})]) == ["the setting"]


@pytest.mark.parametrize(("reported", "within"), [(0.5399, True), (0.5401, False), (0.4601, True), (0.4599, False)])
def test_a_reported_figure_lies_within_three_deviations_and_a_hundredth(reported, within):
    values = [0.49, 0.50, 0.51]                         # deviation 0.01
    assert compare("test accuracy", reported, values, comparable=True).lies_within is within
    assert compare("test accuracy", reported, values, comparable=False).lies_within is None
    assert compare("test accuracy", reported, values[:1], comparable=True).lies_within is None


def test_a_finding_compares_every_stated_figure_with_our_mean():
    rows = (Row({"l2": 0.1}, reported={"test_accuracy": 0.5, "train_accuracy": 0.9}),
            Row({"l2": 0.2}, reported={"course_test_accuracy": 0.7, "loss": 1.5}, note="so it was"), Row({"l2": 0.3}))
    runs = [(rows[0], [trial(0.4), trial(0.6)]), (rows[1], [trial(0.7), trial(0.7)]), (rows[2], [trial(), trial()])]
    study = Study("9-x", "X", "Why?", rows, best={"test_accuracy": 0.71, "remark": "about"})
    finding = find(study, runs, comparable=True)
    found = [(c.what, c.reported, c.mean, c.n, c.lies_within, c.remark) for c in finding.comparisons]
    assert found == [
        ("λ 0.1: test accuracy", 0.5, 0.5, 2, True, ""), ("λ 0.1: training accuracy", 0.9, 0.6, 2, False, ""),
        ("λ 0.2: test accuracy, the course's own figure", 0.7, 0.7, 2, True, "so it was"),
        ("λ 0.2: validation cost", 1.5, 1.5, 2, True, "so it was"),
        ("the best by validation, λ 0.1: test accuracy", 0.71, 0.5, 2, True, "about"),
    ]
    assert [row[0] for row in finding.tables[0].rows] == ["λ 0.1", "λ 0.2", "λ 0.3"]
    assert [figure.name for figure in finding.figures] == ["9-x-reported"]


def test_the_best_by_validation_is_chosen_whatever_its_test_accuracy():
    rows = (Row({"l2": 0.1}), Row({"l2": 0.2}))
    runs = [(rows[0], [trial(test=0.9, val=0.1)]), (rows[1], [trial(test=0.2, val=0.3)])]
    finding = find(Study("9-x", "X", "", rows, best={"test_accuracy": 0.9, "remark": ""}), runs, comparable=False)
    assert finding.comparisons[0].what == "the best by validation, λ 0.2: test accuracy"
    assert finding.comparisons[0].mean == 0.2


def test_what_diverged_is_told_and_left_out():
    rows = (Row({"l2": 0.1}, reported={"test_accuracy": 0.5}), Row({"l2": 0.2}, reported={"test_accuracy": 0.5}))
    diverged = trial(status="diverged at step 7")
    runs = [(rows[0], [trial(0.5), diverged]), (rows[1], [diverged])]
    finding = find(Study("9-x", "X", "", rows, curves=True, scatter="l2"), runs, comparable=True)
    assert finding.notes == ("2 of the trials diverged; they are left out of the means.",)
    assert [(c.mean, c.n) for c in finding.comparisons] == [(0.5, 1), (None, 0)]
    assert finding.tables[0].rows[1][1:] == ("diverged",) * 7
    assert {figure.name for figure in finding.figures} == {"9-x-curves", "9-x-scatter", "9-x-reported"}


def test_a_study_of_which_nothing_finished_has_no_pictures():
    rows = (Row({"l2": 0.1}), Row({"l2": 0.2}))
    runs = [(row, [trial(status="diverged at step 7")]) for row in rows]
    assert find(Study("9-x", "X", "", rows, curves=True, scatter="l2"), runs, comparable=True).figures == ()


def test_only_the_wanted_settings_have_curves():
    rows = (Row({"lr_min": 0.01}), Row({"lr_min": 0.1}))
    study = Study("9-x", "X", "", rows, curves_of={"lr_min": 0.01})
    assert [study.has_curve(row) for row in rows] == [True, False]


def test_the_chosen_range_is_that_of_the_best_quarter():
    accuracies = (0.1, 0.2, 0.6, 0.7, 0.65, 0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1)
    points = [(10.0 ** -k, [value]) for k, value in enumerate(accuracies)]
    assert best_range(points) == (10.0 ** -4, 10.0 ** -2)
    assert best_range([(1.0, [0.5]), (2.0, []), (3.0, [0.4])]) == (1.0, 3.0)


def test_results_are_grouped_by_setting_and_missing_ones_left_out():
    rows = [Row({"l2": 0.1}), Row({"l2": 0.2})]
    one, two, three = trial(0.1), trial(0.2), trial(0.3)
    grouped = group_runs(rows, [[one, two], [None, three]])
    assert [(row.options["l2"], [r.scores["test_accuracy"] for r in results]) for row, results in grouped] == [
        (0.1, [0.1]), (0.2, [0.2, 0.3])]
