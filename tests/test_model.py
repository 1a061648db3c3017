"""A saved model comes back the same, and a file that is no model is refused before anything is believed."""

import json
import struct

import numpy as np
import pytest
from safetensors.numpy import load, save

from fastmlp.backend import resolve
from fastmlp.data.standardize import Standardizer
from fastmlp.errors import DataError, ModelFileError
from fastmlp.layout import NetworkSpec
from fastmlp.model import Model, load_model, save_model
from fastmlp.network import Network
from fastmlp.tensor_files import write_tensors

BACKEND = resolve("cpu")


def trained_model(batch_norm=True, hidden=(5, 4), classes=("cat", "dog", "eel"), dtype="float32", members=1):
    network = Network(NetworkSpec(6, hidden, len(classes), batch_norm), BACKEND, members=members, dtype=dtype, l2=0.25)
    network.initialize(list(range(3, 3 + members)))
    rng = np.random.default_rng(1)
    network.parameters += rng.normal(size=network.parameters.shape).astype(dtype)
    network.running[...] = rng.uniform(0.5, 2.0, network.running.shape)
    network.has_running = batch_norm and bool(hidden)
    return Model(network, Standardizer(rng.normal(size=6), rng.uniform(1, 2, 6)), np.array(classes), (1, 2, 3),
                 tuple("abcdef"))


@pytest.mark.parametrize("members", [1, 4])
@pytest.mark.parametrize(("batch_norm", "hidden", "classes", "dtype"), [
    (True, (5, 4), ("cat", "dog", "eel"), "float32"),
    (False, (5,), (0, 1), "float64"),
    (True, (), (-1.0, 1.0), "float32"),
    (False, (), (False, True), "float32"),
])
def test_a_model_predicts_the_same_bits_after_saving_and_loading(tmp_path, batch_norm, hidden, classes, dtype,
                                                                 members):
    model = trained_model(batch_norm, hidden, classes, dtype, members)
    save_model(tmp_path / "model.safetensors", model)
    again = load_model(tmp_path / "model.safetensors", BACKEND)
    x = np.random.default_rng(0).normal(size=(9, 6))
    assert np.array_equal(model.logits(x), again.logits(x))
    assert again.classes.tolist() == list(classes)
    assert again.classes.dtype == model.classes.dtype
    assert (again.image_shape, again.feature_names) == (model.image_shape, model.feature_names)
    assert again.network.spec == model.network.spec
    assert again.network.l2.tolist() == [0.25] * members


def test_an_ensemble_averages_its_members_probabilities():
    model = trained_model(members=3)
    x = np.random.default_rng(0).normal(size=(50, 6))
    alone = [Model(model.network.member(k), model.standardizer, model.classes) for k in range(3)]
    mean = np.mean([one.predict_proba(x) for one in alone], axis=0)
    assert np.allclose(model.predict_proba(x), mean, rtol=1e-6)
    assert (model.predict(x) == model.classes[mean.argmax(axis=1)]).all()
    assert not (model.predict(x) == alone[0].predict(x)).all()


def test_an_ensembles_scores_are_finite_where_every_probability_is_zero():
    model = trained_model(members=2, dtype="float64")
    scores = model.logits(np.random.default_rng(0).normal(size=(50, 6)) * 1e5)
    assert (model.predict_proba(np.ones((1, 6)) * 1e5) == 0).any()
    assert np.isfinite(scores).all()


def test_the_file_of_one_network_knows_no_members_and_that_of_an_ensemble_says_how_many(tmp_path):
    for members in (1, 2):
        save_model(tmp_path / "model.safetensors", trained_model(members=members))
        rewrite(tmp_path / "model.safetensors", lambda header, tensors, members=members: (
            header.get("members", 1) == members and ("members" in header) == (members > 1)
            and tensors["w1"].shape == ((5, 4) if members == 1 else (2, 5, 4))) or pytest.fail(str(header)))


def test_probabilities_sum_to_one_and_agree_with_predictions():
    model = trained_model()
    x = np.random.default_rng(0).normal(size=(50, 6)) * 1e4
    p = model.predict_proba(x)
    assert np.allclose(p.sum(axis=1), 1.0, atol=1e-12)
    assert (model.classes[p.argmax(axis=1)] == model.predict(x)).all()


def test_inputs_of_another_width_are_refused():
    with pytest.raises(DataError, match=r"\(2, 7\).*6 features"):
        trained_model().predict(np.zeros((2, 7)))


