"""Populations: members are what they would be alone, however they are divided, and are counted and chosen honestly."""

import tracemalloc

import numpy as np
import pytest
from tolerances import MEMBER, assert_close

from fastmlp import fit_population, groups, load_dataset
from fastmlp.backend import Backend
from fastmlp.building import make_examples, make_spec, make_trainer
from fastmlp.config import TrainOptions
from fastmlp.data.arrays import from_arrays
from fastmlp.data.rows_on_disk import RowsOnDisk
from fastmlp.data.standardize import Standardizer
from fastmlp.errors import ConfigError, DataError, DivergenceError
from fastmlp.groups import bytes_per_member, check_parts, fold_data
from fastmlp.layout import NetworkSpec
from fastmlp.population import check_population, mean_and_interval, train_population
from fastmlp.sweeps import make_members
from fastmlp.trainer import Trainer
from fastmlp.training import train

QUICK = {"hidden": (9,), "epochs": 3, "schedule": "constant", "lr": 0.1, "batch_size": 16, "device": "cpu",
         "dtype": "float64"}


@pytest.fixture(scope="module")
def arrays():
    """A problem of three classes that overlap, in three parts."""
    rng = np.random.default_rng(0)
    y = np.arange(240) % 3
    x = rng.normal(size=(240, 5)) + 1.5 * np.eye(3, 5)[y]
    names = np.array(["ant", "bee", "cat"])[y]
    return {"data": x[:120], "y": names[:120], "X_val": x[120:180], "y_val": names[120:180], "X_test": x[180:],
            "y_test": names[180:]}


def fit(arrays, **options):
    return fit_population(**arrays, **{**QUICK, **options})


def assert_same_members(one, other, tolerance=MEMBER["float64"]):
    for k, (first, second) in enumerate(zip(one.outcomes, other.outcomes, strict=True)):
        assert first.status == second.status
        for name, array in first.tensors.items():
            assert_close(array, second.tensors[name], tolerance, f"member {k}, {name}")
        assert first.measured.keys() == second.measured.keys()


# ------------------------------------------------------------------------------------------------ members

def test_every_member_has_settings_of_its_own(arrays):
    own = [{"seed": 3, "l2": 0.1, "init": "xavier"}, {"seed": 4, "l2": 0.0}, {"seed": 4, "lr": 0.2}]
    population = fit(arrays, members=own, l2=0.01)
    assert population.settings == [{"l2": 0.1, "init": "xavier", "lr": 0.1}, {"l2": 0.0, "init": "he", "lr": 0.1},
                                   {"l2": 0.01, "init": "he", "lr": 0.2}]
    for k, settings in enumerate(own):
        assert_close(population.outcomes[k].tensors["w0"],
                     fit(arrays, members=[settings], l2=0.01).outcomes[0].tensors["w0"], MEMBER["float64"])
        assert population.table()["seed"][k] == settings["seed"]


def test_a_sweep_is_every_combination_with_every_seed(arrays):
    population = fit(arrays, members=2, seed=5, sweep={"l2": [0, 0.1], "lr": [0.05, 0.1, 0.2]})
    table = population.table()
    assert table["seed"] == [5, 6] * 6
    assert list(zip(table["l2"], table["lr"], strict=True))[::2] == [
        (0.0, 0.05), (0.0, 0.1), (0.0, 0.2), (0.1, 0.05), (0.1, 0.1), (0.1, 0.2)]
    assert population.summary()["n"] == [2] * 6


@pytest.mark.parametrize("settings", [{}, {"batch_norm": False, "optimizer": "adamw", "lr": 0.01}],
                         ids=["sgd", "adamw"])
def test_a_members_numbers_do_not_depend_on_how_memory_divided_the_population(arrays, monkeypatch, settings):
    whole = fit(arrays, members=5, **settings)
    spec = NetworkSpec(5, (9,), 3, settings.get("batch_norm", True))
    room = 4 * bytes_per_member(spec, TrainOptions(**{**QUICK, **settings}))        # half of it: 2 members
    monkeypatch.setattr(Backend, "available_bytes", lambda backend: room)
    sizes = []
    build = groups.make_trainer
    monkeypatch.setattr(groups, "make_trainer", lambda members, *rest, **more: sizes.append(len(members)) or build(
        members, *rest, **more))
    assert_same_members(whole, fit(arrays, members=5, **settings))
    assert sizes == [2, 2, 1]


@pytest.mark.parametrize("settings", [{}, {"optimizer": "adamw"}, {"batch_norm": False, "momentum": 0.9},
                                      {"dropout": 0.2}], ids=str)
