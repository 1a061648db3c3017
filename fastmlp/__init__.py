"""fastmlp: a fast, small and safe trainer for multi-layer perceptrons on NumPy and CuPy.

    from fastmlp import MLPClassifier
    MLPClassifier(hidden_layer_sizes=(50, 50), batch_norm=True).fit(X, y).score(X_test, y_test)

Names are imported when they are first used: `import fastmlp` alone loads neither scikit-learn nor CuPy nor matplotlib.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastmlp.backend import resolve as resolve
    from fastmlp.data import load_dataset as load_dataset
    from fastmlp.estimator import MLPClassifier as MLPClassifier
    from fastmlp.gradcheck import check_gradients as check_gradients
    from fastmlp.layout import NetworkSpec as NetworkSpec
    from fastmlp.model import load_model as load_model
    from fastmlp.network import Network as Network
    from fastmlp.population import fit_population as fit_population
    from fastmlp.range_test import lr_range as lr_range
    from fastmlp.search.api import search_settings as search_settings
    from fastmlp.trainer import Trainer as Trainer
    from fastmlp.training import train as train

__version__ = "0.1.0"

_HOMES = {
    "MLPClassifier": "estimator",
    "Network": "network",
    "NetworkSpec": "layout",
    "Trainer": "trainer",
    "check_gradients": "gradcheck",
    "fit_population": "population",
    "load_dataset": "data",
    "load_model": "model",
    "lr_range": "range_test",
    "resolve": "backend",
    "search_settings": "search.api",
    "train": "training",
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"fastmlp.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'fastmlp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
