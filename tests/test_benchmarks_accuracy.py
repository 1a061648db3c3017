"""Time to accuracy: both libraries follow the same recipe, from the same files, and the report says what came of it."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from fastmlp.data import cifar10

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import cifar_recipes
import first_step
import time_to_accuracy
from cifar_recipes import Recipe, pooled

ROWS = 40       # of each file


@pytest.fixture
def data_dir(tmp_path, monkeypatch):
    """Tiny files in the official form: every class has a picture of its own, and there is noise."""
    for module in (cifar10, cifar_recipes):
        monkeypatch.setattr(module, "ROWS_PER_BATCH", ROWS)
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 200, (10, cifar10.N_PIXELS))
    for name in (*cifar10.TRAIN_BATCHES, cifar10.TEST_BATCH):
        labels = np.arange(ROWS, dtype=np.uint8) % 10
        images = pictures[labels] + rng.integers(0, 50, (ROWS, cifar10.N_PIXELS))
        records = np.concatenate([labels[:, None], images.astype(np.uint8)], axis=1)
        (tmp_path / f"{name}.bin").write_bytes(records.tobytes())
    return tmp_path


def test_pooled_images_are_rounded_means_of_four_pixels():
    images = np.random.default_rng(0).integers(0, 256, (7, 3072), np.uint8)
    means = images.reshape(7, 3, 16, 2, 16, 2).astype(float).mean(axis=(3, 5)).reshape(7, 768)
    np.testing.assert_array_equal(pooled(images), np.floor(means + 0.5))


@pytest.mark.parametrize("schedule", ["cyclical", "one-cycle"])
def test_rates_end_low_after_the_epochs(schedule):
    rates = Recipe((5,), 4, schedule, batch=10).rates(25)
    assert len(rates) == 4 * math.ceil(25 / 10)
    assert rates[-1] < 0.05 < max(rates)


@pytest.mark.parametrize("train", [cifar_recipes.train_fastmlp, cifar_recipes.train_torch],
                         ids=lambda train: train.__name__)
@pytest.mark.parametrize("is_pooled", [False, True])
def test_a_recipe_learns_from_files(data_dir, train, is_pooled):
    if train is cifar_recipes.train_torch:
        pytest.importorskip("torch")
    run = train(Recipe((8,), 15, "one-cycle", batch=20, pooled=is_pooled, momentum=0.5), data_dir, 0, threads=1)
    assert list(run.seconds) == list(time_to_accuracy.PARTS)
    assert run.total == sum(run.seconds.values())
    assert run.accuracy(*cifar_recipes.test_part(data_dir)) > 0.5


def test_the_held_out_images_are_those_that_were_not_trained_on(data_dir):
    _, labels = cifar10.read_parts([cifar10.TRAIN_BATCHES], data_dir)[0]
    kept, drawn = cifar_recipes.split(labels, 3)
    images, held_out = cifar_recipes.held_out(data_dir, 3)
    assert len(images) == len(drawn) == len(labels) // 10
    assert not set(kept) & set(drawn)
    np.testing.assert_array_equal(held_out, labels[drawn])


def test_the_report_tells_times_accuracies_and_targets(data_dir, tmp_path, monkeypatch, capsys):
    recipe = Recipe((8,), 3, batch=20)
    monkeypatch.setattr(time_to_accuracy, "CONTENDERS", {
        "first, fastmlp": (recipe, cifar_recipes.train_fastmlp),
        "second, fastmlp": (recipe, cifar_recipes.train_fastmlp),
        "second, PyTorch": (recipe, cifar_recipes.train_torch)})
    starts = {"fastmlp, cold": dict.fromkeys(first_step.PARTS, 1.0)}
    monkeypatch.setattr(first_step, "measured", lambda *_: starts)
    time_to_accuracy.main(["--data-dir", str(data_dir), "--seeds", "2", "--out", str(tmp_path / "out")])
    facts = json.loads((tmp_path / "out" / "time_to_accuracy.json").read_text(encoding="utf-8"))
    assert [row["contender"] for row in facts["rows"]] == ["first, fastmlp", "second, fastmlp"]     # no --peers
    assert facts["rows"][0]["ratio"] == 1.0
    assert facts["rows"][0]["accuracy"] == facts["rows"][1]["accuracy"]         # the same seeds
    text = (tmp_path / "out" / "time_to_accuracy.md").read_text(encoding="utf-8")
    assert "| first, fastmlp " in text
    assert "- 53.5 % with fastmlp: " in text
    assert (tmp_path / "out" / "time_to_accuracy.png").exists()


def test_recipes_are_chosen_by_validation_accuracy_with_other_seeds(data_dir, monkeypatch, capsys):
    monkeypatch.setattr(time_to_accuracy, "CANDIDATES", [Recipe((8,), 3, batch=20)])
    monkeypatch.setattr(time_to_accuracy, "test_part", lambda *_: pytest.fail("looked at the test set"))
    seeds, train = [], time_to_accuracy.train_fastmlp
    monkeypatch.setattr(time_to_accuracy, "train_fastmlp",
                        lambda recipe, seed, **options: (seeds.append(seed), train(recipe, seed=seed, **options))[1])
    time_to_accuracy.main(["--data-dir", str(data_dir), "--choose", "--seeds", "2"])
    assert seeds == [100, 101]
    assert "| 8, 3 epochs, cyclical to 0.1, l2 0.005, batch 20 |" in capsys.readouterr().out


def test_the_start_of_a_process_is_told_part_by_part(tmp_path):
    parts = first_step.in_new_process("fastmlp", str(tmp_path))
    assert set(parts) == set(first_step.PARTS)
    assert all(seconds > 0 for seconds in parts.values())
    assert list((tmp_path / "fastmlp").glob("*.so"))        # compiled where it was told to