def test_a_member_takes_the_memory_that_is_reckoned_with(cpu, settings):
    rng, peaks = np.random.default_rng(0), []
    data = from_arrays(rng.normal(size=(120, 200)), np.arange(120) % 5, (None, None), (None, None))
    options = TrainOptions(hidden=(40, 30), schedule="constant", epochs=1, batch_size=32, **settings)
    for members in (10, 60):
        tracemalloc.start()
        train_population(make_members(options, [{}], members), [{}], data, cpu, seed=0)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    reckoned = bytes_per_member(make_spec(options, data), options)
    assert 0.6 * reckoned < (peaks[1] - peaks[0]) / 50 < reckoned


def test_with_an_order_of_its_own_a_member_is_what_a_lone_run_of_its_seed_is(cpu):
    data = load_dataset("digits", seed=0)
    population = fit_population(data, members=2, seed=3, order="own", hidden=(8,), cycles=1, step_size=20, device="cpu")
    for k, seed in enumerate((3, 4)):
        options = TrainOptions(hidden=(8,), cycles=1, step_size=20, seed=seed)
        parts = make_examples(options, data, Standardizer.fit(data.x_train, "feature"), cpu)
        alone = make_trainer([options], make_spec(options, data), parts, seed=seed)
        history = train(alone, 40, parts={name: parts[name] for name in ("train", "val")})
        assert population.outcomes[k].history == history.rows
        assert np.array_equal(population.outcomes[k].tensors["w0"], alone.network.views()["w0"])
    shared = fit_population(data, members=2, seed=3, hidden=(8,), cycles=1, step_size=20, device="cpu")
    assert shared.outcomes[1].history[-1] != population.outcomes[1].history[-1]


# ------------------------------------------------------------------------------------------------ folds

def test_each_fold_is_validated_by_the_members_that_did_not_see_it(arrays):
    population = fit(arrays, members=2, folds=3)
    assert population.table()["fold"] == [0, 1, 2] * 2
    rows = np.concatenate([population.data.x_train, population.data.x_val])
    seen = []
    for fold, part in enumerate(fold_data(population.data, 3, seed=0)):
        assert len(part.x_train) + len(part.x_val) == len(rows) == 180
        assert np.bincount(part.y_val).tolist() == [20] * 3                 # by class
        seen.append(part.x_val)
        assert not {row.tobytes() for row in part.x_val} & {row.tobytes() for row in part.x_train}
        model = population.model(fold)
        accuracy = np.mean(model.predict(part.x_val) == model.classes[part.y_val])
        assert accuracy == pytest.approx(population.outcomes[fold].measured["val_accuracy"])
    assert sorted(map(bytes, np.concatenate(seen))) == sorted(map(bytes, rows))
    assert population.summary()["n"] == [6]


def test_folds_of_two_sizes_are_both_checked_against_the_batch():
    options = TrainOptions(batch_size=9, hidden=(3,))
    check_parts(options, 13, 13)                                            # 12 rows each
    with pytest.raises(ConfigError, match="one row of the 10 training"):    # 10 and 9
        check_parts(options, 13, 4)


# ------------------------------------------------------------------------------------------------ divergence, choice

def test_diverged_members_are_marked_and_left_out_of_means_and_ensemble(arrays):
    rates = [{"seed": 0}, {"seed": 1, "lr": 1e30}, {"seed": 2}]
    population = fit(arrays, members=rates, batch_norm=False, dtype="float32")
    assert [outcome.status for outcome in population.outcomes] == ["finished", "diverged at step 2", "finished"]
    assert population.outcomes[1].steps == 0
    assert len(population.outcomes[1].history) == 1
    assert population.table()["test_accuracy"][1] is None
    assert population.summary()["n"] == [2, 0]
    assert population.summary()["diverged"] == [0, 1]
    assert population.model().network.members == 2
    without = fit(arrays, members=[rates[0], rates[2]], batch_norm=False, dtype="float32")
    assert population.ensemble_accuracy == without.ensemble_accuracy


@pytest.mark.parametrize("order", ["shared", "own"])
def test_when_every_member_diverges_that_is_the_error(arrays, order):
    with pytest.raises(DivergenceError, match="every member of the population diverged, the first at step 2"):
        fit(arrays, members=2, lr=1e30, batch_norm=False, dtype="float32", order=order)


def test_the_setting_with_the_best_mean_validation_accuracy_is_chosen_and_only_it_meets_the_test_part(arrays):
    population = fit(arrays, members=3, sweep={"lr": [1e-6, 0.1, 1e-5]})
    means = population.summary()["val_accuracy_mean"]
    assert population.chosen == int(np.argmax(means)) == 1
    tested = [accuracy is not None for accuracy in population.table()["test_accuracy"]]
    assert tested == [False] * 3 + [True] * 3 + [False] * 3
    assert [mean is None for mean in population.summary()["test_accuracy_mean"]] == [True, False, True]
    right = population.model().predict(arrays["X_test"]) == arrays["y_test"]
    assert population.ensemble_accuracy == pytest.approx(right.mean())


