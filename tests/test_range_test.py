"""The range test: how the rate rises, which bounds follow from which losses, and what `fastmlp lr-range` leaves."""

import csv
import json

import numpy as np
import pytest

from fastmlp import load_dataset
from fastmlp.cli import main
from fastmlp.command_options import LrRangeOptions
from fastmlp.errors import ConfigError, DivergenceError
from fastmlp.range_test import LrRange, lr_range, middle, moving_average, suggest
from fastmlp.trainer import Trainer

FILES = {"config.json", "environment.json", "lr-range.csv", "lr-range.png", "result.json"}
QUICK = {"hidden": (9,), "epochs": 8, "members": 3, "points": 5, "device": "cpu"}
FLAGS = ["lr-range", "--hidden", "9", "--epochs", "8", "--members", "3", "--points", "5", "--device", "cpu"]


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


def measured(loss, diverged_at=None):
    """A range test from 1e-5 to 10 with these losses of every one of three members."""
    losses = np.repeat(np.asarray(loss, np.float64)[:, None], 3, axis=1)
    rates = np.geomspace(1e-5, 10.0, 601)[:len(losses)]
    return LrRange(rates=rates, losses=losses, diverged_at=diverged_at or {})


def valley(falls=1e-3, lowest=0.1, seed=0):
    """Losses of 2.3 that fall from one rate to another, down to 1, and rise from there on."""
    decades = np.log10(np.geomspace(1e-5, 10.0, 601))
    fall = np.clip((decades - np.log10(falls)) / (np.log10(lowest) - np.log10(falls)), 0, 1)
    rise = np.clip(decades - np.log10(lowest), 0, None)
    return 2.3 - 1.3 * fall + rise + np.random.default_rng(seed).normal(0, 0.03, 601)


# ------------------------------------------------------------------------------------------------ the rule

def test_bounds_are_where_the_loss_begins_to_fall_and_where_it_ceases_to():
    for falls, lowest in ((1e-3, 0.1), (1e-4, 0.1)):
        found = measured(valley(falls, lowest))
        suggest(found)
        assert falls < found.lr_min < 2.5 * falls
        assert lowest / 1.5 < found.lr_max < 1.5 * lowest
        assert found.notes == []


def test_a_member_that_diverges_early_halves_its_rate_for_the_upper_bound():
    found = measured(valley(), {1: 0.06})
    suggest(found)
    assert found.lr_max == 0.03


def test_one_member_amid_disaster_moves_neither_the_loss_nor_the_bounds():
    calm, wild = measured(valley()), measured(valley())
    wild.losses[300:, 0] *= 1e20
    wild.losses[500:, 0] = np.nan
    suggest(calm)
    suggest(wild)
    assert (wild.lr_min, wild.lr_max) == (calm.lr_min, calm.lr_max)


def test_a_loss_that_still_falls_at_the_highest_rate_is_said_to():
    found = measured(valley(1e-3, 10.0))
    suggest(found)
    assert found.lr_max == 10
    assert "higher --lr-max" in found.notes[0]


def test_noise_alone_is_no_improvement():
    with pytest.raises(ConfigError, match="did not improve anywhere between the learning rates 1e-05 and 10: raise"):
        suggest(measured(np.random.default_rng(0).normal(2.3, 0.03, 601)))


def test_members_that_all_diverge_before_any_improvement_are_a_divergence():
    found = measured(valley()[:40], {0: 2e-5, 1: 1e-5, 2: 2e-5})
    with pytest.raises(DivergenceError, match="every member diverged, the first at learning rate 1"):
        suggest(found)


def test_losses_after_most_members_diverged_are_not_counted():
    loss = valley()
    loss[450:] = np.nan                                 # 0.3 and above
    found = measured(loss, dict.fromkeys(range(3), 0.3))
    suggest(found)
    assert found.lr_max == pytest.approx(0.11, rel=0.3)
    assert np.isnan(found.smoothed_loss[450:]).all()


def test_the_average_is_that_of_the_steps_around_and_the_median_that_of_the_members():
    values = np.random.default_rng(0).normal(size=30)
    direct = [values[max(0, k - 4):k + 5].mean() for k in range(30)]
    np.testing.assert_allclose(moving_average(values, 4), direct)
    np.testing.assert_allclose(moving_average([1e30, 1.0, 1.0, 2.0], 1)[3], 1.5)
    assert moving_average([], 3).shape == (0,)
    assert middle(np.array([[3.0, 1.0, 2.0, 9.0], [1.0, np.nan, 2.0, 4.0]])).tolist() == [2.5, 3.0]


# ------------------------------------------------------------------------------------------------ measuring

