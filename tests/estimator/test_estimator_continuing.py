"""Training in pieces: warm starts, partial_fit, pickles, interruptions, and the stopping rules on validation data."""

import copy
import pickle

import numpy as np
import pytest
from sklearn.base import clone

from fastmlp.errors import ConfigError, DivergenceError
from fastmlp.estimator import MLPClassifier
from fastmlp.estimator import fit as estimator_fit
from fastmlp.progress import Progress

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

VARIANTS = {
    "adam": {},
    "adamw": {"solver": "adamw"},
    "momentum": {"solver": "sgd"},
    "batch norm": {"batch_norm": True},
    "standardised": {"standardize": "feature", "dtype": "float32"},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling"},
    "adaptive": {"solver": "sgd", "learning_rate": "adaptive", "tol": 10.0, "n_iter_no_change": 1},
    "cyclical": {"solver": "sgd", "learning_rate": "cyclical", "step_size": 7},
    "step": {"solver": "sgd", "learning_rate": "step", "step_size": 7},
    "generator": {"random_state": np.random.RandomState(3)},
}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = np.arange(90) % 3
    return rng.normal(size=(90, 6)) + y[:, None], y


def make(**options):
    fixed = {"batch_size": 20, "tol": 0.0, "n_iter_no_change": np.inf, "random_state": 0}
    return MLPClassifier((10, 7), **{**fixed, **copy.deepcopy(options)})


def assert_same(a, b):
    for one, other in zip(a.coefs_ + a.intercepts_, b.coefs_ + b.intercepts_, strict=True):
        np.testing.assert_array_equal(one, other)
    assert a.loss_curve_ == b.loss_curve_
    assert a.t_ == b.t_


@pytest.mark.parametrize("variant", VARIANTS)
def test_n_times_one_epoch_is_n_epochs(data, variant):
    whole = make(max_iter=6, **VARIANTS[variant]).fit(*data)
    warm = make(max_iter=1, warm_start=True, **VARIANTS[variant])
    parts = make(**VARIANTS[variant])
    for k in range(6):
        warm.fit(*data)
        parts.partial_fit(*data, classes=[2, 1, 0] if k == 0 else None)
        assert warm.n_iter_ == parts.n_iter_ == 1
    assert_same(whole, warm)
    assert_same(whole, parts)
    assert (whole.n_iter_, whole.t_, len(whole.loss_curve_)) == (6, 6 * 90, 6)


def test_partial_fit_takes_no_notice_of_early_stopping(data):
    stopping, plain = make(early_stopping=True), make()
    for _ in range(2):
        assert_same(stopping.partial_fit(*data, classes=[0, 1, 2]), plain.partial_fit(*data, classes=[0, 1, 2]))
    assert stopping.validation_scores_ is None


def test_adaptive_really_divided(data):
    model = make(max_iter=6, **VARIANTS["adaptive"]).fit(*data)
    assert model._learner.rate_factor == pytest.approx(1 / 25)


def test_one_cycle_begins_anew_with_every_fit(data):
    model = make(solver="sgd", learning_rate="one-cycle", max_iter=4, warm_start=True).fit(*data)
    first = np.array(model.coefs_[0])
    model.fit(*data)
    assert np.abs(model.coefs_[0] - first).max() > 1e-3


