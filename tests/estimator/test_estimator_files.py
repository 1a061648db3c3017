"""save and load."""


import numpy as np
import pandas as pd
import pytest

from fastmlp.backend import resolve
from fastmlp.errors import DataError, ModelFileError
from fastmlp.estimator import MLPClassifier
from fastmlp.model import FORMAT, load_model, save_model
from fastmlp.tensor_files import read_tensors, write_tensors

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

LABELS = {
    "text": np.array(["ant", "bee", "ü"]), "objects": np.array(["ant", "bee", "ü"], object),
    "ints": np.array([-5, 0, 9]), "small ints": np.array([1, 2, 3], np.int8), "floats": np.array([1.0, 2.0, 3.0]),
}


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    return rng.normal(size=(60, 4)) + y[:, None], y


def make(**options):
    return MLPClassifier(**{"hidden_layer_sizes": (6, 5), "max_iter": 5, "random_state": 0, **options})


def assert_same(original, loaded, X):
    np.testing.assert_array_equal(original.predict(X), loaded.predict(X))
    np.testing.assert_array_equal(original.predict_proba(X), loaded.predict_proba(X))
    assert original.predict(X).dtype == loaded.predict(X).dtype
    assert original.classes_.tolist() == loaded.classes_.tolist()
    for name in ("n_features_in_", "n_iter_", "t_", "loss_", "loss_curve_", "best_loss_", "validation_scores_",
                 "validation_loss_curve_", "best_validation_score_", "n_layers_", "n_outputs_", "out_activation_"):
        assert getattr(original, name) == getattr(loaded, name), name


@pytest.mark.parametrize("labels", LABELS)
def test_labels_survive(data, tmp_path, labels):
    X, y = data
    model = make().fit(X, LABELS[labels][y])
    model.save(tmp_path / "m.safetensors")
    assert_same(model, MLPClassifier.load(tmp_path / "m.safetensors"), X)


@pytest.mark.parametrize("options", [
    {"batch_norm": True}, {"dtype": "float32", "standardize": "feature"}, {"loss": "hinge", "activation": "gelu"},
    {"solver": "sgd", "learning_rate": "cyclical", "step_size": 3, "hidden_layer_sizes": ()},
    {"class_weight": {0: 2.0, 2: 0.5}, "n_iter_no_change": np.inf}, {"early_stopping": True},
    {"hidden_layer_sizes": [np.int64(4), 3], "alpha": np.float32(0.5)},
], ids=str)
def test_everything_survives(data, tmp_path, options):
    X, y = data
    model = make(**options).fit(X, y)
    model.save(str(tmp_path / "m.safetensors"))
    loaded = MLPClassifier.load(str(tmp_path / "m.safetensors"))
    assert_same(model, loaded, X)
    for name, value in model.get_params().items():
        assert np.array_equal(loaded.get_params()[name], value), name
    assert loaded.fit(X, y).predict(X).tolist() == model.predict(X).tolist()        # a fresh fit, the same seed


def test_bool_labels_and_names(data, tmp_path):
    X, y = data
    frame = pd.DataFrame(X, columns=["a", "b", "c", "d"])
    model = make(random_state=np.random.RandomState(0)).fit(frame, y > 0)
    model.save(tmp_path / "m.safetensors")
    loaded = MLPClassifier.load(tmp_path / "m.safetensors")
    assert_same(model, loaded, frame)
    assert loaded.feature_names_in_.tolist() == ["a", "b", "c", "d"]
    assert loaded.random_state is None
    with pytest.raises(ValueError, match="feature names should match"):
        loaded.predict(frame[["b", "a", "c", "d"]])


def test_a_loaded_classifier_trains_on(data, tmp_path):
    X, y = data
    model = make(batch_norm=True).fit(X, y)
    model.save(tmp_path / "m.safetensors")
    loaded = MLPClassifier.load(tmp_path / "m.safetensors")
    before = loaded.score(X, y)
    for _ in range(60):
        loaded.partial_fit(X, y)
    assert loaded.t_ == 65 * 60
    assert len(loaded.loss_curve_) == 65
    assert loaded.score(X, y) > before


def test_a_model_without_parameters_is_described_by_its_network(data, tmp_path):
    X, y = data
    fitted = make(batch_norm=True, activation="tanh", dtype="float32").fit(X, y)
    save_model(tmp_path / "m.safetensors", fitted._model())         # as `fastmlp train` does
    loaded = MLPClassifier.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(loaded.predict_proba(X), fitted.predict_proba(X))
    assert (loaded.hidden_layer_sizes, loaded.activation, loaded.batch_norm, loaded.dtype) == ((6, 5), "tanh", True,
                                                                                             "float32")
    loaded.partial_fit(X, y)


def test_the_file_is_a_model_for_everyone_else_too(data, tmp_path):
    X, y = data
    model = make().fit(X, y)
    model.save(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(load_model(tmp_path / "m.safetensors", resolve("cpu")).predict(X), model.predict(X))


@pytest.mark.parametrize("parameters", [
    {"solver": "lbfgs"}, {"no_such": 1}, {"alpha": "x"}, [], {"class_weight": {}}, {"random_state": -1},
    {"hidden_layer_sizes": {"pairs": 3}}, {"class_weight": {"pairs": [[1]]}},
], ids=str)
def test_damaged_parameters(data, tmp_path, parameters):
    path = tmp_path / "m.safetensors"
    make().fit(*data).save(path)
    header, tensors = read_tensors(path, FORMAT, "model", ModelFileError)
    header["extra"]["parameters"] = parameters
    write_tensors(path, header, tensors)
    with pytest.raises(ModelFileError, match="its parameters are not those of a classifier"):
        MLPClassifier.load(path)


def test_damaged_extra(data, tmp_path):
    path = tmp_path / "m.safetensors"
    make().fit(*data).save(path)
    header, tensors = read_tensors(path, FORMAT, "model", ModelFileError)
    write_tensors(path, {**header, "extra": [1]}, tensors)
    with pytest.raises(ModelFileError, match="its extra data are no table"):
        MLPClassifier.load(path)


def test_what_cannot_be_saved(data, tmp_path):
    from sklearn.exceptions import NotFittedError

    with pytest.raises(NotFittedError):
        make().save(tmp_path / "m.safetensors")
    model = make().fit(*data).set_params(class_weight={0: 1 + 0j})
    with pytest.raises(DataError, match="cannot be saved"):
        model.save(tmp_path / "m.safetensors")
    assert not list(tmp_path.iterdir())
    with pytest.raises(ModelFileError, match="no such file"):
        MLPClassifier.load(tmp_path / "absent.safetensors")
