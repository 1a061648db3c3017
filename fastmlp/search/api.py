"""A search from Python: `search_settings`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastmlp.building import make_backend
from fastmlp.config import TrainOptions
from fastmlp.data.arrays import from_arrays
from fastmlp.errors import ConfigError
from fastmlp.options import from_python
from fastmlp.population import OWN_OPTIONS
from fastmlp.progress import make_progress
from fastmlp.run import say_nothing
from fastmlp.search.core import Search
from fastmlp.search.options import SearchOptions
from fastmlp.search.space import Searched, Space, label_of, parse_searched, value_of
from fastmlp.search.storage import Storage


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes
    ----------
    best : dict
        The best setting's searched options, to be passed to `fit_population` or another training.
    val_accuracy : float
        Its mean validation accuracy.
    trials : dict of str to list
        A row for each trial, as columns; see `fastmlp search`'s trials.csv.
    stages : list of dict
        The space of every stage.
    """

    best: dict[str, Any]
    val_accuracy: float
    trials: dict[str, list[Any]]
    stages: list[Space]


def search_settings(data: Any, y: Any = None, *, X_val: Any = None, y_val: Any = None,
                    space: Mapping[str, str | tuple[float, float] | Sequence[Any]],
                    storage: str | Path | None = None, verbose: bool = False, trials: int | None = None,
                    minutes: float | None = None, stages: int = 2, sampler: str = "random", seeds: int = 1,
                    together: int | None = None, study: str = "search", **options: Any) -> Found:
    """Search for the best setting by validation accuracy, from coarse to fine. No test part is looked at.

    Parameters
    ----------
    data : Dataset or array (n, D)
        What `load_dataset` returns, or examples as rows.
    y : array (n,), optional
        Their labels, if `data` is an array.
    X_val, y_val : arrays, optional
        The validation part beside such an array.
    space : mapping
        For each option a range as a tuple (low, high), a list of choices, or text as on the command line, such as
        `"1e-5..1e-1"`. A range that begins above 0 is drawn by factors, others by steps.
    storage : str or Path, optional
        An SQLite file or a postgresql:// address, where the search can be gone on with; by default nowhere.
    verbose : bool, default False
        Print a line for each trial, and show progress.
    trials, minutes, stages, sampler, seeds, together, study
        As the options of `fastmlp search`.
    **options
        Those of `fastmlp train` about network, training and device, for all trials.

    Returns
    -------
    Found

    Raises
    ------
    ConfigError, DataError, MissingExtraError, OutputError
        Options, data or storage cannot be used.
    DivergenceError
        No trial could be trained to its end.

    Examples
    --------
    >>> from fastmlp import load_dataset
    >>> found = search_settings(load_dataset("digits"), space={"l2": (1e-4, 1.0), "init": ["he", "xavier"]}, trials=6,
    ...                         hidden=(20,), cycles=1, device="cpu")
    >>> len(found.trials["l2"]), sorted(found.best), found.val_accuracy > 0.8
    (6, ['init', 'l2'], True)
    """
    dataset = from_arrays(data, y, (X_val, y_val), (None, None))
    base = TrainOptions(**from_python(TrainOptions, options, [*OWN_OPTIONS, "standardize"]))
    wanted = SearchOptions(space=tuple(_searched(name, values) for name, values in space.items()), trials=trials,
                           minutes=minutes, stages=stages, sampler=sampler, seeds=seeds, together=together, study=study)
    with tempfile.TemporaryDirectory(prefix="fastmlp-") as passing:
        search = Search(wanted, base, dataset, make_backend(base),
                        lambda: Storage(storage if storage is not None else Path(passing) / "search.db"),
                        say=print if verbose else say_nothing, watcher=make_progress("auto" if verbose else "quiet"))
        with closing(search):
            search.run(lambda: False)
            best = search.best()
            if best is None:
                raise search.nothing_found()
            setting = {name: value_of(name, label) for name, label in best.point.items()}
            return Found(setting, best.accuracy or 0.0, search.table(), search.ledger.spaces())


def _searched(name: str, values: Any) -> Searched:
    if isinstance(values, tuple) and len(values) == 2 and all(
            isinstance(end, int | float) and not isinstance(end, bool) for end in values):
        text = f"{values[0]!r}..{values[1]!r}"
    elif isinstance(values, str):
        text = values
    elif isinstance(values, Iterable):
        text = ",".join(label_of(value) for value in values)
    else:
        raise ConfigError(f"space of {name}: {values!r} must be a range (low, high), a list of choices, or text")
    try:
        return parse_searched(f"{name}={text}")
    except ValueError as error:
        raise ConfigError(f"space of {name}: {values!r} is not {error}") from error
