"""`MLPClassifier` under arbitrary arrays: it trains and predicts, or refuses in one of the agreed ways."""

import math
import os
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastmlp import MLPClassifier
from fastmlp.errors import ConfigError, FastMLPError
from fastmlp.estimator.options import check_parameters
from fastmlp.evaluation import log_softmax, softmax

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
#: Of each test; set to some thousands, the variable makes a thorough search of it.
EXAMPLES = int(os.environ.get("FASTMLP_EXAMPLES", "60"))
QUICK = settings(max_examples=EXAMPLES, deadline=None, derandomize=True,
                 database=None,
                 suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])

NUMBERS = [0.0, -0.0, 1.0, -1.5, 255.0, 1e-320, 5e-324, 1e-30, 1e30, 1e155, -1e300, 1.7976931348623157e308, 3.4e38,
           math.nan, math.inf, -math.inf]
FINITE = [number for number in NUMBERS if math.isfinite(number)]
ORDINARY = st.floats(-5, 5, width=32)


@st.composite
def inputs(draw):
    """X of any kind that a program might pass."""
    n = draw(st.integers(0, 12))
    kind = draw(st.sampled_from(["floats", "wild", "ints", "bools", "objects", "texts", "halves", "complex", "long",
                                 "dates", "constant", "vector", "cube", "scalar", "list", "ragged", "bytes", "void"]))
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    d = draw(st.integers(0, 4))
    x = rng.normal(size=(n, d))
    simple = {
        "floats": x, "ints": (9 * x).astype(draw(st.sampled_from(["i1", "i8", "u1", "u8", "u2"]))),
        "bools": x > 0, "halves": x.astype(np.float16), "complex": x + 1j, "long": x.astype(np.longdouble),
        "dates": x.astype("M8[s]"), "constant": np.full((n, d), draw(st.sampled_from(NUMBERS))),
        "vector": x[:, :1].ravel(),
        "cube": x[:, :, None], "scalar": 3.0, "list": x.tolist(), "ragged": [[1.0]] * n + [[1.0, 2.0]],
        "bytes": x.astype("S4"), "void": np.zeros((n, d), "V4"),
    }
    if kind in simple:
        return simple[kind]
    if kind == "wild":
        wild = draw(st.sampled_from(["f8", "f4"]))
        values = draw(st.lists(st.sampled_from(NUMBERS), min_size=n * d, max_size=n * d))
        with np.errstate(over="ignore"):
            return np.array(values, "f8").reshape(n, d).astype(wild)
    cells = {"objects": st.one_of(st.none(), ORDINARY, st.booleans(), st.text(max_size=3), st.just([1]), st.just({}),
                                  st.just(10**400), st.just(object())),
             "texts": st.sampled_from(["1", "1.5", "cat", "", "nan", "1e999", "\0", "=1+1"])}[kind]
    made = np.empty((n, d), object)
    made.flat[:] = draw(st.lists(cells, min_size=n * d, max_size=n * d)) if kind == "texts" else 0
    for index in np.ndindex(made.shape) if kind == "objects" else ():
        made[index] = draw(cells)
    return made.astype(str) if kind == "texts" and draw(st.booleans()) else made


@st.composite
def targets(draw, n):
    """Labels of any kind, of mostly n rows."""
    n = draw(st.sampled_from([n, n, n, n, max(0, n - 1), n + 1]))
    cells = draw(st.sampled_from([
        st.integers(0, 2), st.integers(0, 2), st.sampled_from(["cat", "dog", "ant"]), st.booleans(),
        st.sampled_from([0.0, 1.0, 2.0]), st.sampled_from(NUMBERS), st.none(), st.sampled_from([1, "1", None, 1.5]),
        st.sampled_from([2**63, -2**63, 2**64, 10**30, 0]), st.sampled_from(["", "a", "a\0", "\ud800"]),
        st.sampled_from([b"a", b"b"]), st.just([1]), st.just((1, 2)), st.just({}), st.sampled_from([1j, 2.0]),
    ]))
    values = draw(st.lists(cells, min_size=n, max_size=n))
    form = draw(st.sampled_from(["list", "array", "objects", "column", "none", "dates"]))
    if form == "list":
        return values
    if form == "none":
        return None if draw(st.booleans()) else 3
    if form == "dates":
        return np.arange(n).astype("M8[D]")
    made = np.empty(n, object)
    for row, value in enumerate(values):
        made[row] = value
    if form == "array":
        try:
            return np.array(values)
        except (ValueError, OverflowError):
            return made
    return made if form == "objects" else made[:, None]


