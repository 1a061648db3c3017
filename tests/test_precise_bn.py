"""Batch norm's statistics measured anew after the last step: by hand, in populations, in evaluation and in files."""

import numpy as np
import pytest
from tolerances import MEMBER, assert_close

from fastmlp import fit_population, load_dataset, schedules
from fastmlp.cli import main
from fastmlp.config import TrainOptions
from fastmlp.data.standardize import Standardizer
from fastmlp.errors import ConfigError
from fastmlp.evaluation import evaluate
from fastmlp.model import Model, load_model, save_model
from fastmlp.network import BATCH_NORM_EPS
from fastmlp.precise_bn import measure_statistics
from fastmlp.seeds import Stream, generator
from fastmlp.training import train

N, BATCH = 53, 20


def by_hand(network, x, order):
    """Means and variances (M, H) of each hidden layer, averaged over the batches by their sizes."""
    views, n_layers = network.views(), len(network.spec.hidden)
    totals = [[0.0, 0.0] for _ in range(n_layers)]
    for rows in (order[start:start + BATCH] for start in range(0, N, BATCH)):
        y = x[rows][None]                                               # (1, N, D)
        for k in range(n_layers):
            s = y @ views[f"w{k}"]                                      # (M, N, H)
            mean, var = s.mean(axis=1), s.var(axis=1)
            totals[k][0] = totals[k][0] + len(rows) / N * mean
            totals[k][1] = totals[k][1] + len(rows) / N * var
            scale = views[f"gamma{k}"] / np.sqrt(var + BATCH_NORM_EPS)
            y = np.maximum(scale[:, None] * (s - mean[:, None]) + views[f"beta{k}"][:, None], 0.0)
    return totals


@pytest.fixture
def make_trained(make_trainer, make_examples):
    """A trainer after a few epochs."""
    def make(precise_bn, **options):
        trainer = make_trainer(examples=make_examples(n=N), batch_size=BATCH, **options)
        return trainer, train(trainer, 3 * trainer.steps_per_epoch, parts={"val": trainer.examples},
                              precise_bn=precise_bn)
    return make


@pytest.mark.parametrize("members", [1, 3])
def test_the_statistics_are_those_of_one_pass_with_the_final_weights(make_trained, members):
    trainer, _ = make_trained(True, members=members)
    network, x = trainer.network, trainer.examples.data
    expected = by_hand(network, x, generator(0, Stream.STATISTICS).permutation(N))
    for moments, wanted in zip(network.moments(network.running), expected, strict=True):
        for got, value in zip(moments, wanted, strict=True):
            assert_close(got.reshape(members, -1), value, 1e-12)


def test_training_stays_as_it_was_and_evaluation_takes_the_new_statistics(make_trained):
    (plain, averaged), (precise, measured) = (make_trained(wanted, bn_decay=0.99) for wanted in (False, True))
    assert np.array_equal(plain.network.parameters, precise.network.parameters)
    assert [row["val_loss"] for row in averaged.rows[:-1]] == [row["val_loss"] for row in measured.rows[:-1]]
    assert measured.rows[-1]["val_loss"] == evaluate(precise.network, precise.examples).loss[0]
    assert measured.rows[-1]["val_loss"] != averaged.rows[-1]["val_loss"]
    assert np.abs(precise.network.running - plain.network.running).max() > 0.05     # which remember the beginning


def test_a_member_has_the_statistics_that_it_has_alone(make_trained):
    population, _ = make_trained(True, members=3)
    for k in range(3):
        alone, _ = make_trained(True, seeds=[k])
        assert_close(population.network.member(k).running, alone.network.running, MEMBER["float64"])


def test_a_member_that_diverged_keeps_its_good_state_and_the_others_get_theirs(make_trained):
    def schedule(step):
        return schedules.constant(step, lr=np.array([0.1, 1e200]))

    (plain, _), (precise, _) = (make_trained(wanted, members=2, schedule=schedule) for wanted in (False, True))
    assert precise.is_frozen.tolist() == [False, True]
    pairs = [[trainer.network.member(k).running for trainer in (plain, precise)] for k in range(2)]
    assert not np.array_equal(*pairs[0])
    assert np.isfinite(pairs[0][1]).all()
    assert np.array_equal(*pairs[1])


def test_the_size_of_the_stage_changes_no_bit(make_trained):
    trainer, _ = make_trained(True)
    network, running = trainer.network, trainer.network.running.copy()
    trainer.examples.rows_at_once = 25                                  # as if they were streamed
    measure_statistics(network, trainer.examples, BATCH)
    assert np.array_equal(network.running, running)


def test_a_training_that_is_stopped_keeps_its_averages(make_trainer):
    kept = []
    for precise_bn in (False, True):
        trainer, asked = make_trainer(record=False), iter(range(100))
        train(trainer, 9, parts={}, precise_bn=precise_bn, should_stop=lambda asked=asked: next(asked) == 4)
        kept.append(trainer.network.running)
    assert trainer.step == 4
    assert np.array_equal(*kept)


def test_a_model_file_keeps_them(make_trained, tmp_path, cpu):
    trainer, _ = make_trained(True)
    standardizer = Standardizer.fit(trainer.examples.data, "none")
    save_model(tmp_path / "model.safetensors", Model(trainer.network, standardizer, np.arange(4), None, None))
    loaded = load_model(tmp_path / "model.safetensors", cpu).network
    assert loaded.has_running
    assert np.array_equal(loaded.running, trainer.network.running)


def test_runs_and_populations_take_the_option(tmp_path):
    quick = {"hidden": (9,), "cycles": 1, "step_size": 8, "bn_decay": 0.99, "device": "cpu"}
    plain, precise = (fit_population(load_dataset("digits"), members=1, precise_bn=wanted, **quick)
                      for wanted in (False, True))
    assert precise.table()["val_loss"][0] < plain.table()["val_loss"][0]
    losses = []
    for more in ([], ["--precise-bn"]):
        out = tmp_path / f"run{len(losses)}"
        assert main(["train", "--hidden", "9", "--cycles", "1", "--step-size", "8", "--bn-decay", "0.99", "--device",
                     "cpu", "--quiet", "--out", str(out), *more]) == 0
        losses.append((out / "history.csv").read_text(encoding="utf-8").splitlines()[-1].split(",")[6])
    assert losses == [str(float(one.table()["val_loss"][0])) for one in (plain, precise)]


@pytest.mark.parametrize("options", [{"batch_norm": False}, {"hidden": ()}])
def test_without_batch_norm_there_is_nothing_to_measure(make_trainer, options):
    with pytest.raises(ConfigError, match="--precise-bn measures the statistics of batch norm, and there is none"):
        TrainOptions(precise_bn=True, **options)
    trainer = make_trainer(**options)
    with pytest.raises(ConfigError, match="this network has none"):
        train(trainer, 3, parts={}, precise_bn=True)
    assert trainer.step == 0
