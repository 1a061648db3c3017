"""The meaning of alpha, of the rates and of the optimizers, against scikit-learn itself."""

import numpy as np
import pytest
from sklearn.neural_network import MLPClassifier as Original

from fastmlp.estimator import MLPClassifier
from fastmlp.initializers import draw_weights

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

SEED, HIDDEN = 5, (8, 6)
FOREVER = {"tol": 0.0, "n_iter_no_change": np.inf}
PLAIN = {"solver": "sgd", "momentum": 0.0, "learning_rate_init": 0.2, **FOREVER}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(1)
    y = np.arange(90) % 3
    return rng.normal(size=(90, 4)) + y[:, None], y


def train_both(X, y, sample_weight=None, epochs=25, **options):
    """scikit-learn's and ours, from the same weights; three classes, as with two scikit-learn has a single output."""
    ours = MLPClassifier(HIDDEN, random_state=SEED, max_iter=epochs, **options).fit(X, y, sample_weight)
    theirs = Original(HIDDEN, warm_start=True, max_iter=1, **options).fit(X, y)
    theirs.coefs_ = draw_weights(SEED, (X.shape[1], *HIDDEN, 3), "he", 0.01)
    theirs.intercepts_ = [np.zeros(w.shape[1]) for w in theirs.coefs_]
    theirs.loss_curve_, theirs.best_loss_, theirs._no_improvement_count, theirs.t_ = [], np.inf, 0, 0
    return theirs.set_params(max_iter=epochs).fit(X, y, sample_weight), ours


def assert_same(theirs, ours, atol=1e-10):
    for a, b in zip(theirs.coefs_ + theirs.intercepts_, ours.coefs_ + ours.intercepts_, strict=True):
        np.testing.assert_allclose(b, a, rtol=0, atol=atol)
    assert (theirs.n_iter_, theirs.t_, theirs.n_layers_) == (ours.n_iter_, ours.t_, ours.n_layers_)


@pytest.mark.parametrize("activation", ["tanh", "relu", "logistic", "identity"])
@pytest.mark.parametrize("alpha", [0.0, 1e-4, 5.0])
def test_alpha(data, activation, alpha):
    theirs, ours = train_both(*data, activation=activation, alpha=alpha, **PLAIN)
    assert_same(theirs, ours)
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=0, atol=1e-10)
    np.testing.assert_allclose(ours.predict_proba(data[0]), theirs.predict_proba(data[0]), rtol=0, atol=1e-10)
    assert ours.best_loss_ == pytest.approx(theirs.best_loss_, abs=1e-10)


@pytest.mark.parametrize("alpha", [1e-4, 5.0])
def test_alpha_with_sample_weights(data, alpha):
    weights = np.random.default_rng(2).uniform(0.1, 5.0, 90)
    theirs, ours = train_both(*data, weights, activation="tanh", alpha=alpha, **PLAIN)
    assert_same(theirs, ours)
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=0, atol=1e-10)


def test_alpha_in_mini_batches(data):
    assert_same(*train_both(*data, activation="tanh", alpha=2.0, batch_size=30, shuffle=False, **PLAIN))


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum(data, nesterov):
    options = {**PLAIN, "momentum": 0.9, "learning_rate_init": 0.05, "nesterovs_momentum": nesterov}
    assert_same(*train_both(*data, activation="tanh", alpha=1.0, batch_size=30, shuffle=False, **options))


def test_invscaling(data):
    assert_same(*train_both(*data, activation="tanh", learning_rate="invscaling", power_t=0.3, batch_size=30,
                            shuffle=False, **PLAIN))


def test_adaptive_divides_the_rate_when_the_loss_stays(data):
    options = {**PLAIN, "tol": 0.02, "n_iter_no_change": 2, "learning_rate_init": 2.0}
    theirs, ours = train_both(*data, activation="tanh", learning_rate="adaptive", epochs=60, **options)
    assert_same(theirs, ours)
    assert ours._learner.rate_factor < 0.2


@pytest.mark.filterwarnings("error")
def test_adaptive_and_plateau_stop(data):
    """Both end by themselves, in the same epoch, and so without a warning."""
    for options in ({"learning_rate": "adaptive"}, {}):
        options = {**PLAIN, "tol": 0.5, "n_iter_no_change": 2, **options}
        X, y = data
        ours = MLPClassifier(HIDDEN, activation="tanh", random_state=SEED, max_iter=200, **options).fit(X, y)
        theirs = Original(HIDDEN, activation="tanh", random_state=SEED, max_iter=200, **options).fit(X, y)
        assert ours.n_iter_ == theirs.n_iter_ < 200


# scikit-learn ignores the latter two under adam
@pytest.mark.parametrize("learning_rate", ["constant", "invscaling", "adaptive"])
@pytest.mark.parametrize(("epsilon", "atol"), [(1e-20, 1e-10), (1e-8, 1e-4)])   # added before or after a correction
def test_adam(data, learning_rate, epsilon, atol):
    options = {"solver": "adam", "learning_rate_init": 0.01, "alpha": 2.0, "learning_rate": learning_rate,
               "epsilon": epsilon, **FOREVER}
    assert_same(*train_both(*data, activation="tanh", batch_size=30, shuffle=False, **options), atol=atol)


def test_max_iter_warns_like_scikit_learn(data):
    from sklearn.exceptions import ConvergenceWarning

    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(3\) reached") as caught:
        MLPClassifier(max_iter=3).fit(*data)
    assert caught[0].filename == __file__


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("learning_rate", ["cyclical", "one-cycle", "cosine"])
def test_planned_rates_run_to_their_end_without_a_warning(data, learning_rate):
    model = MLPClassifier(solver="sgd", learning_rate=learning_rate, max_iter=15, n_iter_no_change=1, tol=10.0)
    assert model.fit(*data).n_iter_ == 15


def test_batch_size_is_clipped(data):
    with pytest.warns(UserWarning, match="batch_size = 500 .* clipped to the 90"):
        clipped = MLPClassifier(batch_size=500, max_iter=3, random_state=0).fit(*data)
    np.testing.assert_array_equal(clipped.coefs_[0], MLPClassifier(max_iter=3, random_state=0).fit(*data).coefs_[0])
