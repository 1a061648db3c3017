"""Trainings on numbers at the edges of their dtype, and with rare classes: they learn, or say what is wrong."""

import json

import numpy as np
import pytest

from fastmlp import fit_population
from fastmlp.cli import main
from fastmlp.data import load_dataset
from fastmlp.errors import DivergenceError
from fastmlp.evaluation import evaluate

OPTIONS = {"hidden": (9,), "epochs": 3, "schedule": "constant", "lr": 0.1, "batch_size": 16, "device": "cpu"}


def three_classes(n=300):
    y = np.arange(n) % 3
    return np.random.default_rng(0).normal(size=(n, 8)) + 2 * np.eye(3, 8)[y], y


def train_file(tmp_path, x, y, **options):
    """The only member of a population that is trained on a file of these arrays."""
    np.savez(tmp_path / "x.npz", X=x, y=y)
    return fit_population(load_dataset(tmp_path / "x.npz", validation=60), **{**OPTIONS, **options}).outcomes[0]


SIZES = {
    "float64": [1e-300, 1e300, 1e-310, 1e-160, 1e155, 0.0, 1.0, -1e100],
    "float32": [1e-37, 1e37, 1e-40, 1e-20, 1e20, 0.0, 1.0, -1e10],
}


@pytest.mark.parametrize("stored", SIZES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_columns_of_any_size_are_learned_as_if_they_were_of_ordinary_size(tmp_path, stored, dtype):
    x, y = three_classes()
    sizes = np.array(SIZES[stored])
    plain, extreme = (train_file(tmp_path, (x * factor).astype(stored), y, dtype=dtype).history[-1]
                      for factor in (np.sign(sizes), sizes))
    tolerance = 1e-3 if stored == "float32" else 1e-5 if dtype == "float32" else 1e-9      # 1e-40 has few digits left
    for name in ("train_loss", "val_loss", "val_accuracy"):
        assert extreme[name] == pytest.approx(plain[name], rel=tolerance)
    assert plain["val_accuracy"] > 0.6


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("size", [1e19, 1e25, 1e37])
def test_inputs_too_large_to_compute_with_are_a_divergence(tmp_path, size, batch_norm):
    x, y = three_classes()
    with pytest.raises(DivergenceError, match="inputs are large"):
        train_file(tmp_path, (x * size).astype(np.float32), y, standardize="none", batch_norm=batch_norm)


def test_it_ends_with_exit_code_3_one_sentence_and_a_state_that_predicts(tmp_path, capsys):
    x, y = three_classes()
    np.savez(tmp_path / "x.npz", X=(x * 1e25).astype(np.float32), y=y)
    out = tmp_path / "run"
    assert main(["train", "--data", str(tmp_path / "x.npz"), "--hidden", "9", "--standardize", "none", "--quiet",
                 "--device", "cpu", "--out", str(out)]) == 3
    sentence, = capsys.readouterr().err.strip().splitlines()
    assert "standardize by feature if the inputs are large" in sentence
    assert json.loads((out / "result.json").read_text())["status"] == "diverged"
    model = str(out / "model.safetensors")
    assert main(["predict", model, str(tmp_path / "x.npz"), "--out", str(tmp_path / "p.csv")]) == 0


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("loss", ["cross-entropy", "hinge"])
def test_batches_of_one_class_each_train_as_finitely_as_others(make_trainer, make_examples, loss, batch_norm):
    examples = make_examples(n=60, dtype="float32")
    by_class = np.argsort(examples.labels, kind="stable")
    examples.data[...], examples.labels[...] = examples.data[by_class], examples.labels[by_class]
    trainer = make_trainer(examples=examples, dtype="float32", loss=loss, batch_norm=batch_norm, batch_size=15,
                           shuffle=False)
    for _ in range(5):
        trainer.run_epoch()
    assert np.isfinite(trainer.network.parameters).all()
    assert np.isfinite(evaluate(trainer.network, examples).loss).all()


def test_folds_without_a_class_in_training_are_finite():
    x, y = three_classes()
    y[150] = 3          # in the one fold that is then validated by who never saw it
    population = fit_population(x, y, folds=3, **OPTIONS)
    assert all(np.isfinite(loss) for loss in population.table()["val_loss"])
