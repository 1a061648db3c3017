"""Sample weights and class weights: repetition, in the loss, in batch norm, in the standardisation, in the score."""

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from fastmlp.estimator import MLPClassifier
from fastmlp.estimator.inputs import hold_out, make_data

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    return rng.normal(size=(60, 4)) + y[:, None], y


def make(**options):
    return MLPClassifier(**{"hidden_layer_sizes": (6,), "max_iter": 5, "batch_size": 20, "random_state": 0, **options})


def assert_same(a, b, X):
    np.testing.assert_array_equal(a.predict_proba(X), b.predict_proba(X))


@pytest.mark.parametrize("options", [{}, {"batch_norm": True}, {"standardize": "feature"}, {"loss": "hinge"},
                                     {"early_stopping": True}], ids=str)
def test_class_weights_are_sample_weights(data, options):
    X, y = data
    y = np.minimum(y, 1)                                    # 20 of class 0, 40 of class 1
    by_hand = compute_class_weight("balanced", classes=np.array([0, 1]), y=y)
    for class_weight, weights in (({0: 3.0, 1: 0.5}, [3.0, 0.5]), ("balanced", by_hand), ({0: 2}, [2.0, 1.0])):
        assert_same(make(class_weight=class_weight, **options).fit(X, y),
                    make(**options).fit(X, y, np.asarray(weights)[y]), X)
    own = np.linspace(0.5, 2, 60)
    weighted = make(class_weight={0: 3.0, 1: 0.5}, **options).fit(X, y, own)
    assert_same(weighted, make(**options).fit(X, y, own * np.array([3.0, 0.5])[y]), X)
    assert np.abs(weighted.predict_proba(X) - make(**options).fit(X, y).predict_proba(X)).max() > 1e-3


@pytest.mark.parametrize("options", [{}, {"batch_norm": True}, {"standardize": "feature"}], ids=str)
def test_weights_in_float32(data, options):
    """What scikit-learn's check asks for, at the precision of float32: repeating rows is weighting them."""
    X, y = data
    times = np.random.default_rng(1).integers(0, 4, 60)
    options = {"dtype": "float32", "batch_size": "auto", "max_iter": 20, **options}
    weighted, repeated = make(**options).fit(X, y, times), make(**options).fit(X.repeat(times, 0), y.repeat(times))
    np.testing.assert_allclose(weighted.predict_proba(X), repeated.predict_proba(X), rtol=1e-4)


def test_equal_weights_change_nothing(data):
    X, y = data
    assert_same(make(alpha=0.0).fit(X, y, np.full(60, 7.0)), make(alpha=0.0).fit(X, y), X)
    assert_same(make(alpha=7.0).fit(X, y, 7.0), make(alpha=1.0).fit(X, y), X)


def test_weighted_early_stopping_scores_by_weight(data):
    X, y = data
    weights = np.where(y == 0, 1e6, 1.0)
    model = make(early_stopping=True, validation_fraction=0.3, max_iter=1).fit(X, y, weights)
    validation = hold_out(make_data(None, X, y, model.classes_, weights), 0.3, seed=0)[1]
    weighted = model.score(validation.x, validation.codes, validation.weights)
    assert model.validation_scores_ == [pytest.approx(weighted, rel=1e-12)]
    assert abs(weighted - model.score(validation.x, validation.codes)) > 0.05
