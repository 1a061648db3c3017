"""Images mirrored and shifted as they are read: drawn evenly, right in any storage, the same bits however trained."""

import numpy as np
import pytest
from tolerances import MEMBER, assert_close

from fastmlp import fit_population, load_dataset
from fastmlp.augmentation import Augmentation
from fastmlp.cli import main
from fastmlp.data.rows_on_disk import OpenFile, RowsOnDisk
from fastmlp.data.standardize import Standardizer
from fastmlp.errors import ConfigError
from fastmlp.examples import Examples
from fastmlp.kernels import bind

SHAPE, N = (2, 4, 5), 60
BOTH = Augmentation(SHAPE, mirror=True, shift=2)


def images(kind="bytes"):
    rng = np.random.default_rng(0)
    data = rng.integers(256, size=(N, 40), dtype=np.uint8)
    return data if kind == "bytes" else data / 16.0


@pytest.fixture
def make_images(cpu):
    def make(kind="bytes", *, dtype="float64", augmentation=BOTH, x=None, standardize="feature"):
        data = images(kind)
        return Examples(data if x is None else x, np.arange(N) % 4, 4, Standardizer.fit(data, standardize), cpu, dtype,
                        augmentation=augmentation)
    return make


def test_every_move_is_drawn_as_often_as_any_other():
    n = 50_000
    mirror, down, right = BOTH.draw(n, np.random.default_rng(1))
    counts = np.bincount(((mirror * 5) + down + 2) * 5 + right + 2, minlength=50)
    assert len(counts) == 50
    assert (np.abs(counts - n / 50) < 5 * np.sqrt(n / 50)).all()


@pytest.mark.parametrize(("options", "ranges"), [
    ({"mirror": True}, [(0, 1), (0, 0), (0, 0)]), ({"shift": 3}, [(0, 0), (-3, 3), (-3, 3)])])
def test_only_what_is_asked_for_is_drawn(options, ranges):
    moves = Augmentation(SHAPE, **options).draw(1000, np.random.default_rng(0))
    assert list(zip(moves.min(axis=1).tolist(), moves.max(axis=1).tolist(), strict=True)) == ranges


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["bytes", "numbers"])
@pytest.mark.parametrize("how", ["feature", "scale", "none"])
def test_what_is_read_is_what_is_moved_first_and_standardised_then(make_images, kind, how, dtype):
    examples, data = make_images(kind, dtype=dtype, standardize=how), images(kind)
    moves = examples.moves(np.random.default_rng(2))
    order = np.random.default_rng(3).permutation(N)
    moved, targets = np.empty((N, 40)), np.empty((N, 4))
    bind(np).gather_moved(data.astype(np.float64), np.arange(N) % 4, np.arange(4), order, moves, None, None, moved,
                          targets, image_shape=SHAPE)
    expected, start = Standardizer.fit(data, how).apply(moved, "float64"), 0
    for rows in examples.deliver(order, [25, 25, 10], moves):
        n = rows.shape[1]
        batch = examples.new_batch(n)
        examples.read(rows, batch)
        assert_close(batch.x, expected[start:start + n], {"float32": 1e-5, "float64": 1e-13}[dtype])
        assert np.array_equal(batch.targets, targets[start:start + n])
        start += n
    assert start == N


def test_examples_delivered_without_moves_are_not_moved(make_images):
    for kind in ("bytes", "numbers"):
        examples = make_images(kind)
        batch, rows = examples.new_batch(N), next(examples.deliver(np.arange(N), [N]))
        examples.read(rows, batch)
        assert_close(batch.x, Standardizer.fit(images(kind), "feature").apply(images(kind), "float64"), 1e-13)


def test_an_epoch_mirrors_half_of_the_images_each_time_others_and_their_order_stays(make_images, make_trainer,
                                                                                    monkeypatch):
    examples, seen = make_images(augmentation=Augmentation(SHAPE, mirror=True)), []
    gather_moved = examples.kernels.gather_moved

    def watched(data, labels, classes, rows, moves, mean, inv_std, x, targets, *, image_shape):
        gather_moved(data, labels, classes, rows, moves, mean, inv_std, x, targets, image_shape=image_shape)
        there = ((x / inv_std) + mean).round().reshape(-1, *SHAPE)
        here = data[rows].reshape(-1, *SHAPE)
        mirrored = (there == here[..., ::-1]).all(axis=(1, 2, 3))
        assert (mirrored | (there == here).all(axis=(1, 2, 3))).all()
        seen.extend(zip(rows.tolist(), mirrored.tolist(), strict=True))

    monkeypatch.setattr(examples.kernels, "gather_moved", watched)
    trainers = [make_trainer(examples=some, record=False) for some in (examples, make_images(augmentation=None))]
    for trainer in trainers:
        for _ in range(2):
            trainer.run_epoch()
    first, second = dict(seen[:N]), dict(seen[N:])
    assert sorted(first) == sorted(second) == list(range(N))
    assert 0.3 * N < sum(first.values()) < 0.7 * N
    assert 0.3 * N < sum(first[row] != second[row] for row in first) < 0.7 * N
    assert trainers[0].rng.bit_generator.state == trainers[1].rng.bit_generator.state