@st.composite
def weights(draw, n):
    """Sample weights, mostly none."""
    form = draw(st.sampled_from(["none"] * 5 + ["good", "wild", "short", "scalar", "texts", "objects", "square"]))
    wild = st.sampled_from([*NUMBERS, -1.0])
    return {"none": None, "good": np.arange(n) % 3, "short": np.ones(max(0, n - 1)), "square": np.ones((n, n)),
            "wild": draw(st.lists(wild, min_size=n, max_size=n)), "scalar": draw(wild), "texts": ["heavy"] * n,
            "objects": [object()] * n}[form]


OPTIONS = st.fixed_dictionaries({}, optional={
    "hidden_layer_sizes": st.sampled_from([(), (3,), (3, 2)]), "batch_norm": st.booleans(),
    "standardize": st.sampled_from(["none", "feature", "scale"]), "solver": st.sampled_from(["sgd", "adam", "adamw"]),
    "loss": st.sampled_from(["cross-entropy", "hinge"]), "activation": st.sampled_from(["relu", "tanh", "gelu"]),
    "dtype": st.sampled_from(["auto", "float32", "float64"]), "early_stopping": st.booleans(),
    "class_weight": st.sampled_from([None, "balanced", {0: 1.0, 1: 5.0}, {"cat": 1.0}]),
    "batch_size": st.sampled_from(["auto", 1, 3]), "n_members": st.sampled_from([1, 2]),
    "learning_rate_init": st.sampled_from([0.001, 0.1, 1e30]), "alpha": st.sampled_from([0.0, 1e-4, 1e300]),
})


