"""A trained network, or an ensemble, with what it needs to be used: standardisation, class labels, names; and its file.

The file is safetensors: tensors and a JSON header, nothing that could run code. Tensor names are those of
`parameters.tensors_of`, then `input_mean`, `input_std`. An ensemble's header says how many `members` it has, and its
tensors have a leading axis of as many; those of one network have none.
"""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.backend import Backend
from fastmlp.data.rows_on_disk import Rows
from fastmlp.data.standardize import Standardizer
from fastmlp.errors import DataError, ModelFileError
from fastmlp.evaluation import majority, predict_ballots, softmax
from fastmlp.examples import Examples
from fastmlp.layout import NetworkSpec
from fastmlp.network import Network
from fastmlp.parameters import make_network, tensors_of
from fastmlp.tensor_files import read_tensors, write_tensors

FORMAT = "fastmlp-model-1"


@dataclass
class Model:
    """One trained network, or an ensemble of several whose probabilities are averaged, ready to predict.

    Attributes
    ----------
    network : Network
        Its members are the ensemble's.
    standardizer : Standardizer
        Applied to every input.
    classes : ndarray (C,)
        The labels that the outputs stand for.
    image_shape : (channels, height, width) or None
        Where the inputs are images.
    feature_names : tuple of str or None
        Where the inputs have names.
    extra : dict or None
        Whatever else of JSON's types shall be kept in the file.
    """

    network: Network
    standardizer: Standardizer
    classes: npt.NDArray[Any]
    image_shape: tuple[int, int, int] | None = None
    feature_names: tuple[str, ...] | None = None
    extra: dict[str, Any] | None = None

    def logits(self, x: Rows) -> npt.NDArray[Any]:
        """Outputs before softmax; an ensemble's are logarithms of its probabilities.  x (n, D)  ->  (n, C)."""
        return self.ballots(x)[0]

    def ballots(self, x: Rows) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
        """The logits, and how many of an ensemble's networks vote for each class.  x (n, D)  ->  (n, C), (n, C)."""
        spec = self.network.spec
        if x.ndim != 2 or x.shape[1] != spec.n_inputs:
            raise DataError(f"X has shape {x.shape}, but this model was trained on {spec.n_inputs} features (columns)")
        examples = Examples(x, np.zeros(len(x), np.int64), spec.n_classes, self.standardizer, self.network.backend,
                            self.network.dtype.name)
        with np.errstate(all="ignore"):     # looked at below
            scores, votes = predict_ballots(self.network, examples)
        finite = np.isfinite(scores).all(axis=-1)                   # (n,)
        if not finite.all():
            raise DataError(f"the network's outputs for row {int(np.argmin(finite))} of X are too large for "
                            f"{self.network.dtype}: is it of the same kind as what was trained on?")
        return scores, votes

    def predict_proba(self, x: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Probability of each class.  x (n, D)  ->  (n, C), rows that sum to 1."""
        return softmax(self.logits(x))

    def predict(self, x: npt.NDArray[Any], *, vote: bool = False) -> npt.NDArray[Any]:
        """The most probable label, or by vote that of most networks, ties by probability.  x (n, D)  ->  (n,)."""
        scores, votes = self.ballots(x)
        labels: npt.NDArray[Any] = self.classes[majority(votes, scores) if vote else scores.argmax(axis=-1)]
        return labels


def save_model(path: Path, model: Model) -> None:
    """Write a model to a safetensors file, whole or not at all.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    network = model.network
    tensors, l2 = tensors_of(network), network.backend.to_host(network.l2).tolist()
    ensemble: dict[str, Any] = {"members": network.members}
    if network.members == 1:
        tensors, l2, ensemble = {name: array[0] for name, array in tensors.items()}, l2[0], {}
    tensors["input_mean"] = model.standardizer.mean
    tensors["input_std"] = model.standardizer.std
    header = {
        "format": FORMAT, "network": asdict(network.spec), "dtype": network.dtype.name,
        **ensemble, "l2": l2,
        "classes": model.classes.tolist(), "classes_dtype": model.classes.dtype.str,
        "image_shape": model.image_shape, "feature_names": model.feature_names,
        "extra": model.extra,
    }
    write_tensors(path, header, tensors)


def load_model(path: str | Path, backend: Backend) -> Model:
    """Read a model that `save_model` wrote. No code in the file is ever run.

    Raises
    ------
    ModelFileError
        The file is absent, damaged, or no model of fastmlp.

    Examples
    --------
    >>> from fastmlp.backend import resolve
    >>> load_model("absent.safetensors", resolve("cpu"))
    Traceback (most recent call last):
    fastmlp.errors.ModelFileError: absent.safetensors: no such file
    """
    header, tensors = read_tensors(Path(path), FORMAT, "model", ModelFileError)
    try:
        spec = NetworkSpec(**{**header["network"], "hidden": tuple(header["network"]["hidden"])})
        members = header.get("members", 1)
        _require(type(members) is int and ("members" not in header or members > 1), f"members {members!r}")
        dtype = np.dtype(_dtype(header["dtype"]))
        l2 = header["l2"] if members > 1 else [header["l2"]]
        _require(type(l2) is list and len(l2) == members and all(
            type(factor) is float and math.isfinite(factor) and factor >= 0 for factor in l2), f"l2 {header['l2']!r}")
        values = _parameters(spec, members, dtype, tensors)             # before any allocation
        network = make_network(spec, backend, values, dtype=dtype.name, l2=l2)
        inputs = (spec.n_inputs,)
        standardizer = Standardizer(_tensor(tensors, "input_mean", inputs, np.dtype(np.float64)),
                                    _tensor(tensors, "input_std", inputs, np.dtype(np.float64)))
        _require(bool((standardizer.std > 0).all()), "input_std is not positive")
        extra = header.get("extra")
        _require(isinstance(extra, dict | None), "its extra data are no table")
        return Model(network, standardizer, _classes(header, spec.n_classes), _image_shape(header, spec.n_inputs),
                     _feature_names(header, spec.n_inputs), extra)
    except (KeyError, TypeError, ValueError, OverflowError, MemoryError) as error:
        raise ModelFileError(f"{path}: not a whole fastmlp model ({type(error).__name__}: {error})") from error


def _require(condition: bool, complaint: str) -> None:
    if not condition:
        raise ValueError(complaint)


def _parameters(spec: NetworkSpec, members: int, dtype: np.dtype[Any],
                tensors: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """Parameters, and running statistics where the file has them, with a member axis (M, ...)."""
    shapes = {tensor.name: tensor.shape for tensor in spec.tensors()}
    if "running_mean0" in tensors:
        for k, width in enumerate(spec.hidden if spec.batch_norm else ()):
            shapes[f"running_mean{k}"] = shapes[f"running_var{k}"] = (width,)
    leading = (members,) if members > 1 else ()
    values = {name: _tensor(tensors, name, (*leading, *shape), dtype) for name, shape in shapes.items()}
    for name, value in values.items():
        _require("var" not in name or bool((value >= 0).all()), f"{name} is negative")
    return values if leading else {name: value[None] for name, value in values.items()}


def _classes(header: dict[str, Any], n_classes: int) -> npt.NDArray[Any]:
    """The labels in the dtype they had; the length of text comes from the labels, not from the file's word for it."""
    labels, dtype_name = header["classes"], header["classes_dtype"]
    _require(type(labels) is list and len(labels) == n_classes, f"labels for {n_classes} outputs")
    _require(re.fullmatch(r"[<>|][biufUO]\d*", dtype_name) is not None, f"class labels of type {dtype_name}")
    dtype = np.dtype(dtype_name)
    wanted: tuple[type, ...] = {"b": (bool,), "i": (int,), "u": (int,), "f": (float,), "U": (str,)}.get(
        dtype.kind, (str, int, float, bool))
    _require(all(type(label) in wanted for label in labels), f"class labels that are not of type {dtype}")
    _require(len(set(labels)) == n_classes, "the same class label twice")
    with np.errstate(over="ignore"):
        classes = np.array(labels, str if dtype.kind == "U" else dtype)
    # Not if they are too large, NaN, or end in a \0.
    _require(classes.tolist() == labels, f"class labels that {dtype} cannot hold")
    return classes


def _image_shape(header: dict[str, Any], n_inputs: int) -> tuple[int, int, int] | None:
    shape = header["image_shape"]
    if shape is None:
        return None
    _require(type(shape) is list and len(shape) == 3 and all(type(length) is int and length > 0 for length in shape)
             and math.prod(shape) == n_inputs, f"images of shape {shape!r}")
    return (shape[0], shape[1], shape[2])


def _feature_names(header: dict[str, Any], n_inputs: int) -> tuple[str, ...] | None:
    names = header["feature_names"]
    if names is None:
        return None
    _require(type(names) is list and len(names) == n_inputs and all(type(name) is str for name in names),
             f"names for {n_inputs} inputs")
    return tuple(names)


def _dtype(name: str) -> str:
    if name not in ("float32", "float64"):
        raise ValueError(f"dtype {name!r}")
    return name


def _tensor(tensors: dict[str, npt.NDArray[Any]], name: str, shape: tuple[int, ...],
            dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """One tensor of the file, checked: as it was declared, and finite."""
    tensor = tensors[name]
    if tensor.shape != shape or tensor.dtype != dtype:
        raise ValueError(f"{name} is {tensor.dtype} {tensor.shape} and should be {dtype} {shape}")
    if not np.isfinite(tensor).all():
        raise ValueError(f"{name} holds NaN or infinity")
    return tensor
