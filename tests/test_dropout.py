"""Dropout: its masks are random, the same for every maker, and each member's own; it acts in training alone."""

import contextlib

import numpy as np
import pytest
from tolerances import MEMBER, assert_close

from fastmlp import fit_population, load_dataset
from fastmlp.backend import resolve
from fastmlp.checks import check_suits
from fastmlp.command_options import GradcheckOptions
from fastmlp.config import TrainOptions
from fastmlp.dropout import Dropout, Masks
from fastmlp.errors import ConfigError, DeviceError
from fastmlp.evaluation import evaluate
from fastmlp.kernels import bind, masks, numpy_inplace
from fastmlp.kernels.compiled import CompiledKernels
from fastmlp.layout import NetworkSpec
from fastmlp.network import Network

pytestmark = pytest.mark.L0


def dropped(key, n, h, rate):
    """Which of (n, h) numbers are dropped."""
    y = np.empty((1, n, h))
    bind(np).dropout(np.ones((1, n, h)), np.array([key], np.uint32), y, rate=rate)
    return y[0] == 0


# ------------------------------------------------------------------------------------------------ masks

def test_the_hash_is_that_of_its_author():
    numbers = np.array([0, 1, 2, 0xFFFFFFFF], np.uint32)
    assert masks.mixed(numbers).tolist() == [lowbias32(int(number)) for number in numbers]
    many = masks.mixed(np.arange(1 << 16, dtype=np.uint32))
    assert len(np.unique(many)) == len(many)


def lowbias32(x):
    """The published function in whole numbers without bounds."""
    x = (x ^ x >> 16) * 0x7FEB352D % 2**32
    x = (x ^ x >> 15) * 0x846CA68B % 2**32
    return x ^ x >> 16


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rate", [0.2, 0.5, 0.9])
def test_all_makers_drop_the_same_numbers_and_keep_the_same_bits(dtype, rate):
    rng = np.random.default_rng(0)
    wide = rng.standard_normal((41, 3, 37)).astype(dtype)
    x, keys = np.moveaxis(wide, 1, 0), rng.integers(2**32, size=3, dtype=np.uint32)     # members side by side
    expected = np.empty((3, 41, 37), dtype)
    bind(np).dropout(x, keys, expected, rate=rate)
    makers = [numpy_inplace]
    with contextlib.suppress(DeviceError):      # no C compiler
        makers += [CompiledKernels(threads) for threads in (1, 2, 5)]
    for maker in makers:
        y = np.moveaxis(np.full_like(wide, np.nan), 1, 0)
        maker.dropout(x, keys, y, rate=rate)
        assert np.array_equal(y, expected)


def test_what_is_not_a_number_is_not_hidden():
    x, y = np.full((1, 10, 10), np.nan), np.empty((1, 10, 10))
    resolve("cpu").kernels.dropout(x, np.array([1], np.uint32), y, rate=0.5)
    assert np.isnan(y).all()


@pytest.mark.parametrize("rate", [0.01, 0.2, 0.5, 0.9])
def test_the_fraction_that_is_dropped_is_the_rate_in_every_row_and_unit_and_the_mean_stays(rate):
    n, h = 1500, 700
    mask = dropped(12345, n, h, rate)
    for share, count in ((mask.mean(), n * h), (mask.mean(axis=0), n), (mask.mean(axis=1), h)):
        deviation = (rate * (1 - rate) / count) ** 0.5
        assert np.abs(share - rate).max() < 5 * deviation
    y = np.empty((1, n, h))
    bind(np).dropout(np.ones((1, n, h)), np.array([12345], np.uint32), y, rate=rate)
    assert y.mean() == pytest.approx(1.0, abs=5 * (rate / (1 - rate) / (n * h)) ** 0.5)


def test_masks_of_different_keys_rows_and_units_have_nothing_in_common():
    n, h, rate = 400, 400, 0.5
    mask = {key: dropped(key, n, h, rate) - rate for key in (0, 1, 2, 400, 2**31, 2**32 - 1)}
    bound = 5 * 0.25 / (n * h) ** 0.5           # of the covariance of two independent masks
    keys = list(mask)
    for place, one in enumerate(keys):
        for other in keys[place + 1:]:
            assert abs((mask[one] * mask[other]).mean()) < bound, (one, other)
            assert abs((mask[one][:-1] * mask[other][1:]).mean()) < 1.01 * bound, (one, other)
        for shift in (1, 2, 7):
            assert abs((mask[one][shift:] * mask[one][:-shift]).mean()) < 1.1 * bound, (one, shift)
            assert abs((mask[one][:, shift:] * mask[one][:, :-shift]).mean()) < 1.1 * bound, (one, shift)