def test_a_setting_of_which_most_diverged_is_not_chosen_for_its_lucky_rest(arrays):
    population = fit(arrays, members=3, sweep={"lr": [1e-5, 0.1]})
    for k in (3, 4):
        population.outcomes[k].status = "diverged at step 7"
    assert population.choose() == 0
    for k in (0, 1):
        population.outcomes[k].status = "diverged at step 7"
    assert population.choose() == 1


def test_the_ensemble_is_the_mean_of_probabilities_also_when_measured_in_portions(arrays, monkeypatch):
    from fastmlp import population as module

    whole = fit(arrays, members=5)
    monkeypatch.setattr(module, "TOGETHER", 2)
    portions = fit(arrays, members=5)
    assert portions.ensemble_accuracy == whole.ensemble_accuracy
    assert portions.ensemble_log_loss == pytest.approx(whole.ensemble_log_loss, rel=1e-9)
    mean = np.mean([whole.model(k).predict_proba(arrays["X_test"]) for k in range(5)], axis=0)
    assert_close(whole.model().predict_proba(arrays["X_test"]), mean, 1e-12)
    right = mean[np.arange(60), np.searchsorted(whole.data.classes, arrays["y_test"])]
    assert whole.ensemble_log_loss == pytest.approx(-np.log(right).mean(), rel=1e-9)


def test_an_interrupt_amid_an_epoch_ends_all_members_that_are_not_finished(arrays, monkeypatch):
    trainers, run = [], Trainer._run

    def interrupting(self, *arguments):
        run(self, *arguments)
        trainers.extend([self] * (self not in trainers))
        if len(trainers) == 3 and self.epoch == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "_run", interrupting)
    with pytest.warns(UserWarning, match="interrupted"):
        population = fit(arrays, members=4, order="own")
    assert [outcome.status for outcome in population.outcomes] == ["finished", "finished", "interrupted", "interrupted"]
    assert population.ensemble_accuracy is None
    assert population.outcomes[3].tensors == {}
    assert population.model().network.members == 3


# ------------------------------------------------------------------------------------------------ numbers

def test_the_interval_is_students():
    from scipy import stats

    values = [0.5, 0.6, 0.55, 0.7]
    found = mean_and_interval(values)
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert (found["low"], found["high"]) == (pytest.approx(low), pytest.approx(high))
    assert found["std"] == pytest.approx(stats.tstd(values))
    assert mean_and_interval([0.5]) == {"mean": 0.5, "std": None, "low": None, "high": None}
    assert mean_and_interval([])["mean"] is None


def test_the_history_is_long_and_the_table_wide(arrays):
    population = fit(arrays, members=2, evaluate_every=2)
    history, table = population.history(), population.table()
    assert history["member"] == [0] * 4 + [1] * 4
    assert history["step"] == [0, 8, 16, 24] * 2
    assert np.isnan(history["train_loss"]).tolist() == [False, True, False, False] * 2
    assert table["train_loss"] == history["train_loss"][3::4]
    assert table["status"] == ["finished"] * 2


# ------------------------------------------------------------------------------------------------ refusals

@pytest.mark.parametrize(("options", "words"), [
    ({"members": 0}, "0 members"), ({"members": []}, "must be a whole number"), ({"members": 20_000}, "20000 members"),
    ({"members": [{"momentum": 0.5}]}, "momentum is no option here"),
    ({"members": [{"seed": 0}], "sweep": {"l2": [1.0]}}, "sweep belongs to a number"),
    ({"order": "random"}, "'random'.*shared, own"), ({"folds": 1}, "folds = 1 must be"), ({"folds": 999}, "999 folds"),
    ({"sweep": {"hidden": [3]}}, "hidden is no option here: choose from init,"),
    ({"sweep": {"l2": ["a"]}}, "l2 = 'a'"), ({"sweep": {"l2": []}}, "at least one"),
    ({"sweep": {"l2": [0.1, -1.0]}}, "the setting l2=-1 cannot be: --l2 -1.0: must be at least 0"),
    ({"sweep": {"lr_max": [0.3]}}, "the setting lr_max=0.3 cannot be: .*no meaning"),
    ({"data_dir": "x"}, "data_dir is no option"), ({"X_val": None}, "X_val and y_val belong together"),
    ({"lr": "fast"}, "lr = 'fast'"), ({"hidden": 2.5}, "hidden = 2.5"), ({"seed": True}, "seed = True"),
])
def test_what_cannot_be_is_refused_in_one_sentence(arrays, options, words):
    with pytest.raises(ConfigError, match=words):
        fit({**arrays, **{name: options[name] for name in ("X_val",) if name in options}},
            **{name: value for name, value in options.items() if name != "X_val"})


