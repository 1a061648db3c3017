"""n_members: several networks trained at once, whose probabilities are averaged."""

import copy
import pickle

import numpy as np
import pytest

from fastmlp.backend import resolve
from fastmlp.errors import ConfigError, DivergenceError, ModelFileError
from fastmlp.estimator import MLPClassifier
from fastmlp.estimator import fit as estimator_fit
from fastmlp.estimator.inputs import member_seeds
from fastmlp.model import load_model
from fastmlp.schedules import constant

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = np.arange(90) % 3
    return rng.normal(size=(90, 6)) + y[:, None], y


def make(**options):
    fixed = {"batch_size": 20, "random_state": 0, "max_iter": 4, "n_members": 3}
    return MLPClassifier((10, 7), **{**fixed, **options})


@pytest.fixture
def member_2_explodes(monkeypatch):
    """The rate of the last member is far too large from the given step on."""
    def explode(first=0, members=(2,)):
        def schedule(p, steps_per_epoch, done):
            def rates(step):
                late = np.asarray(step) + done >= first
                return np.where(late & np.isin(np.arange(p.n_members), members), 1e300, constant(step, lr=0.01))
            return rates
        monkeypatch.setattr(estimator_fit, "make_schedule", schedule)
    return explode


def alone(model, k, X):
    """Probabilities by member k's own weights."""
    h = X
    for w, b in zip(model.coefs_[:-1], model.intercepts_[:-1], strict=True):
        h = np.maximum(h @ w[k] + b[k], 0)
    scores = np.exp(h @ model.coefs_[-1][k] + model.intercepts_[-1][k])
    return scores / scores.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("options", [{}, {"batch_norm": True}], ids=str)
def test_probabilities_are_the_mean_of_the_members(data, options):
    X, y = data
    model = make(**options).fit(X, y)
    assert [w.shape for w in model.coefs_] == [(3, 6, 10), (3, 10, 7), (3, 7, 3)]
    assert [b.shape for b in model.intercepts_] == [(3, 10), (3, 7), (3, 3)]
    mean = np.mean([alone(model, k, X) for k in range(3)], axis=0)
    np.testing.assert_allclose(model.predict_proba(X), mean, rtol=1e-9)
    np.testing.assert_allclose(model.predict_log_proba(X), np.log(mean), rtol=1e-9)
    assert (model.predict(X) == mean.argmax(axis=1)).all()
    assert model.diverged_members_ == []


def test_the_first_member_is_the_network_of_one_member_and_the_others_are_others(data):
    one, three = make(n_members=1).fit(*data), make().fit(*data)
    np.testing.assert_allclose(three.coefs_[0][0], one.coefs_[0], rtol=1e-9)
    assert np.abs(three.coefs_[0][1] - three.coefs_[0][2]).max() > 0.1
    assert member_seeds(7, 1) == [7]
    assert not set(member_seeds(0, 50)) & set(member_seeds(1, 50))


def test_losses_are_means_and_validation_scores_those_of_the_ensemble(data):
    X, y = data
    model = make(n_iter_no_change=100).fit(X[:60], y[:60], X_val=X[60:], y_val=y[60:])
    assert model.validation_scores_[-1] == model.score(X[60:], y[60:])
    losses = [make(n_members=1, n_iter_no_change=100).fit(X[:60], y[:60]).loss_curve_[0]]
    assert model.loss_curve_[0] != losses[0]
    log_p = [np.log(alone(model, k, X[60:]))[np.arange(30), y[60:]] for k in range(3)]
    assert model.validation_loss_curve_[-1] == pytest.approx(-np.mean(log_p))


def test_early_stopping_ends_with_the_weights_of_the_best_epoch(data):
    X, y = data
    model = make(early_stopping=True, max_iter=30, learning_rate_init=0.1).fit(X[:60], y[:60], X_val=X[60:],
                                                                             y_val=y[60:])
    assert model.score(X[60:], y[60:]) == model.best_validation_score_ == max(model.validation_scores_)


@pytest.mark.parametrize("copied", [lambda m: pickle.loads(pickle.dumps(m)), copy.deepcopy], ids=["pickle", "deepcopy"])
def test_in_pieces_and_copied_in_between_it_is_the_same_training(data, copied):
    whole, parts, warm = make(max_iter=4), make(), make(max_iter=2, warm_start=True)
    whole.fit(*data)
    for _ in range(4):
        parts = copied(parts.partial_fit(*data, classes=[0, 1, 2]))
    warm.fit(*data).fit(*data)
    for other in (parts, warm):
        assert other.loss_curve_ == whole.loss_curve_
        for one, two in zip(whole.coefs_, other.coefs_, strict=True):
            np.testing.assert_array_equal(one, two)