@pytest.mark.parametrize("copied", [lambda m: pickle.loads(pickle.dumps(m)), copy.deepcopy], ids=["pickle", "deepcopy"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_copy_goes_on_exactly(data, variant, copied):
    X, y = data
    whole, parts = make(**VARIANTS[variant]), make(**VARIANTS[variant])
    for _ in range(6):
        whole.partial_fit(X, y, classes=[0, 1, 2])
    for _ in range(3):
        parts.partial_fit(X, y, classes=[0, 1, 2])
    original, parts = parts, copied(parts)
    np.testing.assert_array_equal(original.predict_proba(X), parts.predict_proba(X))
    before = np.array(original.coefs_[0])
    for _ in range(3):
        parts.partial_fit(X, y)
    assert_same(whole, parts)
    np.testing.assert_array_equal(original.coefs_[0], before)
    network = parts._learner.network
    assert all(np.shares_memory(layer.w, network.parameters) for layer in network.layers)


def test_predicting_leaves_no_trace(data):
    model = make(batch_norm=True).partial_fit(*data, classes=[0, 1, 2])
    before = pickle.dumps(model)
    model.predict(data[0])
    model.predict_log_proba(data[0])
    assert pickle.dumps(model) == before


def test_warm_start_takes_new_hyper_parameters_and_refuses_another_network(data):
    model = make(max_iter=2, warm_start=True).fit(*data)
    moments = model._learner.optimizer.state["first"]
    model.set_params(learning_rate_init=0.1, beta_1=0.5).fit(*data)
    assert model._learner.optimizer.state["first"] is moments
    assert (model._learner.optimizer.beta1, model._learner.optimizer.step) == (0.5, 20)
    model.set_params(solver="sgd").fit(*data)
    for change in ({"hidden_layer_sizes": (5,)}, {"batch_norm": True}, {"dtype": "float32"},
                   {"standardize": "feature"}):
        with pytest.raises(ConfigError, match="warm_start=False"):
            clone_of(model).set_params(**change).fit(*data)


def clone_of(fitted):
    return copy.deepcopy(fitted)


def test_random_states(data):
    np.testing.assert_array_equal(make(random_state=1, max_iter=2).fit(*data).coefs_[0],
                                  make(random_state=np.int64(1), max_iter=2).fit(*data).coefs_[0])
    for seed in (np.random.RandomState(4), None):
        first, second = (make(random_state=seed, max_iter=2).fit(*data) for _ in range(2))
        assert seed is not None or not np.array_equal(first.coefs_[0], second.coefs_[0])
    generator = np.random.RandomState(4)
    one, two = (clone_free(generator).fit(*data) for _ in range(2))     # the generator is drawn on, not reset
    assert not np.array_equal(one.coefs_[0], two.coefs_[0])
    np.random.seed(7)       # noqa: NPY002 - random_state=None means this generator
    one = make(random_state=None, max_iter=2).fit(*data)
    np.random.seed(7)       # noqa: NPY002 - random_state=None means this generator
    np.testing.assert_array_equal(one.coefs_[0], make(random_state=None, max_iter=2).fit(*data).coefs_[0])


def clone_free(generator):
    return make(max_iter=2).set_params(random_state=generator)


# ------------------------------------------------------------------------------------------------ what goes wrong

class Breaker(Progress):
    """Someone who presses Ctrl-C in the middle of an epoch."""

    def __init__(self, at_step):
        self.at_step = at_step

    def step(self, step):
        if step >= self.at_step:
            raise KeyboardInterrupt


def test_interrupt_keeps_the_last_whole_epoch(data, monkeypatch):
    expected = make(max_iter=2).fit(*data)
    monkeypatch.setattr(estimator_fit, "make_progress", lambda mode: Breaker(at_step=2 * 5 + 3))
    model = make(max_iter=9)
    with pytest.warns(UserWarning, match="interrupted by user"):
        model.fit(*data)
    assert_same(expected, model)
    assert model.n_iter_ == 2
    assert model._learner.optimizer.step == 10
    np.testing.assert_array_equal(model._learner.optimizer.state["second"],
                                  expected._learner.optimizer.state["second"])
    monkeypatch.undo()
    model.partial_fit(*data)


def test_divergence_keeps_the_last_good_epoch(data):
    model = make(solver="sgd", warm_start=True, max_iter=3).fit(*data)
    good, good_velocity = copy.deepcopy(model), model._learner.optimizer.state["velocity"].copy()
    with pytest.raises(DivergenceError, match="try a lower learning rate"):
        model.set_params(learning_rate_init=1e200).fit(*data)
    np.testing.assert_array_equal(model.predict_proba(data[0]), good.predict_proba(data[0]))
    np.testing.assert_array_equal(model._learner.optimizer.state["velocity"], good_velocity)
    model.set_params(learning_rate_init=0.01).fit(*data)
    assert np.isfinite(model.loss_)


def test_divergence_in_the_very_last_step(data):
    X, y = data
    model = make(solver="sgd", max_iter=1, batch_size=90, learning_rate_init=3e38, dtype="float32")
    with pytest.raises(DivergenceError, match="the weights or the cost became NaN or infinite at step 1"):
        model.fit(1e6 * X, y)
    assert np.isfinite(model.coefs_[0]).all()
    assert model.loss_curve_ == []


def test_a_failed_first_fit_leaves_no_fitted_estimator(data):
    X, y = data
    model = make(batch_norm=True, batch_size="auto")
    with pytest.raises(ValueError, match="needs at least two"):
        model.partial_fit(X[:1], y[:1], classes=[0, 1, 2])
    assert not hasattr(model, "coefs_")
    assert not hasattr(model, "classes_")


# ------------------------------------------------------------------------------------------------ validation

@pytest.fixture(scope="module")
def noisy():
    """Labels so noisy that long training makes validation worse."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(160, 8))
    y = np.where(rng.random(160) < 0.4, rng.integers(0, 2, 160), X[:, 0] > 0).astype(int)
    return X[:100], y[:100], X[100:], y[100:]


@pytest.mark.parametrize("batch_norm", [False, True])
def test_early_stopping_ends_with_the_best_epoch_of_the_users_set(noisy, batch_norm):
    X, y, X_val, y_val = noisy
    model = make(early_stopping=True, batch_norm=batch_norm, max_iter=60, learning_rate_init=0.02)
    model.fit(X, y, X_val=X_val, y_val=y_val)
    scores = model.validation_scores_
    assert model.score(X_val, y_val) == model.best_validation_score_ == max(scores) > scores[-1]
    assert len(scores) == len(model.validation_loss_curve_) == model.n_iter_ == 60
    assert model.best_loss_ is None
    best_epoch = int(np.argmax(scores)) + 1         # the same training up to there
    shorter = make(batch_norm=batch_norm, max_iter=best_epoch, learning_rate_init=0.02).fit(X, y)
    np.testing.assert_array_equal(model.predict_proba(X), shorter.predict_proba(X))


def test_early_stopping_stops(noisy):
    X, y, X_val, y_val = noisy
    model = make(early_stopping=True, max_iter=200, n_iter_no_change=5, tol=1e-4).fit(X, y, X_val=X_val, y_val=y_val)
    best = int(np.argmax(model.validation_scores_))
    assert model.n_iter_ == best + 1 + 6 < 200      # as in scikit-learn, after one epoch more than the patience


@pytest.mark.parametrize("rate", ["constant", "cyclical"])
def test_held_out_part_is_stratified_and_not_trained_on(noisy, rate, monkeypatch):
    X, y = noisy[:2]
    seen = {}
    original = estimator_fit.prepare

    def spy(p, learner, data, validation, **rest):
        seen.update(train=data, validation=validation)
        return original(p, learner, data, validation, **rest)

    monkeypatch.setattr("fastmlp.estimator.classifier.prepare", spy)
    make(early_stopping=True, max_iter=3, validation_fraction=0.15, learning_rate=rate).fit(X, y)
    assert len(seen["validation"].x) == 15
    assert len(np.unique(np.vstack([seen["train"].x, seen["validation"].x]), axis=0)) == 100
    share = np.mean(y)
    assert abs(np.mean(seen["validation"].codes) - share) < 0.05


def test_validation_set_without_early_stopping_only_looks(noisy):
    X, y, X_val, y_val = noisy
    watched, alone = make(max_iter=4).fit(X, y, X_val=X_val, y_val=y_val), make(max_iter=4).fit(X, y)
    np.testing.assert_array_equal(watched.coefs_[0], alone.coefs_[0])
    assert watched.validation_scores_[-1] == watched.score(X_val, y_val)
    assert watched.best_validation_score_ == max(watched.validation_scores_)
    p = watched.predict_proba(X_val)[np.arange(len(y_val)), y_val]
    assert watched.validation_loss_curve_[-1] == pytest.approx(-np.log(p).mean())
    assert alone.validation_scores_ is alone.best_validation_score_ is None


def test_half_a_validation_set_is_refused(noisy):
    X, y, X_val, y_val = noisy
    with pytest.raises(ConfigError, match="X_val and y_val belong together"):
        make().fit(X, y, X_val=X_val)
    with pytest.raises(ValueError, match="the label 7 is not among the classes"):
        make().fit(X, y, X_val=X_val, y_val=y_val + 7)
    with pytest.raises(ConfigError, match="validation_fraction = 0"):
        make(early_stopping=True, validation_fraction=0).fit(X, y)


def test_verbose_shows_every_part(noisy, capsys):
    X, y, X_val, y_val = noisy
    clone(make(max_iter=2, verbose=True)).fit(X, y, X_val=X_val, y_val=y_val)
    shown = capsys.readouterr().err
    assert "MLPClassifier: 2 epochs, 10 steps" in shown
    assert "val acc" in shown
    make(max_iter=2).fit(X, y)
    assert capsys.readouterr() == ("", "")
