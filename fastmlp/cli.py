"""The command line: `fastmlp train`, `search`, `study`, `lr-range`, `predict`, `gradcheck`, `doctor`.

Exit codes: 0 done, 1 a gradient check failed, 2 bad options, data or device, 3 the training diverged, 130 Ctrl-C, 143
a request to end (SIGTERM).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from fastmlp import __version__
from fastmlp.command_options import (
    RANGE_TEST_READS,
    GradcheckOptions,
    LrRangeOptions,
    PredictOptions,
    StudyOptions,
)
from fastmlp.config import POPULATION, TrainOptions
from fastmlp.cpu import blas_threads
from fastmlp.errors import ConfigError, FastMLPError
from fastmlp.interrupts import Interruption, code_of, exit_code
from fastmlp.options import add_options, build, read_toml, rules
from fastmlp.search.options import SearchOptions


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one sentence, and that takes no abbreviations."""

    def __init__(self, **details: Any) -> None:
        super().__init__(**{**details, "allow_abbrev": False})

    def error(self, message: str) -> NoReturn:
        """Print the sentence and end with exit code 2."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    arguments : sequence of str, optional
        The words after the program's name; by default those of the process.

    Returns
    -------
    int
        The exit code.

    Examples
    --------
    >>> main(["gradcheck", "--hidden", "4", "--dim", "3", "--n", "5"])      # doctest: +ELLIPSIS
    3-4-10, relu, batch norm, cross-entropy, l2 0, 5 examples: passed, worst relative error ...
    0
    """
    parsed = vars(_parser().parse_args(arguments))
    command = parsed.pop("command")
    try:
        return int(command(parsed))
    except FastMLPError as error:
        _complain(str(error))
        return error.exit_code
    except MemoryError as error:
        _complain(f"not enough memory ({error}): make --hidden or --batch-size smaller, or the data")
        return 2
    except KeyboardInterrupt:
        _complain("interrupted")
        return code_of(None)


def say(line: str) -> None:
    """Print a line for people. A closed pipe or a full disk behind standard output must not end what is under way."""
    try:
        print(line.encode(sys.stdout.encoding or "utf-8", "backslashreplace").decode(sys.stdout.encoding or "utf-8"),
              flush=True)
    except OSError:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")       # noqa: SIM115 - for the rest of the process


def _complain(sentence: str) -> None:
    with contextlib.suppress(OSError):
        print(f"fastmlp: {sentence}".encode("utf-8", "backslashreplace").decode(), file=sys.stderr)


def _parser() -> Parser:
    parser = Parser(prog="fastmlp", description="Train multi-layer perceptrons on CPUs and NVIDIA GPUs.")
    parser.add_argument("--version", action="version", version=f"fastmlp {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    train = commands.add_parser("train", help="train a network, or many, and write the results to a folder",
                                description="Train a network, or with --members, --sweep and --folds many of them; "
                                "without options, on scikit-learn's handwritten digits.")
    train.add_argument("--config", type=Path, metavar="FILE.toml",
                       help="read options from a TOML file; those on the command line take precedence")
    train.add_argument("--resume", type=Path, metavar="RUN",
                       help="go on with a run that was stopped or killed, from the last checkpoint in its folder, as "
                       "if it had not been; its own options are used")
    add_options(train, TrainOptions)
    train.set_defaults(command=_train)

    lr_range = commands.add_parser(
        "lr-range", help="find the lowest and the highest learning rate that are worth training with",
        description="Train a few networks while the learning rate rises over many powers of ten, and suggest the rates "
        "from where the loss begins to fall to where it ceases to.")
    add_options(lr_range, LrRangeOptions)
    add_options(lr_range, TrainOptions, RANGE_TEST_READS)
    lr_range.set_defaults(command=_lr_range)

    search = commands.add_parser(
        "search", help="search for the best options",
        description="Search from coarse to fine for the options with the best validation accuracy, then train with "
        "them and test once. The same command goes on with a search that was stopped. The options of train, below "
        "those of the search, are what all trials have in common.")
    search.add_argument("--config", type=Path, metavar="FILE.toml",
                        help="read options of training and search from a TOML file; those on the command line take "
                        "precedence")
    add_options(search, SearchOptions)
    add_options(search, TrainOptions, set(rules(TrainOptions)) - {"checkpoint_every"}, without=(POPULATION,))
    search.set_defaults(command=_search)

    predict = commands.add_parser("predict", help="apply a trained network", description="Write predictions as CSV.")
    predict.add_argument("model", type=Path, metavar="MODEL", help="a model.safetensors that training wrote")
    predict.add_argument("data", metavar="DATA",
                         help=".npz (array X), .npy, .csv, .parquet, or digits or cifar10 for their test parts")
    add_options(predict, PredictOptions)
    predict.set_defaults(command=_predict)

    gradcheck = commands.add_parser(
        "gradcheck", help="compare the gradients with numerical ones",
        description="Compare every gradient with centred differences of the cost; exit code 1 if one is wrong.")
    add_options(gradcheck, GradcheckOptions)
    gradcheck.set_defaults(command=_gradcheck)

    study = commands.add_parser(
        "study", help="do the studies of five reports again, and write a page about them",
        description="Train what the studies of five course reports need, with several seeds, and write a page that "
        "puts the figures beside theirs. What is finished is kept and not trained again.")
    study.add_argument("names", nargs="*", metavar="NAME", help="studies of the list, such as 001-eta-grid; depth for "
                       "every report's study of that name; all for all")
    study.add_argument("--list", action="store_true", help="list the studies")
    add_options(study, StudyOptions)
    study.set_defaults(command=_study)

    doctor = commands.add_parser("doctor", help="say what this machine offers and what auto would choose")
    doctor.set_defaults(command=_doctor)
    return parser


