"""Every option of `fastmlp search` beside those of `fastmlp train`."""

from __future__ import annotations

from dataclasses import dataclass

from fastmlp.config import POPULATION, TrainOptions
from fastmlp.errors import ConfigError
from fastmlp.options import check, option, rules
from fastmlp.search.space import NOTATION, SEARCHABLE, Searched, parse_searched

SEARCH = "search"
SAMPLERS = ("random", "tpe", "qmc", "gp")
DEFAULT_TRIALS = 40


@dataclass(frozen=True)
class SearchOptions:
    """Options of `fastmlp search`; those of `fastmlp train` say what every trial has in common.

    Examples
    --------
    >>> SearchOptions(trials=0)
    Traceback (most recent call last):
    fastmlp.errors.ConfigError: --trials 0: must be at least 1
    """

    space: tuple[Searched, ...] = option(
        (parse_searched("l2=1e-5..1e-1"),), f"what to search, again for more options: {NOTATION}. "
        f"Options: {', '.join(SEARCHABLE)}", parse_searched, group=SEARCH, many=True, again=True,
        metavar="NAME=VALUES")
    trials: int | None = option(None, f"settings to try, in all stages together (default: {DEFAULT_TRIALS}, and with "
                                "--minutes no limit)", int, group=SEARCH, low=1, high=1_000_000)
    minutes: float | None = option(None, "begin no further trial after so many minutes of this command; the stages "
                                   "share them, and a command that goes on has as many again", float,
                                   group=SEARCH, above=0, high=1e6)
    stages: int = option(2, "the first has the whole space; each later one the space around the best quarter of the "
                         "trials before", int, group=SEARCH, low=1, high=10)
    sampler: str = option("random", "who proposes settings: Optuna's samplers by name; gp needs the package torch",
                          group=SEARCH, choices=SAMPLERS)
    seeds: int = option(1, "networks of each setting, of seeds --seed, --seed + 1, ...: their mean validation accuracy "
                        "counts", int, group=SEARCH, low=1, high=1000)
    together: int | None = option(None, "settings to propose at once; those of one shape are trained as one population "
                                  "(default: 20, and 5 with samplers that learn from trials)", int, group=SEARCH,
                                  low=1, high=1000)
    storage: str | None = option(
        None, "where the trials are kept: an SQLite file, or postgresql://USER:PASSWORD@HOST/DATABASE for several "
        "machines that run the same command (default: search.db in the folder of results)", group=SEARCH,
        metavar="FILE|URL")
    study: str = option("search", "name of the search in its storage, which may hold several", group=SEARCH,
                        metavar="NAME")

    def __post_init__(self) -> None:
        check(self)

    @property
    def total(self) -> int | None:
        """Trials of all stages together; None where time alone limits them."""
        return self.trials if self.trials or self.minutes else DEFAULT_TRIALS

    @property
    def at_once(self) -> int:
        """Settings that are proposed at once."""
        return self.together or (20 if self.sampler in ("random", "qmc") else 5)


def check_base(base: TrainOptions) -> None:
    """Refuse options of a population: a search makes its own.

    Raises
    ------
    ConfigError
        Names them.
    """
    for name, rule in rules(TrainOptions).items():
        if rule.group == POPULATION and getattr(base, name) != TrainOptions.__dataclass_fields__[name].default:
            raise ConfigError(f"--{name} has no meaning for a search: leave it out (--seeds trains several networks "
                              f"of each setting)")
