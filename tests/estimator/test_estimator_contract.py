"""scikit-learn's own checks, whole, for several settings; and what it offers around estimators."""

import doctest
import os
import subprocess
import sys

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_dataframe_column_names_consistency, check_estimator

from fastmlp.estimator import MLPClassifier, classifier, fit, fitted, inputs, options

EQUIVALENCE = "check_sample_weight_equivalence_on_dense_data"
#: The one skip: it runs only where SCIPY_ARRAY_API is set before the first import; see `test_array_api`.
SKIPPED = ["check_array_api_input"]

SETTINGS = {
    "default": {},
    "batch norm": {"batch_norm": True},
    "two layers, sgd, cyclical": {"hidden_layer_sizes": (20, 10), "solver": "sgd", "learning_rate": "cyclical"},
    "sgd, adaptive": {"solver": "sgd", "learning_rate": "adaptive", "learning_rate_init": 0.01},
    "adamw, one-cycle, feature": {"solver": "adamw", "learning_rate": "one-cycle", "lr_max": 0.01,
                                  "standardize": "feature"},
    "hinge": {"loss": "hinge"},
    "softmax classifier": {"hidden_layer_sizes": (), "learning_rate_init": 0.05},
    "float32": {"dtype": "float32"},
    "early stopping": {"early_stopping": True, "validation_fraction": 0.3},
    "three members, batch norm": {"n_members": 3, "batch_norm": True},
}
#: Of all but the default: the checks hold after fewer epochs, too, and so take a third of the time.
EPOCHS = {"max_iter": 50}
#: What cannot hold, for a reason in the matter itself.
IMPOSSIBLE = {
    "float32": {EQUIVALENCE: "compares to 1e-7, which is one rounding in float32; see test_weights_in_float32"},
    "early stopping": {EQUIVALENCE: "repeated rows are split differently from weighted ones; so does scikit-learn"},
}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.filterwarnings("ignore")       # many checks provoke warnings on purpose
def test_check_estimator(setting):
    impossible = IMPOSSIBLE.get(setting, {})
    parameters = SETTINGS[setting] and {**EPOCHS, **SETTINGS[setting]}
    results = check_estimator(MLPClassifier(**parameters), expected_failed_checks=impossible, on_skip=None,
                              on_fail=None)
    by_status = {status: [r["check_name"] for r in results if r["status"] == status]
                 for status in ("passed", "failed", "xfail", "skipped")}
    assert not by_status["failed"], [(r["check_name"], r["exception"]) for r in results if r["status"] == "failed"]
    assert by_status["xfail"] == list(impossible)
    assert set(by_status["skipped"]) <= set(SKIPPED)
    n_run = len(by_status["passed"]) + len(impossible)
    assert n_run == 62 if sklearn.__version__.startswith("1.9.") else n_run >= 50


def test_array_api():
    """Nothing is skipped where the array API is switched on."""
    program = ("from sklearn.utils.estimator_checks import check_estimator\n"
               "from fastmlp.estimator import MLPClassifier\n"
               "results = check_estimator(MLPClassifier(max_iter=50), on_skip=None)\n"
               "assert {r['status'] for r in results} == {'passed'}\n"
               "print(len(results))")
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], env={**os.environ, "SCIPY_ARRAY_API": "1"},
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) >= 50


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_data_frame_columns():
    check_dataframe_column_names_consistency("MLPClassifier", MLPClassifier(max_iter=5))


@pytest.mark.parametrize("module", [classifier, fit, fitted, inputs, options])
def test_examples_in_docstrings(module):
    assert doctest.testmod(module).failed == 0


def test_every_parameter_is_documented():
    text = MLPClassifier.__doc__.split("Attributes\n")[0]
    names = {name for line in text.splitlines() if " : " in line for name in line.split(" : ")[0].strip().split(", ")}
    assert names == set(MLPClassifier().get_params())


def test_defaults_are_scikit_learns():
    from sklearn.neural_network import MLPClassifier as Original

    theirs, ours = Original().get_params(), MLPClassifier().get_params()
    assert set(theirs) - set(ours) == {"max_fun"}
    assert {name: ours[name] for name in theirs if name in ours} == {n: v for n, v in theirs.items() if n in ours}


# -------------------------------------------------------------------------------------------------- around estimators

@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = np.arange(120) % 3
    return rng.normal(size=(120, 5)) + 2 * y[:, None], np.array(["ant", "bee", "cat"])[y]


def quick(**options):
    return MLPClassifier((8,), learning_rate="one-cycle", lr_max=0.05, max_iter=10, batch_size=20, random_state=0,
                         **options)


def test_grid_search_over_a_pipeline(data):     # by several workers: tests/test_concurrency.py
    search = GridSearchCV(make_pipeline(StandardScaler(), quick()), {"mlpclassifier__alpha": [1e-4, 1e3]}, cv=3)
    search.fit(*data)
    assert search.best_params_ == {"mlpclassifier__alpha": 1e-4}
    assert search.score(*data) > 0.7


def test_calibration_and_cross_validation(data):
    X, y = data
    assert CalibratedClassifierCV(quick(loss="hinge"), cv=2).fit(X, y).predict_proba(X).shape == (120, 3)
    assert cross_val_score(quick(batch_norm=True), X, y, cv=3).mean() > 0.7


def test_clone_is_unfitted(data):
    fitted = quick().fit(*data)
    assert clone(fitted).get_params() == fitted.get_params()
    assert not hasattr(clone(fitted), "coefs_")
    assert not hasattr(clone(fitted), "classes_")