def agreed(action):
    """The result; or None after a refusal of ours or of scikit-learn's."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            warnings.filterwarnings("ignore", "member .* diverged", RuntimeWarning)
            warnings.simplefilter("ignore", UserWarning)
            return action()
    except (FastMLPError, ValueError):
        return None
    except TypeError as error:          # scikit-learn's word for objects that are no numbers
        if "float() argument must be" not in str(error) and "must be real number" not in str(error):
            raise
        return None


def check_predictions(model, x):
    p, labels, logs = model.predict_proba(x), model.predict(x), model.predict_log_proba(x)
    assert p.shape == logs.shape == (len(x), len(model.classes_))
    assert np.isfinite(p).all()
    assert (p >= 0).all()
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)
    assert not np.isnan(logs).any()
    assert set(labels.tolist()) <= set(model.classes_.tolist())
    assert labels.dtype == model.classes_.dtype


@QUICK
@given(x=inputs(), data=st.data(), options=OPTIONS)
def test_fit_works_or_refuses_and_so_does_predict(x, data, options):
    n = len(x) if hasattr(x, "__len__") else 0
    y, sample_weight = data.draw(targets(n)), data.draw(weights(n))
    model = MLPClassifier(**{"hidden_layer_sizes": (3,), "max_iter": 2, "random_state": 0, **options})
    if agreed(lambda: model.fit(x, y, sample_weight)) is None:
        return
    agreed(lambda: check_predictions(model, np.asarray(x)))
    other = data.draw(inputs())
    agreed(lambda: check_predictions(model, np.asarray(other) if isinstance(other, list) else other))


@QUICK
@given(data=st.data(), options=OPTIONS)
def test_extreme_numbers_train_or_are_refused(data, options):
    n, d = data.draw(st.integers(2, 12)), data.draw(st.integers(1, 3))
    x = np.array(data.draw(st.lists(st.sampled_from(FINITE), min_size=n * d, max_size=n * d))).reshape(n, d)
    model = MLPClassifier(**{"hidden_layer_sizes": (3,), "max_iter": 3, "random_state": 0, **options})
    if agreed(lambda: model.fit(x, np.arange(n) % 2)) is not None:
        agreed(lambda: check_predictions(model, x))


@QUICK
@given(data=st.data(), options=OPTIONS)
def test_a_good_model_predicts_any_numbers_or_refuses_them(data, options):
    x = np.random.default_rng(0).normal(size=(12, 2))
    model = MLPClassifier(**{"hidden_layer_sizes": (3,), "max_iter": 2, "random_state": 0, **options})
    if agreed(lambda: model.fit(x, np.arange(12) % 2)) is None:
        return
    other = data.draw(inputs())
    agreed(lambda: check_predictions(model, np.asarray(other) if isinstance(other, list) else other))
    numbers = data.draw(st.lists(st.sampled_from(FINITE), min_size=6, max_size=6))
    agreed(lambda: check_predictions(model, np.array(numbers).reshape(3, 2)))


@QUICK
@given(data=st.data())
def test_partial_fit_works_or_refuses(data):
    x, n = np.random.default_rng(0).normal(size=(8, 2)), 8
    classes = data.draw(st.sampled_from([[0, 1], ["cat", "dog"], None, [], [0], 3, [None, "a"], [1j], [math.nan, 1.0]]))
    model = MLPClassifier(2, random_state=0)
    fitted = agreed(lambda: model.partial_fit(x, data.draw(targets(n)), classes, data.draw(weights(n))))
    if fitted is not None:
        agreed(lambda: check_predictions(model, x))


VALUES = st.sampled_from([
    None, True, 0, -1, 1, 10**400, -(10**400), 0.5, math.nan, math.inf, "auto", "relu", "", (), [], [1, 2], (0,), {},
    {"a": 1}, b"x", 1j, object(), np.float32(0.5), np.array([1, 2]), np.array([[1]]), np.nan, lambda: None])


@QUICK
@given(name=st.sampled_from(sorted(MLPClassifier().get_params())), value=VALUES)
def test_parameters_of_any_kind_work_or_are_refused(name, value):
    x = np.random.default_rng(0).normal(size=(8, 2))
    model = MLPClassifier(**{"hidden_layer_sizes": (2,), "max_iter": 2, name: value})
    if name not in ("random_state", "class_weight"):        # which scikit-learn checks
        try:
            check_parameters(model)
        except ValueError as error:
            assert isinstance(error, ConfigError), error        # noqa: PT017
            return
    if name in ("max_iter", "n_members") and isinstance(value, int) and value > 2:
        return                                      # which is much work, or memory
    if agreed(lambda: model.fit(x, np.arange(8) % 2)) is not None:
        agreed(lambda: check_predictions(model, x))


# --------------------------------------------------------------------------------------------- what was found by these

X, Y = np.random.default_rng(0).normal(size=(12, 2)), np.arange(12) % 2
HUGE = np.full((3, 2), 1.7e308)


def trained(**options):
    return MLPClassifier(50, max_iter=1, random_state=0, **options).fit(X, Y)


@pytest.mark.parametrize(("action", "words"), [
    (lambda: MLPClassifier(alpha=1e300, dtype="float32").fit(X, Y), "alpha = 1e\\+300 is too large for float32"),
    (lambda: MLPClassifier(alpha=10**400).fit(X, Y), "alpha = 10+ must be a number"),
    (lambda: MLPClassifier(max_iter=np.array([1, 2])).fit(X, Y), "max_iter = array.* must be a whole number"),
    (lambda: MLPClassifier().fit(np.array([[1, 10**400]] * 12, object), Y), "too large for a float"),
    (lambda: MLPClassifier().partial_fit(X, [0] * 12, classes=[None, "a"]), "classes mix kinds"),
    (lambda: MLPClassifier().partial_fit(X, ["a", "b"] * 6, classes=np.array([0, 1], object)), "'a' is not among"),
    (lambda: MLPClassifier().fit(X, np.array([0.0, 1e300] * 6)), "label"),
    (lambda: MLPClassifier(class_weight="balanced").fit(X, Y, np.full(12, 1e308)), "sample_weight is"),
    (lambda: MLPClassifier(class_weight={0: 1.0}).fit(X, np.arange(12).astype("M8[D]")), "class_weight|label"),
    (lambda: trained().predict(HUGE), "outputs for row 0 of X are too large for float64"),
    (lambda: trained(n_members=2).predict_proba(HUGE), "outputs for row 0 of X are too large for float64"),
])
def test_found_once_and_refused_since(action, words):
    with pytest.raises(ValueError, match=words):
        action()


def test_probabilities_are_finite_where_logits_lie_further_apart_than_numbers_go():
    logits = np.array([[1.7e308, -1.7e308, 1.7e308]])
    np.testing.assert_array_equal(softmax(logits), [[0.5, 0, 0.5]])
    assert np.isfinite(log_softmax(logits)).all()


def test_rows_whose_sum_is_no_number_are_looked_at_number_by_number():
    wild = np.array([[1.7e308, -1.7e308]] * 6 + [[-1.7e308, 1.7e308]] * 6)
    model = MLPClassifier((), max_iter=1, learning_rate_init=1e-6).fit(X, Y)
    agreed(lambda: check_predictions(model, wild))
