"""`fastmlp predict`: a trained model applied to a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fastmlp.backend import resolve
from fastmlp.command_options import PredictOptions
from fastmlp.data import read_examples
from fastmlp.data.validate import encode_known_labels
from fastmlp.errors import ConfigError, OutputError
from fastmlp.evaluation import majority, softmax
from fastmlp.files import write_csv
from fastmlp.model import load_model


def run_prediction(model_path: Path, data: str, options: PredictOptions, say: Callable[[str], None] = print) -> None:
    """Write `row, prediction, p_<class>...` for every example as CSV; say the accuracy where labels are known.

    Parameters
    ----------
    model_path : Path
        A model file.
    data : str
        `digits`, `cifar10` or a file. Of a table the columns that the model was trained on are read, by name.
    options : PredictOptions
        The rest.
    say : callable, default print
        Receives lines for people.

    Raises
    ------
    FastMLPError
        The model or the data cannot be used, or the output exists; nothing has been written then.
    """
    if options.out.exists():
        raise OutputError(f"{options.out} exists and is not overwritten: name another file with --out, or remove it")
    model = load_model(model_path, resolve(options.device))
    examples = read_examples(data, data_dir=options.data_dir, target=options.target, columns=model.feature_names)
    if options.vote and model.network.members == 1:
        raise ConfigError(f"--vote is for ensembles, and {model_path} holds one network: leave it out")
    logits, votes = model.ballots(examples.x)
    numbers = majority(votes, logits) if options.vote else logits.argmax(axis=-1)      # (n,)
    known = None if examples.y is None else encode_known_labels(examples.y, model.classes)
    columns: dict[str, Any] = {"row": range(len(logits)), "prediction": model.classes[numbers].tolist()}
    for label, p in zip(model.classes.tolist(), softmax(logits).T, strict=True):
        columns[f"p_{label}"] = p.tolist()
    write_csv(options.out, columns)
    say(f"{len(logits)} predictions in {options.out}")
    if known is not None:
        say(f"accuracy {np.mean(numbers == known):.4f}")
