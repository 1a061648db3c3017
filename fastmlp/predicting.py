"""`fastmlp predict`: a trained model applied to a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fastmlp.backend import resolve
from fastmlp.config import PredictOptions
from fastmlp.data import read_examples
from fastmlp.errors import DataError, OutputError
from fastmlp.evaluation import softmax
from fastmlp.files import write_csv
from fastmlp.model import Model, load_model


def run_prediction(model_path: Path, data: str, options: PredictOptions) -> int:
    """Write `row, prediction, p_<class>...` for every example as CSV; print the accuracy where labels are known.

    Parameters
    ----------
    model_path : Path
        A model file.
    data : str
        `digits`, `cifar10` or a file.
    options : PredictOptions
        The rest.

    Returns
    -------
    int
        The exit code 0.

    Raises
    ------
    FastMLPError
        The model or the data cannot be used, or the output exists.
    """
    if options.out.exists():
        raise OutputError(f"{options.out} exists and is not overwritten: name another file with --out, or remove it")
    model = load_model(model_path, resolve(options.device))
    examples = read_examples(data, data_dir=options.data_dir, target=options.target)
    x = _columns_of_model(model, examples.x, examples.feature_names)
    logits = model.logits(x)
    predicted = model.classes[logits.argmax(axis=-1)]                   # (n,)
    columns: dict[str, Any] = {"row": range(len(x)), "prediction": predicted.tolist()}
    for label, p in zip(model.classes.tolist(), softmax(logits).T, strict=True):
        columns[f"p_{label}"] = p.tolist()
    write_csv(options.out, columns)
    print(f"{len(x)} predictions in {options.out}")
    if examples.y is not None:
        print(f"accuracy {np.mean(predicted.astype(str) == np.asarray(examples.y).astype(str)):.4f}")
    return 0


def _columns_of_model(model: Model, x: Any, names: tuple[str, ...] | None) -> Any:
    """The columns in the model's order; columns it does not know (such as a target) are left out."""
    wanted = model.feature_names
    if wanted is None or names is None or wanted == names:
        return x
    missing = [name for name in wanted if name not in names]
    if missing:
        raise DataError(f"the data have no column {missing[0]!r}, which the model was trained on; its columns are "
                        f"{', '.join(wanted)}")
    return x[:, [names.index(name) for name in wanted]]
