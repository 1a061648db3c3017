"""Samples of safetensors files, models and checkpoints, and how to read them and to change their headers."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas
from safetensors.numpy import load, save

from fastmlp import MLPClassifier
from fastmlp.backend import resolve
from fastmlp.checkpoints import Keeper, checkpoint_file
from fastmlp.data.standardize import Standardizer
from fastmlp.dropout import Dropout
from fastmlp.errors import DataError, DivergenceError
from fastmlp.examples import Examples
from fastmlp.history import History
from fastmlp.intervals import Interval
from fastmlp.layout import NetworkSpec
from fastmlp.model import Model, load_model, save_model
from fastmlp.network import Network
from fastmlp.optimizers import SGD
from fastmlp.schedules import constant
from fastmlp.tensor_files import DIGEST, HEADER, digest_of
from fastmlp.trainer import Trainer
from fastmlp.training import train

BACKEND = resolve("cpu")

Samples = Callable[[], list[bytes]]


def model(members: int) -> Model:
    """A network of 4-3-3 with batch norm, or several."""
    network = Network(NetworkSpec(4, (3,), 3), BACKEND, members=members, dtype="float32", l2=0.1)
    network.initialize(list(range(members)))
    standardizer = Standardizer(np.zeros(4), np.ones(4))
    return Model(network, standardizer, np.array(["cat", "dog", "ant"]), (1, 2, 2), ("a", "b", "c", "d"), {"note": [1]})


@cache
def models() -> list[bytes]:
    """Files of a network, an ensemble, and an estimator."""
    with tempfile.TemporaryDirectory() as folder:
        path, made = Path(folder) / "model.safetensors", []
        for members in (1, 2):
            save_model(path, model(members))
            made.append(path.read_bytes())
        classifier = MLPClassifier(3, max_iter=1, learning_rate="cosine", random_state=0, class_weight={0: 1.0, 1: 2.0})
        classifier.fit(np.eye(4, 2), [0, 1, 0, 1]).save(path)
        return [*made, path.read_bytes()]


def opened(content: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and tensors of a file."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(json.loads(content[8:8 + length])["__metadata__"][HEADER])
    del header[DIGEST]
    return header, load(content)


def closed(header: Any, tensors: dict[str, Any]) -> bytes:
    """A file with this header, whatever it is, and its digest where it can have one."""
    if isinstance(header, dict):
        header = {**header, DIGEST: digest_of(header, tensors)}
    return save(tensors, metadata={HEADER: json.dumps(header)})


def header_of(samples: Samples, number: int) -> Samples:
    """The JSON header of one of the samples."""
    return lambda: [json.dumps(opened(samples()[number])[0]).encode()]


def with_header(samples: Samples, number: int) -> Callable[[bytes], bytes]:
    """From a header to a whole file with that sample's tensors, and a digest of both."""
    def make(content: bytes) -> bytes:
        text, tensors = content.decode("utf-8", "replace"), opened(samples()[number])[1]
        try:
            return closed(json.loads(text), tensors)
        except (ValueError, RecursionError):            # no JSON: as it is
            return save(tensors, metadata={HEADER: text})
    return make


def read_model(path: Path) -> Any:
    """The model, and what it predicts."""
    loaded = load_model(path, BACKEND)
    with contextlib.suppress(DataError):        # whose outputs are too large
        loaded.predict_proba(np.ones((2, loaded.network.spec.n_inputs)))
    return loaded


def read_classifier(path: Path) -> Any:
    """The same file as an estimator."""
    loaded = MLPClassifier.load(path)
    x: Any = np.ones((2, loaded.n_features_in_))
    named = hasattr(loaded, "feature_names_in_")
    with contextlib.suppress(DataError):
        loaded.predict_proba(pandas.DataFrame(x, columns=loaded.feature_names_in_) if named else x)
    return loaded


def trainer() -> Trainer:
    """A small population with all that a checkpoint can hold."""
    x = np.random.default_rng(0).normal(size=(20, 3))
    examples = Examples(x, np.arange(20) % 2, 2, Standardizer.fit(x, "none"), BACKEND, "float64")
    network = Network(NetworkSpec(3, (2,), 2), BACKEND, members=2, dtype="float64")
    network.initialize([0, 1])
    return Trainer(network, examples, SGD(momentum=0.9), lambda step: constant(step, lr=0.1), batch_size=5,
                   snapshot_steps=[2], dropout=Dropout(0.2, [0, 1]), record=False)


@cache
def checkpoints() -> list[bytes]:
    """One amid an epoch, after a snapshot."""
    with tempfile.TemporaryDirectory() as folder:
        one, steps = trainer(), iter(range(8))
        train(one, 40, parts={"val": one.examples}, should_stop=lambda: next(steps, 7) == 7,
              keeper=Keeper(Path(folder), Interval(epochs=100), lambda: {"version": "0"}))
        return [checkpoint_file(Path(folder), 0).read_bytes()]


def read_checkpoint(path: Path) -> Any:
    """Trainer and history that were brought back, and a few steps on."""
    one, history = trainer(), History()
    Keeper(path.parent, Interval(epochs=100), dict).begin(0, one, history)
    with contextlib.suppress(DivergenceError):
        train(one, min(one.step, 10**6) + 8, parts={}, history=history)
    return one