def _train(parsed: dict[str, Any]) -> int:
    config, resume = parsed.pop("config"), parsed.pop("resume")
    given = {**(read_toml(config, TrainOptions) if config is not None else {}), **parsed}
    if resume is None:
        options = build(TrainOptions, given)
    else:
        from fastmlp.resuming import resumed_options

        options = resumed_options(resume, given)
    if options.is_population:
        from fastmlp.population_run import run_population as run
    else:
        from fastmlp.run import run_training as run
    with blas_threads(options.threads):
        _, result = run(options, say, resumed=resume is not None)
    return exit_code(result)


def _lr_range(parsed: dict[str, Any]) -> int:
    from fastmlp.range_test_run import run_lr_range

    own = {name: parsed.pop(name) for name in rules(LrRangeOptions) if name in parsed}
    options = build(TrainOptions, parsed)
    with blas_threads(options.threads):
        _, result = run_lr_range(options, build(LrRangeOptions, own), say)
    return exit_code(result)


def _search(parsed: dict[str, Any]) -> int:
    from fastmlp.search.run import run_search

    config = parsed.pop("config")
    given = {**(read_toml(config, TrainOptions, SearchOptions) if config is not None else {}), **parsed}
    if "checkpoint_every" in given:
        raise ConfigError(f"--config {config}: checkpoint_every has no meaning for a search, which keeps whole trials: "
                          f"leave it out")
    options = build(SearchOptions, {name: value for name, value in given.items() if name in rules(SearchOptions)})
    base = build(TrainOptions, {name: value for name, value in given.items() if name in rules(TrainOptions)})
    with blas_threads(base.threads):
        _, result = run_search(options, base, say)
    return exit_code(result)


def _predict(parsed: dict[str, Any]) -> int:
    from fastmlp.predicting import run_prediction

    model, data = parsed.pop("model"), parsed.pop("data")
    run_prediction(model, data, build(PredictOptions, parsed), say)
    return 0


def _gradcheck(parsed: dict[str, Any]) -> int:
    from fastmlp.gradcheck_report import run_gradcheck, table, write_report

    options = build(GradcheckOptions, parsed)
    check = run_gradcheck(
        hidden=options.hidden, batch_norm=options.batch_norm, activation=options.activation, loss=options.loss,
        init=options.init, l2=options.l2, dropout=options.dropout, label_smoothing=options.label_smoothing,
        dim=options.dim, n=options.n, seed=options.seed)
    say(table(check))
    if options.out is not None:
        write_report([check], options.out)
    return 0 if check.passed() else 1


def _study(parsed: dict[str, Any]) -> int:
    from fastmlp.studies.catalogue import find_studies
    from fastmlp.studies.run import run_studies

    names, listing = parsed.pop("names"), parsed.pop("list")
    options = build(StudyOptions, parsed)
    if listing:
        for study in find_studies(names or ["all"]):
            say(f"{study.name:24}{study.title}")
        return 0
    if not names:
        raise ConfigError("no study is named: name one of fastmlp study --list, or all")
    with blas_threads(options.threads):
        _, found = run_studies(names, options, say)
    return code_of(found.by) if isinstance(found, Interruption) else 0


def _doctor(_: dict[str, Any]) -> int:
    from fastmlp.doctor import report, text

    say(text(report()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