def test_without_a_validation_part_several_settings_cannot_be_chosen_from(arrays):
    without = {name: arrays[name] for name in ("data", "y", "X_test", "y_test")}
    with pytest.raises(ConfigError, match="--validation"):
        fit(without, sweep={"l2": [0.1, 0.2]})
    assert fit(without, members=2).summary()["val_accuracy_mean"] == [None]
    assert fit(without, members=1, sweep={"l2": [0.1, 0.2]}, folds=2).chosen in (0, 1)


def test_without_members_there_is_nothing_to_train(arrays):
    data = from_arrays(arrays["data"], arrays["y"], (arrays["X_val"], arrays["y_val"]), (None, None))
    with pytest.raises(ConfigError, match="there are no members: give at least one"):
        check_population([], [{}], data, None, "shared")


def test_without_a_test_part_the_chosen_are_measured_on_no_other(arrays):
    population = fit_population(**{name: arrays[name] for name in ("data", "y", "X_val", "y_val")}, members=2, **QUICK)
    assert population.chosen is not None
    assert population.ensemble_accuracy is None
    summary = population.summary()
    assert all(np.isnan(np.array(summary[name], float)).all() for name in summary if "test_accuracy" in name)


def test_arrays_that_do_not_fit_are_refused(arrays):
    for change, words in (({"X_val": np.ones((60, 4))}, "X_val"), ({"y": None}, "labels are missing"),
                          ({"y_test": np.array(["dog"] * 60)}, "'dog'"), ({"y_val": arrays["y_val"][:5]}, "y_val")):
        with pytest.raises(DataError, match=words):
            fit({**arrays, **change})
    with pytest.raises(ConfigError, match="has them in it"):
        fit({**arrays, "data": load_dataset("digits")})


# ------------------------------------------------------------------------------------------------ data on disk

@pytest.fixture
def files(tmp_path):
    """The names of an X.npy and a y.npy."""
    rng = np.random.default_rng(0)
    y = np.arange(400) % 4
    np.save(tmp_path / "X.npy", (60 * y[:, None] + rng.integers(0, 60, (400, 6))).astype(np.uint8))
    np.save(tmp_path / "y.npy", y)
    return tmp_path / "X.npy", tmp_path / "y.npy"


@pytest.mark.parametrize("folds", [None, 3])
def test_members_train_on_rows_that_stay_on_disk_as_on_rows_in_memory(files, folds, monkeypatch):
    monkeypatch.setattr("fastmlp.data.loading.free_memory", lambda: 1600)       # bytes, half of which the 2400 may take
    on_disk = load_dataset(files[0], target=str(files[1]), validation=0 if folds else 0.2)
    assert isinstance(on_disk.x_train, RowsOnDisk)
    monkeypatch.undo()
    in_memory = load_dataset(files[0], target=str(files[1]), validation=0 if folds else 0.2)
    accuracies = [fit_population(data, members=3, folds=folds, hidden=(32,), batch_size=20, cycles=1, step_size=200,
                                 device="cpu").table()["val_accuracy"] for data in (on_disk, in_memory)]
    assert min(accuracies[0]) > 0.9
    np.testing.assert_allclose(*accuracies, atol=0.05)


def test_folds_of_a_validation_part_on_disk_are_refused(files, monkeypatch):
    monkeypatch.setattr("fastmlp.data.loading.free_memory", lambda: 1)
    with pytest.raises(ConfigError, match="load it with validation=0"):
        fit_population(load_dataset(files[0], target=str(files[1])), members=2, folds=2, hidden=(8,), batch_size=20,
                       device="cpu")


@pytest.mark.parametrize(("wrong", "words"), [
    ({"members": True}, "members = True must be"), ({"members": 2.0}, "members = 2.0 must be"),
    ({"members": "ab"}, "members = 'ab' must be"), ({"members": {"l2": 0.1}}, "members = {'l2': 0.1} must be"),
    ({"members": []}, r"members = \[\] must be"), ({"folds": 0}, "folds = 0 must be"),
    ({"folds": 2.5}, "folds = 2.5 must be"), ({"sweep": [("l2", [0.1])]}, "must be a dict"),
    ({"sweep": {"l2": 0.1}}, "sweep of l2: 0.1 must be"), ({"sweep": {"init": "he"}}, "sweep of init: 'he' must be"),
    ({"sweep": {"l2": []}}, r"sweep of l2: \[\] must be"), ({"sweep": {"l2": [0.1, 0.1]}}, "different values"),
])
def test_members_folds_and_sweeps_that_cannot_be_are_named(arrays, wrong, words):
    with pytest.raises(ConfigError, match=words):
        fit(arrays, **{"members": 2, **wrong})


def test_numbers_of_numpy_are_numbers(arrays):
    assert len(fit(arrays, members=np.int64(2)).outcomes) == 2