def test_rates_rise_in_every_step_and_accuracies_are_measured_at_equal_distances(digits):
    for spacing, expected in (("geometric", np.geomspace), ("linear", np.linspace)):
        found = lr_range(digits, **QUICK, spacing=spacing, lr_min=1e-3, lr_max=1.0)
        steps = 8 * 13
        np.testing.assert_allclose(found.rates, expected(1e-3, 1.0, steps), rtol=1e-9)
        assert found.losses.shape == (steps, 3)
        assert found.measured_at.tolist() == [0, 20, 41, 62, 83, 104]
        assert found.accuracies.shape == (6, 3)
        assert found.accuracies[-1].min() > 2 * found.accuracies[0].max()
        assert 1e-3 <= found.lr_min < found.lr_max <= 1


def test_diverged_members_are_noted_and_their_numbers_left_out(digits):
    found = lr_range(digits, **QUICK, batch_norm=False, lr_max=1e6)
    assert len(found.diverged_at) == 3
    assert found.lr_max <= min(found.diverged_at.values()) / 2
    assert found.complete
    assert len(found.rates) < 8 * 13                    # nobody was left to go on with


def test_arrays_without_a_validation_part_are_enough(digits):
    found = lr_range(digits.x_train, digits.y_train, **QUICK)
    assert np.isnan(found.accuracies).all()
    assert found.lr_min < found.lr_max


def test_the_test_part_and_the_schedule_of_training_are_not_read(digits):
    with pytest.raises(ConfigError, match="cycles is no option here"):
        lr_range(digits, cycles=2)
    again = [lr_range(digits, **QUICK, seed=4) for _ in range(2)]
    assert (again[0].losses == again[1].losses).all()


def test_options_without_meaning_are_refused_in_a_sentence():
    for own, words in (({"lr_min": 1.0, "lr_max": 0.1}, "must be below --lr-max 0.1"),
                       ({"lr_min": 0.0}, "begin above 0: raise it, or choose --spacing linear"),
                       ({"spacing": "cubic"}, "choose one of geometric, linear")):
        with pytest.raises(ConfigError, match=words):
            LrRangeOptions(**own)
    assert LrRangeOptions(lr_min=0.0, spacing="linear").total_steps(45_000, 100) == 1350


# ------------------------------------------------------------------------------------------------ the command

def test_the_command_leaves_every_promised_file_and_says_what_to_train_with(tmp_path, capsys):
    out = tmp_path / "run"
    assert main([*FLAGS, "--out", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == FILES
    result, config = (json.loads((out / name).read_text()) for name in ("result.json", "config.json"))
    assert result["status"] == "finished"
    advice = f"--lr-min {result['lr_min']:g} --lr-max {result['lr_max']:g}"
    assert f"fastmlp train ... {advice}" in capsys.readouterr().out
    assert main(["train", "--hidden", "9", "--cycles", "1", "--quiet", *advice.split(), "--out", str(out / "t")]) == 0
    assert (config["lr_max"], config["epochs"], config["members"], config["hidden"]) == (10.0, 8, 3, [9])
    assert "cycles" not in config
    with (out / "lr-range.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == result["steps"] == 8 * 13
    assert sum(row["val_accuracy"] != "" for row in rows) == 5
    assert main([*FLAGS, "--out", str(out)]) == 2       # never over a finished run


def test_a_test_without_bounds_is_written_too_and_ends_in_a_sentence(tmp_path, capsys):
    for name, rates, code, words in (("low", ["--lr-min", "1e-9", "--lr-max", "1e-8"], 2, "did not improve anywhere"),
                                     ("high", ["--lr-min", "1e9", "--lr-max", "1e25"], 3, "every member diverged")):
        out = tmp_path / name
        assert main([*FLAGS, "--no-batch-norm", *rates, "--out", str(out)]) == code
        result = json.loads((out / "result.json").read_text())
        assert (result["status"], result["lr_min"], result["lr_max"]) == ("without bounds", None, None)
        assert words in capsys.readouterr().err


def test_ctrl_c_leaves_a_whole_folder_without_bounds(tmp_path, monkeypatch):
    run_epoch, calls = Trainer.run_epoch, []

    def interrupted(self, *arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return run_epoch(self, *arguments)

    monkeypatch.setattr(Trainer, "run_epoch", interrupted)
    out = tmp_path / "run"
    assert main([*FLAGS, "--out", str(out)]) == 130
    result = json.loads((out / "result.json").read_text())
    assert (result["status"], result["lr_max"]) == ("interrupted", None)
    assert {path.name for path in out.iterdir()} == FILES
