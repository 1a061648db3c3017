"""What a fitted `MLPClassifier` does: predict, show its weights, be written to a file and read again."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from fastmlp.backend import host_array, resolve
from fastmlp.errors import DataError, ModelFileError
from fastmlp.estimator.fit import Learner
from fastmlp.estimator.inputs import Labels, draw_seed, validated
from fastmlp.estimator.options import check_parameters
from fastmlp.evaluation import folded_layers, log_softmax, softmax
from fastmlp.model import Model, load_model, save_model
from fastmlp.parameters import chosen, make_network, tensors_of

HISTORY = ("n_iter_", "t_", "loss_", "loss_curve_", "best_loss_", "validation_scores_", "validation_loss_curve_",
           "best_validation_score_")


class FittedClassifier(ClassifierMixin, BaseEstimator):     # type: ignore[misc]
    """The half of `MLPClassifier` that uses what training made."""

    _learner: Learner
    classes_: Labels
    n_features_in_: int
    n_iter_: int
    t_: int
    loss_: float
    loss_curve_: list[float]
    best_loss_: float | None
    validation_scores_: list[float] | None
    validation_loss_curve_: list[float] | None
    best_validation_score_: float | None

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_learner")

    def _install(self, learner: Learner, classes: Labels) -> None:
        """Make this estimator a fitted one."""
        self._learner, self.classes_ = learner, classes
        self.n_layers_, self.n_outputs_ = learner.network.spec.n_layers + 1, len(classes)
        self.out_activation_ = "softmax"

    def _model(self) -> Model:
        """The members that did not diverge."""
        names = getattr(self, "feature_names_in_", None)
        network, standing = self._learner.network, self._learner.standing
        if len(standing) < network.members:
            network = make_network(network.spec, network.backend, chosen(tensors_of(network), standing),
                                   dtype=network.dtype.name, l2=network.backend.to_host(network.l2)[standing])
        return Model(network, self._learner.standardizer, self.classes_,
                     feature_names=None if names is None else tuple(names))

    def _logits(self, X: Any) -> npt.NDArray[Any]:
        check_is_fitted(self)
        return self._model().logits(validated(self, X, reset=False))

    def predict(self, X: Any) -> Labels:
        """The most probable label.  X (n, D)  ->  (n,)."""
        logits = self._logits(X)
        labels: Labels = self.classes_[logits.argmax(axis=-1)]
        return labels

    def predict_proba(self, X: Any) -> npt.NDArray[Any]:
        """Probability of each class, in the order of `classes_`.  X (n, D)  ->  (n, C)."""
        return softmax(self._logits(X)).astype(self._learner.network.dtype)

    def predict_log_proba(self, X: Any) -> npt.NDArray[Any]:
        """Logarithm of `predict_proba`, finite also where that is 0.  X (n, D)  ->  (n, C)."""
        return log_softmax(self._logits(X)).astype(self._learner.network.dtype)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Accuracy on X (n, D), y (n,)."""
        return float(super().score(host_array(X), host_array(y), host_array(sample_weight)))

    @property
    def coefs_(self) -> list[npt.NDArray[Any]]:
        """Weights (D, H) of each layer; of several members (M, D, H)."""
        return [self._host(w) for w, _ in self._layers()]

    @property
    def intercepts_(self) -> list[npt.NDArray[Any]]:
        """Biases (H,) of each layer; of several members (M, H)."""
        return [self._host(b) for _, b in self._layers()]

    @property
    def diverged_members_(self) -> list[int]:
        """The members that are left out of the average."""
        self._refuse_unfitted("diverged_members_ exists")
        return [k for k in range(self._learner.network.members) if k not in self._learner.standing]

    def _layers(self) -> list[tuple[Any, Any]]:
        self._refuse_unfitted("coefs_ and intercepts_ exist")
        return folded_layers(self._learner.network)

    def _refuse_unfitted(self, what: str) -> None:
        if not self.__sklearn_is_fitted__():
            raise AttributeError(f"{what} once the classifier is fitted")

    def _host(self, array: Any) -> npt.NDArray[Any]:
        """The only member's part of an array (1, ...), or all members' parts, members first."""
        network = self._learner.network
        host = network.backend.to_host(array)
        if network.members > 1 and len(host) == 1:          # the first layer: members side by side
            host = np.moveaxis(host.reshape(*host.shape[1:-1], network.members, -1), -2, 0)
        part: npt.NDArray[Any] = host if network.members > 1 else host[0]
        return part

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted classifier to a safetensors file, which holds numbers and JSON and nothing that could run.

        The optimizer's state is not in it, nor are members that diverged; pickle the estimator to continue a training
        exactly.

        Raises
        ------
        OutputError
            The file cannot be written.
        DataError
            The labels or parameters are of types that JSON does not know.
        """
        check_is_fitted(self)
        model = self._model()
        parameters = {name: _plain(value) for name, value in self.get_params(deep=False).items()}
        parameters["n_members"] = model.network.members
        model.extra = {"parameters": parameters, "history": {name: getattr(self, name) for name in HISTORY}}
        try:
            json.dumps([model.classes.tolist(), model.extra])
        except TypeError as error:
            raise DataError(f"the classifier cannot be saved: {error}") from error
        save_model(Path(path), model)

    @classmethod
    def load(cls, path: str | os.PathLike[str], device: str = "cpu") -> Self:
        """Read a classifier that `save` wrote, or a model from `fastmlp train`. No code in the file is ever run.

        Parameters
        ----------
        path : path
            The file.
        device : {"cpu", "auto", "gpu"}, default="cpu"
            Where the classifier shall compute from now on.

        Raises
        ------
        ModelFileError
            The file is absent, damaged, or no model.
        """
        model = load_model(Path(path), resolve(device))
        spec, extra = model.network.spec, model.extra or {}
        described = {"hidden_layer_sizes": spec.hidden, "activation": spec.activation, "loss": spec.loss,
                     "batch_norm": spec.batch_norm, "dtype": model.network.dtype.name,
                     "n_members": model.network.members}
        try:
            saved = {name: _unplain(value) for name, value in extra.get("parameters", described).items()}
            history = {name: _checked_history(name, extra.get("history", {}).get(name)) for name in HISTORY}
            classifier = cls(**{**saved, "device": device})
            check_parameters(classifier)
            if classifier.n_members != model.network.members:
                raise ValueError(f"it holds {model.network.members} members")
            seed = draw_seed(classifier.random_state)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ModelFileError(f"{path}: its parameters are not those of a classifier ({error})") from error
        classifier._install(Learner.create(classifier, model.network, model.standardizer, seed), model.classes)
        history.update(n_iter_=history["n_iter_"] or 0, t_=history["t_"] or 0, loss_curve_=history["loss_curve_"] or [])
        for name, value in history.items():
            setattr(classifier, name, value)
        classifier.n_features_in_ = spec.n_inputs
        if model.feature_names is not None:
            classifier.feature_names_in_ = np.array(model.feature_names, object)
        return classifier


def _checked_history(name: str, value: Any) -> Any:
    """What a file says of the training: counts, a number, or a list of numbers; None where it says nothing."""
    if value is None:
        return None
    if name in ("n_iter_", "t_"):
        good = type(value) is int and value >= 0
    elif name.endswith(("curve_", "scores_")):
        good = type(value) is list and all(type(number) in (int, float) for number in value)
    else:
        good = type(value) in (int, float)
    if not good:
        raise ValueError(f"{name} {value!r}")
    return value


def _plain(value: Any) -> Any:
    """A parameter in JSON's types; a random generator, which has none, becomes None."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return {"pairs": [[_plain(label), _plain(weight)] for label, weight in value.items()]}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, np.random.RandomState) else value


def _unplain(value: Any) -> Any:
    """What `_plain` made, back again; sequences come back as tuples."""
    if isinstance(value, dict):
        return {label: weight for label, weight in value["pairs"]}      # noqa: C416 - a pair may be of any length here
    return tuple(value) if isinstance(value, list) else value