def test_without_augmentation_nothing_is_drawn_or_moved(make_images, make_trainer, monkeypatch):
    examples = make_images(augmentation=None)
    monkeypatch.setattr(examples.kernels, "gather_moved", None)
    trainer = make_trainer(examples=examples)
    before = trainer.move_rng.bit_generator.state
    trainer.run_epoch()
    assert trainer.move_rng.bit_generator.state == before


def history(trainer, epochs=3):
    return np.concatenate([trainer.run_epoch().losses for _ in range(epochs)])


@pytest.mark.parametrize("kind", ["bytes", "numbers"])
def test_recorded_steps_move_the_same_images_as_steps_made_call_by_call(make_images, make_trainer, kind):
    recorded, plain = (make_trainer(examples=make_images(kind), batch_size=7, record=record)
                       for record in (True, False))
    assert np.array_equal(history(recorded), history(plain))
    assert np.array_equal(recorded.network.parameters, plain.network.parameters)
    assert bool(recorded._recordings) == recorded.record


@pytest.mark.parametrize("kind", ["bytes", "numbers"])
def test_from_disk_training_moves_the_same_images_as_from_memory(make_images, make_trainer, tmp_path, kind):
    data = images(kind)
    np.save(tmp_path / "X.npy", data)
    file = OpenFile((tmp_path / "X.npy").open("rb", buffering=0), "X.npy")
    on_disk = RowsOnDisk(file, 128, data.dtype, 40, np.arange(N), data.dtype, 4 * 30 * 40 * 8)
    kept, left = (make_trainer(examples=make_images(kind, x=x), batch_size=10, shuffle=False) for x in (data, on_disk))
    assert left.examples.on_disk
    assert np.array_equal(history(kept), history(left))
    assert np.array_equal(kept.network.parameters, left.network.parameters)


def test_a_member_is_trained_as_if_alone(make_images, make_trainer):
    population = make_trainer(examples=make_images(), members=3, seed=5)
    losses = history(population)
    for k in range(3):
        alone = make_trainer(examples=make_images(), seeds=[k], seed=5)
        assert_close(losses[:, k], history(alone)[:, 0], MEMBER["float64"])


def test_the_seed_draws_the_moves(make_images, make_trainer):
    losses = [history(make_trainer(examples=make_images(), seed=seed, shuffle=False), 1) for seed in (0, 0, 1)]
    assert np.array_equal(losses[0], losses[1])
    assert not np.array_equal(losses[0], losses[2])


def test_a_population_takes_the_options():
    digits = load_dataset("digits")
    quick = {"members": 2, "hidden": (9,), "epochs": 2, "schedule": "constant", "device": "cpu"}
    plain, moved = (fit_population(digits, **quick, **options) for options in ({}, {"mirror": True, "shift": 2}))
    assert moved.ensemble_accuracy is not None
    assert plain.table()["train_loss"] != moved.table()["train_loss"]


@pytest.mark.parametrize("shift", [-1, 4, 5])
def test_a_shift_that_leaves_nothing_is_refused(shift):
    with pytest.raises(ConfigError, match=rf"--shift {shift} must be at least 0 and less than .* 4 and 5"):
        Augmentation(SHAPE, shift=shift)


def test_images_of_another_size_are_refused(make_images):
    with pytest.raises(ConfigError, match=r"\(2, 4, 4\) do not have 40 numbers"):
        make_images(augmentation=Augmentation((2, 4, 4), mirror=True))


@pytest.mark.parametrize("more", [[], ["--members", "2"]], ids=["one", "population"])
@pytest.mark.parametrize(("options", "words"), [
    (["--data", "X.npz", "--mirror"], "--mirror is for images, such as cifar10 and digits, and nothing says"),
    (["--data", "X.npz", "--shift", "1"], "--shift 1 is for images"),
    (["--data", "digits", "--shift", "8"], "--shift 8 must be at least 0 and less than the images' height and width"),
    (["--data", "digits", "--shift", "-1"], "--shift -1: must be at least 0"),
])
def test_data_that_cannot_be_moved_are_refused_in_a_sentence(tmp_path, monkeypatch, capsys, options, words, more):
    monkeypatch.chdir(tmp_path)
    np.savez("X.npz", X=images("numbers"), y=np.arange(N) % 4)
    assert main(["train", *options, *more, "--batch-size", "20", "--device", "cpu", "--out", "out"]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
