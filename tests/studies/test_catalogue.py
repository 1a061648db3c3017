from dataclasses import replace

import pytest

from fastmlp.config import TrainOptions
from fastmlp.errors import ConfigError
from fastmlp.studies.catalogue import MEASURES, Trial, find_studies, study_names
from fastmlp.studies.claims import RULES

BASE = TrainOptions(data="cifar10", hidden=(50, 50))


def test_every_study_of_the_five_reports_is_there_once():
    names = study_names()
    assert len(set(names)) == len(names)
    by_report = {report: sum(name.startswith(report) for name in names)
                 for report in ("000", "001", "002", "003", "004")}
    assert by_report == {"000": 4, "001": 7, "002": 1, "003": 4, "004": 5}


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("data", ["cifar10", "digits"])
def test_every_row_of_every_study_is_a_possible_training(data, quick):
    for study in find_studies(["all"], data=data, quick=quick):
        trials = study.trials(replace(BASE, data=data), seed=3)
        assert len(trials) == len(study.rows)
        assert all(trial.resolved(1000).seed == 3 for trial in trials)
        assert all(name in MEASURES for row in study.rows for name in row.reported)
        assert all(claim["decide"] in RULES for claim in study.claims)
        assert study.rows or study.gradients


def test_settings_of_a_study_are_different_trainings():
    for study in find_studies(["all"]):
        keys = [trial.key for trial in study.trials(BASE, 0)]
        assert len(set(keys)) == len(keys), study.name


def test_the_step_size_follows_the_data_and_the_reports():
    steps = {study.name: [trial.resolved(45_000).step_size for trial in study.trials(BASE, 0)]
             for study in find_studies(["001-depth", "004-lambda-coarse"])}
    assert set(steps["001-depth"]) == {2250}
    assert set(steps["004-lambda-coarse"]) == {900}
    final, = find_studies(["final"])
    assert [trial.resolved(49_000).step_size for trial in final.trials(BASE, 0)] == [980]
    cyclical, = find_studies(["cyclical"])
    assert [trial.resolved(10_000).step_size for trial in cyclical.trials(BASE, 0)] == [500, 800]


def test_drawn_values_lie_in_their_range_and_are_always_the_same():
    coarse, = find_studies(["lambda-coarse"])
    drawn = [row.options["l2"] for row in coarse.rows if not row.reported]
    assert len(drawn) == len(set(drawn)) == 20
    assert all(1e-5 <= value <= 1e-1 for value in drawn)
    assert drawn == [row.options["l2"] for row in find_studies(["lambda-coarse"])[0].rows if not row.reported]


def test_a_name_without_its_report_stands_for_every_report_s_study_of_that_name():
    assert [study.name for study in find_studies(["init-sensitivity"])] == ["000-init-sensitivity",
                                                                            "003-init-sensitivity"]
    assert len(find_studies(["all", "depth"])) == len(study_names())


@pytest.mark.parametrize("name", ["", "000", "depths", "ALL", "001-"])
def test_an_unknown_study_is_refused_in_a_sentence(name):
    with pytest.raises(ConfigError, match=r"^study .* is unknown: choose from those of fastmlp study --list, or all$"):
        find_studies(["depth", name])


def test_the_files_of_cifar10_are_not_asked_of_other_data():
    assert find_studies(["002-linear"])[0].rows[0].options["train_batches"] == (1,)
    assert "train_batches" not in find_studies(["002-linear"], data="digits")[0].rows[0].options


def test_a_trial_has_one_key_wherever_and_however_often_it_is_measured():
    trial = Trial(BASE)
    same = replace(BASE, device="cpu", threads=2, kernels="numpy", evaluate_every=7, quiet=True)
    assert Trial(same).key == trial.key
    for other in (replace(BASE, l2=0.1), replace(BASE, seed=1), replace(BASE, data="digits"),
                  replace(BASE, train_batches=(1,))):
        assert Trial(other).key != trial.key
    assert Trial(BASE, half_cycle=2).key != trial.key


def test_data_that_are_no_images_are_not_moved():
    improvements, = find_studies(["improvements"])
    kept = improvements.for_tables().rows
    assert 0 < len(kept) < len(improvements.rows)
    assert not any(row.options.get("mirror") or row.options.get("shift") for row in kept)


def test_quick_studies_are_short():
    for study in find_studies(["all"], quick=True):
        for trial in study.trials(BASE, 0):
            options = trial.resolved(45_000)
            assert options.total_steps(45_000) <= 4 * 450, study.name
