"""What may be passed in: tables, labels, weights, devices, parameters; and the words on what may not."""

import sys
import types

import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from fastmlp.backend import resolve
from fastmlp.errors import ConfigError, DataError, DeviceError
from fastmlp.estimator import MLPClassifier
from fastmlp.evaluation import folded_layers
from fastmlp.initializers import draw_weights

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


# -------------------------------------------------------------------------------------------------------- examples

@pytest.mark.parametrize("labels", [
    np.array(["x", "longer", "y"]), np.array(["x", "longer", "y"], object), np.array([10, -2, 7]),
    np.array([0.5, 1.5, 2.0]) * 2, pd.Categorical(["a", "b", "c"]),
], ids=["text", "objects", "ints", "floats", "categories"])
def test_labels(data, labels):
    X, y = data
    named = np.asarray(labels)[y]
    model = make(max_iter=100, learning_rate_init=0.05).fit(X, named)
    assert set(model.predict(X)) <= set(np.asarray(labels))
    assert model.classes_.tolist() == sorted(np.asarray(labels).tolist())
    assert model.score(X, named) > 0.7
    assert model.predict(X).dtype == model.classes_.dtype


def test_two_classes_of_bool(data):
    X, y = data
    model = make().fit(X, y > 1)
    assert model.classes_.tolist() == [False, True]
    assert model.predict_proba(X).shape == (60, 2)
    assert (model.n_outputs_, model.n_layers_, model.out_activation_) == (2, 3, "softmax")


def test_data_frames(data):
    X, y = data
    frame = pd.DataFrame(X, columns=list("abcd"))
    model = make().fit(frame, pd.Series(y), sample_weight=pd.Series(np.ones(60)), X_val=frame, y_val=pd.Series(y))
    assert model.feature_names_in_.tolist() == list("abcd")
    assert_same(model, model, frame)
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame.rename(columns={"a": "z"}))
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        np.testing.assert_array_equal(model.predict(X), model.predict(frame))


def test_input_is_not_changed(data):
    X, y = data
    weights = np.linspace(0, 1, 60)
    copies = X.copy(), y.copy(), weights.copy()
    for array in (X, y, weights):
        array.flags.writeable = False
    make(standardize="feature", batch_norm=True).fit(X, y, weights).predict(X)
    for array, kept in zip((X, y, weights), copies, strict=True):
        np.testing.assert_array_equal(array, kept)


def test_precision_follows_the_data(data):
    X, y = data
    assert make().fit(X, y).coefs_[0].dtype == np.float64
    single = make().fit(X.astype(np.float32), y)
    assert single.coefs_[0].dtype == single.predict_proba(X).dtype == np.float32
    assert make(dtype="float32").fit(X, y).coefs_[0].dtype == np.float32
    assert make(dtype="float64").fit(X.astype(np.float32), y).coefs_[0].dtype == np.float64


def test_standardizing_happens_before_rounding():
    X = 1e9 + np.array([[0.0], [1.0]] * 30)
    model = make(standardize="feature", dtype="float32", max_iter=50, learning_rate_init=0.1).fit(X, [0, 1] * 30)
    assert model.score(X, [0, 1] * 30) == 1.0


def test_bytes(data):
    X, y = data
    X = np.round(20 * (X + 5)).clip(0, 255)
    by_bytes, by_floats = (make(standardize="scale").fit(X.astype(t), y) for t in (np.uint8, np.float64))
    np.testing.assert_allclose(by_bytes.predict_proba(X), by_floats.predict_proba(X), rtol=1e-9)
    assert by_bytes.predict_proba(X.astype(np.uint8)).dtype == np.float64


def test_weights_are_those_of_the_seed(data):
    model = make(random_state=3, learning_rate_init=1e-300, init="xavier").fit(*data)
    for w, drawn in zip(model.coefs_, draw_weights(3, (4, 6, 3), "xavier", 0.01), strict=True):
        np.testing.assert_array_equal(w, drawn)


def test_coefs_with_batch_norm_are_a_plain_network(data):
    X, y = data
    model = make(batch_norm=True, max_iter=30).fit(X, y)
    (w0, w1), (b0, b1) = model.coefs_, model.intercepts_
    logits = np.maximum(X @ w0 + b0, 0) @ w1 + b1
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(model.predict_proba(X), p / p.sum(axis=1, keepdims=True), rtol=1e-9)
    np.testing.assert_allclose(model.predict_log_proba(X), np.log(p / p.sum(axis=1, keepdims=True)), rtol=1e-9)


def test_log_probabilities_stay_finite(data):
    X, y = data
    model = make(max_iter=100, learning_rate_init=0.1).fit(X, y)
    far = model.predict_log_proba(1e6 * X)
    assert np.isfinite(far).all()
    assert far.min() < -1000