def rewrite(path, change):
    """Change the tensors and header of a model file and write it again."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(json.loads(data[8:8 + length])["__metadata__"]["fastmlp"])
    tensors = load(data)
    change(header, tensors)
    write_tensors(path, header, tensors)


def remove_weight(header, tensors):
    del tensors["w1"]


def reshape_weight(header, tensors):
    tensors["w0"] = np.zeros((5, 6), np.float32)


def nan_weight(header, tensors):
    tensors["gamma0"][0] = np.nan


def huge_layer(header, tensors):
    header["network"]["hidden"] = [2_000_000_000, 2_000_000_000]


def negative_layer(header, tensors):
    header["network"]["hidden"] = [-5, 4]


def unknown_activation(header, tensors):
    header["network"]["activation"] = "__import__"


def object_dtype(header, tensors):
    header["dtype"] = "O"


def too_few_classes(header, tensors):
    header["classes"] = ["cat"]


def other_format(header, tensors):
    header["format"] = "fastmlp-model-99"


def surplus_field(header, tensors):
    header["network"]["surprise"] = 1


def negative_variance(header, tensors):
    tensors["running_var0"][0] = -1.0


def zero_deviation(header, tensors):
    tensors["input_std"][0] = 0.0


def no_bool(header, tensors):
    header["network"]["batch_norm"] = "maybe"


def no_penalty(header, tensors):
    header["l2"] = None


def equal_classes(header, tensors):
    header["classes"] = ["cat", "cat", "dog"]


def classes_of_no_kind(header, tensors):
    header["classes"], header["classes_dtype"] = [{}, None, [1]], "|O"


def huge_label_type(header, tensors):
    header["classes_dtype"] = "<U100000000"
    header["classes"] = [1, 2, 3]


def images_of_another_size(header, tensors):
    header["image_shape"] = [3, 32, 32]


def too_few_names(header, tensors):
    header["feature_names"] = ["a"]


def deep_nesting(header, tensors):
    header["extra"] = []
    for _ in range(900):
        header["extra"] = [header["extra"]]


def one_member(header, tensors):
    header["members"] = 1


def no_members(header, tensors):
    header["members"] = 0


def members_of_no_kind(header, tensors):
    header["members"] = "3"


def a_true_number_of_members(header, tensors):
    header["members"] = True


def more_members_than_tensors(header, tensors):
    header["members"] = 10**12


def forgotten_members(header, tensors):
    del header["members"]


def fewer_penalties(header, tensors):
    header["l2"] = header["l2"][:2]


def one_penalty(header, tensors):
    header["l2"] = header["l2"][0]


def a_negative_penalty(header, tensors):
    header["l2"][1] = -1.0


def nan_in_a_member(header, tensors):
    tensors["w0"][2, 0, 0] = np.nan


def one_running_mean_short(header, tensors):
    tensors["running_mean1"] = tensors["running_mean1"][:2]


@pytest.mark.parametrize("change", [
    one_member, no_members, members_of_no_kind, a_true_number_of_members, more_members_than_tensors, forgotten_members,
    fewer_penalties, one_penalty, a_negative_penalty, nan_in_a_member, one_running_mean_short, negative_variance,
    remove_weight,
])
def test_an_ensembles_file_that_contradicts_itself_is_refused_by_name(tmp_path, change):
    path = tmp_path / "model.safetensors"
    save_model(path, trained_model(members=3))
    rewrite(path, change)
    with pytest.raises(ModelFileError, match=r"model\.safetensors"):
        load_model(path, BACKEND)


def ensemble_of_one_network(header, tensors):
    header["members"], header["l2"] = 2, [0.0, 0.0]


@pytest.mark.parametrize("change", [
    ensemble_of_one_network, one_member,
    negative_variance, zero_deviation, no_bool, no_penalty, equal_classes, classes_of_no_kind, huge_label_type,
    images_of_another_size, too_few_names, deep_nesting, remove_weight, reshape_weight, nan_weight, huge_layer,
    negative_layer, unknown_activation, object_dtype,
    too_few_classes, other_format, surplus_field,
])
def test_a_file_that_contradicts_itself_is_refused_by_name(tmp_path, change):
    path = tmp_path / "model.safetensors"
    save_model(path, trained_model())
    rewrite(path, change)
    with pytest.raises(ModelFileError, match=r"model\.safetensors"):
        load_model(path, BACKEND)


@pytest.mark.parametrize("cut", [0, 5, 100, -1])
def test_a_file_cut_short_is_refused(tmp_path, cut):
    path = tmp_path / "model.safetensors"
    save_model(path, trained_model())
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ModelFileError, match=r"model\.safetensors"):
        load_model(path, BACKEND)


def test_a_foreign_safetensors_file_is_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    path.write_bytes(save({"weight": np.zeros(3)}))
    with pytest.raises(ModelFileError, match="not a model written by fastmlp"):
        load_model(path, BACKEND)
