"""Options come from one declaration: flags, TOML keys, checks and error sentences."""

import dataclasses
from pathlib import Path

import pytest

from fastmlp.command_options import GradcheckOptions, PredictOptions
from fastmlp.config import TrainOptions
from fastmlp.errors import ConfigError
from fastmlp.option_values import count_or_fraction, memory_size, number_ranges
from fastmlp.options import build, flag, plain, read_toml, rules

#: The flags that other work relies on.
PROMISED = {
    "--data", "--data-dir", "--train-batches", "--validation-batches", "--validation", "--hidden", "--batch-norm",
    "--bn-decay", "--activation", "--loss", "--init", "--init-std", "--l2", "--batch-size", "--seed", "--dtype",
    "--schedule", "--lr", "--lr-min", "--lr-max", "--step-size", "--cycles", "--epochs", "--momentum",
    "--optimizer", "--standardize", "--device", "--out", "--target", "--quiet",
}


def toml(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "options.toml"
    path.write_text(text)
    return path


def test_every_promised_flag_exists():
    assert {flag(name) for name in rules(TrainOptions)} >= PROMISED


@pytest.mark.parametrize("options", [TrainOptions, PredictOptions, GradcheckOptions])
def test_defaults_pass_their_own_checks_and_every_option_has_help(options):
    options()
    assert all(rule.help and rule.group for rule in rules(options).values())


def test_defaults_are_the_recipe_of_the_reports():
    options = TrainOptions()
    assert (options.lr_min, options.lr_max, options.cycles) == (1e-5, 0.1, 2)
    assert (options.l2, options.batch_size) == (0.005, 100)
    assert (options.init, options.batch_norm, options.bn_decay, options.schedule) == ("he", True, 0.9, "cyclical")
    assert options.resolved(45_000).step_size == 2250
    assert options.total_steps(45_000) == 9000


def test_options_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainOptions().l2 = 1.0     # type: ignore[misc]


@pytest.mark.parametrize(("values", "words"), [
    ({"l2": -1.0}, ["--l2", "-1.0", "at least 0"]),
    ({"l2": float("nan")}, ["--l2", "finite"]),
    ({"lr": float("inf")}, ["--lr", "finite"]),
    ({"lr_max": -0.1}, ["--lr-max", "at least 0"]),
    ({"lr_min": 0.5, "lr_max": 0.1}, ["--lr-min", "--lr-max"]),
    ({"hidden": (50, 0)}, ["--hidden", "0", "at least 1"]),
    ({"batch_size": 0}, ["--batch-size"]),
    ({"bn_decay": 1.0}, ["--bn-decay", "below 1"]),
    ({"activation": "sine"}, ["--activation", "sine", "relu"]),
    ({"epochs": 3}, ["--epochs", "cyclical", "cosine"]),
    ({"lr": 0.5}, ["--lr", "cyclical", "constant"]),
    ({"schedule": "cosine", "cycles": 3}, ["--cycles", "cosine", "cyclical"]),
    ({"l2": 1e300}, ["--l2", "at most"]),
    ({"data": "a\0.csv"}, ["--data", "null"]),
    ({"optimizer": "adamw", "momentum": 0.9}, ["--momentum", "sgd"]),
    ({"train_batches": (6,)}, ["--train-batches", "6", "at most 5"]),
    ({"target": "label"}, ["--target", "label"]),
    ({"data_memory": 1000}, ["--data-memory", "1000", "at least 1000000"]),
])
def test_a_bad_value_is_named_with_the_way_out(values, words):
    with pytest.raises(ConfigError) as error:
        TrainOptions(**values)
    assert all(word in str(error.value) for word in words)
    assert "\n" not in str(error.value)


def test_toml_reads_the_names_of_the_flags_in_either_spelling(tmp_path):
    path = toml(tmp_path, 'hidden = [50, 30]\nbatch-norm = false\nlr_max = 0.2\ntrain-batches = "1-3"\nseed = 7\n'
                          'data-dir = "somewhere"\nvalidation = 0.25\n')
    options = build(TrainOptions, read_toml(path, TrainOptions))
    assert (options.hidden, options.batch_norm, options.lr_max, options.seed) == ((50, 30), False, 0.2, 7)
    assert (options.train_batches, options.data_dir, options.validation) == ((1, 2, 3), Path("somewhere"), 0.25)


def test_a_precision_that_the_dtype_does_not_have_is_refused():
    with pytest.raises(ConfigError, match="--precision tf32 is for --dtype float32, not float64: leave it out"):
        TrainOptions(precision="tf32", dtype="float64")


@pytest.mark.parametrize(("text", "words"), [
    ("hiden = [50]", ["hiden", "unknown"]),
    ("l2 = 'much'", ["l2", "much", "number"]),
    ("batch-size = 10.5", ["batch-size", "10.5", "whole number"]),
    ("batch-norm = 1", ["batch-norm", "true or false"]),
    ("seed = true", ["seed"]),
    ("lr = [0.1]", ["lr"]),
    ("l2 = ", ["TOML"]),
    ("l2 = 1\nl2 = 2", ["TOML"]),
    ("batch-size = 5\nbatch_size = 6", ["twice"]),
    ("[training]\nl2 = 1", ["training", "unknown"]),
])
def test_a_bad_toml_file_is_refused_with_its_name_and_the_place(tmp_path, text, words):
    path = toml(tmp_path, text)
    with pytest.raises(ConfigError) as error:
        build(TrainOptions, read_toml(path, TrainOptions))
    assert all(word in str(error.value) for word in [str(path), *words])


def test_an_absent_toml_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.toml"):
        read_toml(tmp_path / "absent.toml", TrainOptions)


def test_plain_options_can_be_read_back(tmp_path):
    import json

    options = TrainOptions(hidden=(3,), out=tmp_path, l2=1e-7, data_memory=10**9)
    values = {name: value for name, value in json.loads(json.dumps(plain(options))).items() if value is not None}
    lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    assert build(TrainOptions, read_toml(toml(tmp_path, "\n".join(lines)), TrainOptions)) == options


@pytest.mark.parametrize("text", ["-1", "1.5", "nan", "many"])
def test_counts_and_fractions_refuse_what_is_neither(text):
    with pytest.raises(ValueError, match=r".+"):
        count_or_fraction(text)


@pytest.mark.parametrize(("text", "size"), [("300MB", 300 * 10**6), ("1.5gb", 1_500_000_000), ("2 GiB", 2 << 30),
                                            ("5e6", 5_000_000), ("7TB", 7 * 10**12), ("4096B", 4096)])
def test_sizes_of_memory_have_units(text, size):
    assert memory_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "3 apples", "5MBit", "inf", "nan GB", "1,5GB", "0x10"])
def test_sizes_of_memory_refuse_what_is_none(text):
    with pytest.raises(ValueError, match="a size such as 500MB or 2GB"):
        memory_size(text)


def test_number_ranges_join_pieces():
    assert number_ranges("1,3-5") == (1, 3, 4, 5)


@pytest.mark.parametrize("text", ["1-1000000", "1-" + 30 * "9"])
def test_a_range_that_is_too_long_is_refused_before_it_is_made(text):
    with pytest.raises(ValueError, match="too long a range"):
        number_ranges(text)


def test_epochs_of_schedules_without_cycles_count_the_smaller_last_batch():
    assert TrainOptions(schedule="cosine", epochs=3).total_steps(250) == 9
    assert TrainOptions(schedule="constant").resolved(250).epochs == 20