# -------------------------------------------------------------------------------------------------------- devices

class FakeDeviceArray:
    """As much of a CuPy array as the estimator may use; anything that converts it implicitly fails, as with CuPy."""

    def __init__(self, host):
        self._host = np.asarray(host)

    def get(self):
        return self._host.copy()

    def __array__(self, *args, **kwargs):
        raise TypeError("implicit conversion to a NumPy array is not allowed")


def test_device_arrays_come_to_the_host(data, monkeypatch):
    X, y = data
    monkeypatch.setitem(sys.modules, "cupy", types.SimpleNamespace(ndarray=FakeDeviceArray))
    there = FakeDeviceArray
    model = make().fit(there(X), there(y), there(np.ones(60)), X_val=there(X), y_val=there(y))
    assert_same(model, make().fit(X, y), X)
    assert isinstance(model.predict(there(X)), np.ndarray)
    assert isinstance(model.predict_proba(there(X)), np.ndarray)
    assert model.score(there(X), there(y), there(np.ones(60))) == model.score(X, y)
    parts = make().partial_fit(there(X), there(y), classes=there([0, 1, 2]), sample_weight=there(np.ones(60)))
    assert_same(parts, make().partial_fit(X, y, classes=[0, 1, 2]), X)


@pytest.mark.skipif(resolve("auto").name == "gpu", reason="a GPU can be used here")
def test_devices_without_a_gpu(data):
    X, y = data
    assert_same(make(device="auto").fit(X, y), make().fit(X, y), X)
    with pytest.raises(DeviceError, match="device 'gpu' cannot be used"):
        make(device="gpu").fit(X, y)
    warm = make(warm_start=True).fit(X, y).set_params(device="gpu")
    with pytest.raises(DeviceError, match="device 'gpu' cannot be used"):
        warm.fit(X, y)
    state = warm._learner.__getstate__()
    warm._learner.__setstate__({**state, "device": "gpu"})      # a pickle from a machine with a GPU
    assert warm._learner.network.backend.name == "cpu"


# -------------------------------------------------------------------------------------------------------- refusals

@pytest.mark.parametrize(("options", "words"), [
    ({"solver": "lbfgs"}, "solver = 'lbfgs' is not offered: choose one of 'adam', 'sgd', 'adamw'"),
    ({"activation": "swish"}, "activation = 'swish' .* 'relu'"),
    ({"activation": None}, "activation = None"),
    ({"learning_rate": 0.1}, "learning_rate = 0.1 .* 'constant'"),
    ({"loss": "log_loss"}, "'cross-entropy', 'hinge'"),
    ({"alpha": -1.0}, "alpha = -1.0 must be a number at least 0"),
    ({"alpha": float("nan")}, "alpha = nan"),
    ({"alpha": True}, "alpha = True"),
    ({"learning_rate_init": 0}, "learning_rate_init = 0 must be a number above 0"),
    ({"momentum": 1.5}, "momentum = 1.5 must be a number from 0 to 1"),
    ({"beta_1": 1.0}, "beta_1 = 1.0"),
    ({"validation_fraction": 1.0}, "validation_fraction = 1.0"),
    ({"max_iter": 0}, "max_iter = 0 must be a whole number of at least 1"),
    ({"max_iter": 2.5}, "max_iter = 2.5"),
    ({"n_iter_no_change": 0}, "at least 1 or inf"),
    ({"batch_size": "full"}, "batch_size = 'full' must be a whole number of at least 1 or 'auto'"),
    ({"step_size": 0}, "step_size = 0 must be a whole number of at least 1 or None"),
    ({"shuffle": "yes"}, "shuffle = 'yes' must be True or False"),
    ({"verbose": "loud"}, "verbose = 'loud'"),
    ({"hidden_layer_sizes": (5, 0)}, r"hidden_layer_sizes = \(5, 0\) must be whole numbers > 0"),
    ({"hidden_layer_sizes": "5"}, "hidden_layer_sizes = '5'"),
    ({"hidden_layer_sizes": 5.0}, "hidden_layer_sizes = 5.0"),
    ({"lr_min": 1.0}, "lr_min = 1.0 is above lr_max = 0.1"),
], ids=str)
def test_bad_parameters(data, options, words):
    with pytest.raises(ConfigError, match=words):
        MLPClassifier(**options).fit(*data)
    with pytest.raises(ValueError, match=words):
        MLPClassifier(**options).partial_fit(*data, classes=[0, 1, 2])


@pytest.mark.parametrize("sizes", [7, (7,), [7], np.array([7]), (np.int64(7),)], ids=str)
def test_hidden_layer_sizes(data, sizes):
    assert make().set_params(hidden_layer_sizes=sizes).fit(*data).coefs_[0].shape == (4, 7)


def broken(X, row, column, value):
    X = X.copy()
    X[row, column] = value
    return X