def test_keys_are_each_members_own_and_go_on_from_epoch_to_epoch():
    both, alone = Dropout(0.2, [3, 4]), Dropout(0.2, [4])
    first, second = both.keys(5, 2), both.keys(7, 2)
    assert first.dtype == np.uint32
    assert np.array_equal(first[:, :, 1:], alone.keys(5, 2))
    assert np.array_equal(second[:, :, 1:], alone.keys(7, 2))
    together = np.concatenate([first.ravel(), second.ravel()])
    assert len(np.unique(together)) == len(together)


# ------------------------------------------------------------------------------------------------ training

def with_dropout(make_trainer, rate=0.3, seeds=(0,), **options):
    return make_trainer(members=len(seeds), seeds=list(seeds), dropout=Dropout(rate, seeds), **options)


def history(trainer, epochs=3):
    return np.concatenate([trainer.run_epoch().losses for _ in range(epochs)])


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("hidden", [(6,), (6, 5), (7, 5, 6)])
def test_a_member_of_a_population_drops_what_it_would_drop_alone(make_trainer, hidden, batch_norm):
    together = with_dropout(make_trainer, seeds=(5, 6, 7), hidden=hidden, batch_norm=batch_norm, batch_size=11)
    losses = history(together)
    for k, seed in enumerate((5, 6, 7)):
        alone = with_dropout(make_trainer, seeds=(seed,), hidden=hidden, batch_norm=batch_norm, batch_size=11)
        assert_close(history(alone)[:, 0], losses[:, k], MEMBER["float64"])
        for name, view in alone.network.views().items():
            assert_close(view[0], together.network.views()[name][k], MEMBER["float64"], name)


@pytest.mark.skipif(not resolve("cpu").records, reason="no C compiler")
@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("members", [1, 3])
def test_recordings_and_threads_change_no_bit(make_trainer, make_examples, members, batch_norm):
    results = []
    for threads, record in ((1, False), (1, True), (2, True), (5, True), (None, True)):
        backend = resolve("cpu", threads=threads)
        trainer = with_dropout(make_trainer, seeds=range(members), hidden=(40, 30), batch_norm=batch_norm,
                               backend=backend, examples=make_examples(n=90, d=30, backend=backend, dtype="float32"),
                               dtype="float32", batch_size=20, record=record, label_smoothing=0.1)
        results.append((history(trainer), trainer.network.parameters, trainer.network.running))
        assert bool(trainer._recordings) == record
    for other in results[1:]:
        for array, expected in zip(other, results[0], strict=True):
            assert np.array_equal(array, expected)


@pytest.mark.skipif(not resolve("cpu").records, reason="no C compiler")
@pytest.mark.parametrize(("rate", "smoothing"), [(0.6, 0.0), (0.3, 0.2)])
def test_a_rate_or_smoothing_that_changes_reaches_recorded_steps(make_trainer, rate, smoothing):
    trainers = [with_dropout(make_trainer, batch_size=7, record=record) for record in (True, False)]
    for trainer in trainers:
        history(trainer)
        trainer.label_smoothing, trainer.dropout.rate = smoothing, rate
    assert np.array_equal(history(trainers[0]), history(trainers[1]))


def test_compiled_kernels_and_numpys_have_the_same_history(make_trainer, make_examples):
    histories = []
    for kernels in ("auto", "numpy"):
        backend = resolve("cpu", kernels=kernels)
        histories.append(history(with_dropout(make_trainer, seeds=(0, 1), backend=backend, label_smoothing=0.1,
                                              examples=make_examples(backend=backend))))
    np.testing.assert_allclose(histories[0], histories[1], rtol=1e-10)


def test_without_dropout_nothing_is_drawn_computed_or_kept(make_trainer, monkeypatch):
    def unwanted(*arguments, **keywords):
        raise AssertionError("dropout of nothing")

    plain, none = make_trainer(), make_trainer(dropout=Dropout(0.0, [0]))
    monkeypatch.setattr(plain.network.kernels, "dropout", unwanted)
    monkeypatch.setattr(Dropout, "keys", unwanted)
    assert np.array_equal(history(plain), history(none))
    assert all(activity.dropped is None for activity in none.network.reserve(20))