def test_files_hold_all_members(data, tmp_path):
    X, y = data
    model = make(batch_norm=True).fit(X, y)
    model.save(tmp_path / "m.safetensors")
    loaded = MLPClassifier.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    assert loaded.get_params()["n_members"] == 3
    loaded.partial_fit(X, y)
    ensemble = load_model(tmp_path / "m.safetensors", resolve("cpu"))
    np.testing.assert_array_equal(ensemble.predict(X), model.predict(X))
    model.set_params(n_members=2)
    assert MLPClassifier.load(tmp_path / "m.safetensors").n_members == 3


def test_a_file_whose_parameters_contradict_its_members_is_refused(data, tmp_path, monkeypatch):
    model = make().fit(*data)
    whole = model._model()
    whole.extra = {"parameters": {"n_members": 2}}
    from fastmlp.model import save_model

    save_model(tmp_path / "m.safetensors", whole)
    with pytest.raises(ModelFileError, match="holds 3 members"):
        MLPClassifier.load(tmp_path / "m.safetensors")


# ------------------------------------------------------------------------------------------------ divergence

@pytest.mark.parametrize("first", [0, 7])
def test_a_member_that_diverges_is_left_out_with_a_warning_and_the_others_are_what_they_would_be(
        data, member_2_explodes, tmp_path, first):
    X, y = data
    healthy = make(solver="sgd", momentum=0, learning_rate_init=0.01).fit(X, y)
    member_2_explodes(first)
    with pytest.warns(RuntimeWarning, match="member 2 of 3 diverged .* left out of the average"):
        model = make(solver="sgd", momentum=0).fit(X, y)
    assert model.diverged_members_ == [2]
    for one, other in zip(model.coefs_, healthy.coefs_, strict=True):
        np.testing.assert_array_equal(one[:2], other[:2])
        assert np.isfinite(one).all()
    np.testing.assert_allclose(model.predict_proba(X), np.mean([alone(healthy, k, X) for k in range(2)], axis=0),
                               rtol=1e-9)
    assert np.isfinite(model.loss_curve_).all()
    model.save(tmp_path / "m.safetensors")
    loaded = MLPClassifier.load(tmp_path / "m.safetensors")
    assert loaded.n_members == 2
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))


def test_who_diverged_stays_out_in_further_calls_and_is_back_in_a_new_fit(data, member_2_explodes):
    member_2_explodes()
    model = make(solver="sgd")
    with pytest.warns(RuntimeWarning, match="member 2"):
        model.partial_fit(*data, classes=[0, 1, 2])
    frozen = model.coefs_[0][2].copy()
    member_2_explodes(10**9)                    # it would not diverge again
    model = pickle.loads(pickle.dumps(model)).partial_fit(*data)            # without another warning
    assert model.diverged_members_ == [2]
    np.testing.assert_array_equal(model.coefs_[0][2], frozen)
    assert model.fit(*data).diverged_members_ == []


def test_when_all_diverge_it_is_an_error_and_the_last_good_state_stays(data, member_2_explodes):
    member_2_explodes(10, (0, 1, 2))            # 5 steps an epoch
    model = make(solver="sgd", momentum=0)
    with pytest.raises(DivergenceError, match="the last of 3"):
        model.fit(*data)
    assert model.n_iter_ == 2
    assert np.isfinite(model.predict_proba(data[0])).all()


# ------------------------------------------------------------------------------------------------ refusals

@pytest.mark.parametrize("n_members", [0, -1, 1.5, "3", None, True])
def test_numbers_of_members_that_cannot_be_are_refused(data, n_members):
    with pytest.raises(ConfigError, match=r"n_members = .* must be a whole number of at least 1"):
        make(n_members=n_members).fit(*data)


def test_a_warm_start_with_another_number_of_members_is_refused(data):
    model = make(warm_start=True).fit(*data)
    with pytest.raises(ConfigError, match="holds 3 members, and n_members is 4 now"):
        model.set_params(n_members=4).fit(*data)
    assert model.set_params(warm_start=False).fit(*data).coefs_[0].shape == (4, 6, 10)