@pytest.mark.parametrize(("change", "words"), [
    (lambda X, y: (broken(X, 3, 1, np.nan), y), "NaN"),
    (lambda X, y: (broken(X, 3, 1, np.inf), y), "infinity"),
    (lambda X, y: (X, np.ones(60)), "one class only, 1.0: at least two classes"),
    (lambda X, y: (X, y[:-1]), "inconsistent numbers of samples"),
    (lambda X, y: (X[:0], y[:0]), "0 sample"),
    (lambda X, y: (X[:, :0], y), "0 feature"),
    (lambda X, y: (X[:, 0], y), "Expected 2D array"),
    (lambda X, y: (X, X[:, 0]), "Unknown label type: continuous"),
    (lambda X, y: (X, None), "requires y to be passed"),
    (lambda X, y: (X, np.eye(3)[y]), "1d array"),
    (lambda X, y: (X, y, -np.ones(60)), "sample_weight is -1.0 in row 0"),
    (lambda X, y: (X, y, np.full(60, np.nan)), "sample_weight is nan in row 0"),
    (lambda X, y: (X, y, np.ones(59)), r"\(59,\); it must be \(60,\)"),
    (lambda X, y: (X, y, np.zeros(60)), "every sample weight is zero"),
    (lambda X, y: (X, y, y == 1), "the labels of the rows that have a weight hold one class only, 1"),
])
def test_bad_data(data, change, words):
    with pytest.raises(ValueError, match=words):
        make().fit(*change(*data))


def test_sparse_data(data):
    with pytest.raises(TypeError, match="Sparse data was passed"):
        make().fit(scipy.sparse.csr_matrix(data[0]), data[1])


def test_partial_fit_refusals(data):
    X, y = data
    with pytest.raises(ConfigError, match="classes must be passed on the first call"):
        make().partial_fit(X, y)
    with pytest.raises(DataError, match="classes holds one class only"):
        make().partial_fit(X, y, classes=[1])
    with pytest.raises(ConfigError, match="'balanced' needs all labels at once"):
        make(class_weight="balanced").partial_fit(X, y, classes=[0, 1, 2])
    model = make(batch_size="auto").partial_fit(X[:1], y[:1], classes=[0, 1, 2])
    with pytest.raises(DataError, match="not those of the first call"):
        model.partial_fit(X, y, classes=[0, 1])
    with pytest.raises(DataError, match="the label 5 is not among the classes that were learned: 0, 1, 2"):
        model.partial_fit(X, np.full(60, 5))
    with pytest.raises(DataError, match="the label -5 is not among"):
        model.partial_fit(X, np.full(60, -5))
    with pytest.raises(ValueError, match="expecting 4 features"):
        model.partial_fit(X[:, :3], y)


def test_batch_norm_never_meets_a_batch_of_one(data):
    X, y = data
    with pytest.warns(UserWarning, match="batch_size = 59 would leave a batch of one .*: batches of 58 are used"):
        make(batch_norm=True, batch_size=59).fit(X, y)
    with pytest.warns(UserWarning, match="batches of 2 are used"):
        make(batch_norm=True, batch_size=1).fit(X, y)
    large = np.tile(X, (4, 1))[:201], np.tile(y, 4)[:201]
    assert make(batch_norm=True, batch_size="auto").fit(*large).n_iter_ == 5    # 201 = 200 + 1, without a warning
    assert make(batch_norm=True, batch_size=1, hidden_layer_sizes=()).fit(X, y).n_iter_ == 5
    assert folded_layers(make(batch_norm=True).fit(X, y)._learner.network)[0][0].shape == (1, 4, 6)


@pytest.mark.parametrize(("weights", "words"), [
    (["heavy"] * 60, "sample_weight must be one number for each row of X"),
    ([10**400] * 60, "sample_weight must be one number for each row of X"),
    (np.full(60, 1.0 + 1.0j), "complex numbers"),
    (np.full(60, 1e308), r"sample_weight is up to 1e\+308, and the sum is infinite"),
])
def test_weights_that_are_no_numbers_or_have_no_sum_are_named(data, weights, words):
    X, y = data
    with pytest.raises(DataError, match=words):
        make().fit(X, y, weights)


def test_classes_that_are_not_finite_are_named(data):
    X, y = data
    for label in (np.nan, np.inf):
        with pytest.raises(DataError, match=f"classes hold {label}, which names no class"):
            make().partial_fit(X, y, classes=[0, 1, 2, label])


@pytest.mark.parametrize("random_state", [-1, 2**32, 1.5, "seed"])
def test_a_random_state_that_is_none_is_named(data, random_state):
    with pytest.raises(ConfigError, match=f"^random_state = {random_state!r} is no seed: "):
        make(random_state=random_state).fit(*data)
