"""The README keeps its promises: its commands parse, its Python runs, its tables name what exists."""

import re
import shlex
from pathlib import Path

import pytest

import fastmlp
from fastmlp.cli import _parser
from fastmlp.interrupts import EXIT_CODES

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(fastmlp.__file__).parent         # installed or beside the README
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


COMMANDS = [line.partition(" #")[0] for block in blocks("sh") for line in block.splitlines() if line[:8] == "fastmlp "]


def test_there_are_commands_to_try():
    assert len(COMMANDS) >= 6


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_one_that_the_parser_takes(command):
    _parser().parse_args(shlex.split(command)[1:])


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_the_python_examples_run(capsys):
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    names = {"X": X[:1000], "y": y[:1000], "X_test": X[1000:1400], "y_test": y[1000:1400]}
    estimator, fitted, population = blocks("python")
    exec(estimator.replace("random_state=0", "random_state=0, max_iter=20, n_iter_no_change=50"), names)
    exec(fitted, names)
    assert names["model"].network.members == 4
    assert capsys.readouterr().out.count("finished") == 8
    exec(population, names)
    assert len(capsys.readouterr().out.split()) >= 8


def test_every_module_of_the_whats_where_table_exists():
    section = README.split("## What's where")[1].split("\n## ")[0]
    for name in re.findall(r"`([a-z_/]+(?:\.py|/))`", section):
        assert (PACKAGE / name).exists(), name


def test_every_module_of_the_library_is_in_the_whats_where_table():
    section = README.split("## What's where")[1].split("\n## ")[0]
    for path in PACKAGE.iterdir():
        if path.suffix == ".py" and not path.name.startswith("__"):
            assert f"`{path.name}`" in section, path.name


def test_the_picture_and_the_exit_codes_are_right():
    assert (ROOT / "docs" / "curves.png").is_file()
    assert f"{EXIT_CODES['SIGINT']} Ctrl-C and {EXIT_CODES['SIGTERM']} SIGTERM" in README


def test_no_placeholder_was_left():
    assert not re.search(r"\b[A-Z]{3,}_[A-Z]{3,}\b", README.replace("FASTMLP_DATA", ""))