def test_what_is_dropped_is_seen_by_no_evaluation(make_trainer, make_examples):
    plain, other = make_trainer(), with_dropout(make_trainer, rate=0.9, label_smoothing=0.5)
    for trainer in (plain, other):
        trainer.network.initialize([0])
    scores = [evaluate(trainer.network, trainer.examples) for trainer in (plain, other)]
    assert scores[0].loss == scores[1].loss
    first = [trainer.run_epoch(1).losses for trainer in (plain, other)]
    assert first[0] != first[1]


def test_the_dropped_units_of_an_example_have_no_gradient(cpu):
    network = Network(NetworkSpec(4, (8, 7), 3, batch_norm=False, activation="tanh"), cpu, dtype="float64")
    network.initialize([0])
    keys = np.array([[77], [78]], np.uint32)
    network.loss_and_gradient(np.ones((1, 4)), np.eye(3)[[1]], np.ones(1), np.empty(1), masks=Masks(0.5, keys))
    mask, above = dropped(77, 1, 8, 0.5)[0], dropped(78, 1, 7, 0.5)[0]
    assert 0 < mask.sum() < 8
    assert 0 < above.sum() < 7
    gradients = network.layout.member_views(network.gradients)
    assert np.array_equal((gradients["w0"][0] == 0).all(axis=0), mask)
    assert np.array_equal(gradients["w1"][0] == 0, mask[:, None] | above)
    assert np.array_equal((gradients["w2"][0] == 0).all(axis=1), above)


def trained(**options):
    """A few networks that know the digits by heart, unless the options prevent it."""
    return fit_population(load_dataset("digits"), members=4, hidden=(60, 40), l2=0.0, lr_max=0.3, batch_size=50,
                          cycles=3, evaluate_every=100, threads=1, device="cpu", **options)


def test_digits_are_learned_with_dropout_and_less_by_heart():
    plain, other = trained(), trained(dropout=0.2)
    rows = [[one.measured for one in population.outcomes] for population in (plain, other)]
    losses = [[np.mean([row[name] for row in some]) for name in ("train_loss", "val_loss")] for some in rows]
    assert losses[0][0] < 0.01                              # by heart
    assert losses[1][0] > 2 * losses[0][0]
    assert losses[1][1] / losses[1][0] < losses[0][1] / losses[0][0]
    assert min(row["val_accuracy"] for row in rows[1]) > 0.95


def test_smoothed_labels_make_probabilities_less_extreme_and_scores_stay_plain():
    for outcome in trained(label_smoothing=0.2).outcomes:
        # With 0.8 + 0.2 / 10 for its own class, an example's plain loss is drawn towards -log(0.82) = 0.198; that of
        # smoothed targets would be at least their entropy, 0.75.
        assert 0.15 < outcome.measured["train_loss"] < 0.3
        assert outcome.measured["val_accuracy"] > 0.95


# ------------------------------------------------------------------------------------------------ refusals

@pytest.mark.parametrize(("options", "words"), [
    ({"dropout": 1.0}, "--dropout 1.0: must be below 1"),
    ({"dropout": -0.1}, "--dropout -0.1: must be at least 0"),
    ({"dropout": 0.5, "hidden": ()}, "--dropout 0.5 drops units of hidden layers, and there are none: leave it out"),
    ({"label_smoothing": 1.0}, "--label-smoothing 1.0: must be below 1"),
    ({"label_smoothing": 0.1, "loss": "hinge"}, "--label-smoothing 0.1 belongs to the loss cross-entropy, not"),
])
@pytest.mark.parametrize("kind", [TrainOptions, GradcheckOptions])
def test_options_that_cannot_be_or_mean_nothing_are_refused(kind, options, words):
    with pytest.raises(ConfigError, match=words):
        kind(**options)


def test_so_are_arguments(make_trainer):
    with pytest.raises(ConfigError, match=r"dropout = 1.5 must be at least 0 and below 1"):
        make_trainer(dropout=Dropout(1.5, [0]))
    with pytest.raises(ConfigError, match=r"label_smoothing = 0.1 belongs to the loss cross-entropy"):
        make_trainer(loss="hinge", label_smoothing=0.1)
    with pytest.raises(ConfigError, match="dropout of 1 seeds does not fit 2 members"):
        make_trainer(members=2, dropout=Dropout(0.5, [0]))
    with pytest.raises(ConfigError, match="nan"):
        check_suits((3,), "cross-entropy", float("nan"), 0.0)
