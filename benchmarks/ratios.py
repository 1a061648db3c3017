"""Ratios that must not get worse, with generous bounds: what continuous integration can check on any machine.

    python benchmarks/ratios.py [--out FOLDER]

A ratio above its bound is measured again, since the machine may have been busy, and its best value counts. Exit code 1
when one stays above.
"""

import argparse
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from contenders import fastmlp, plain_numpy
from measuring import Machine, Results, in_microseconds, measure
from problem import SECTIONS, Problem, population
from race import load
from reporting import aligned, store, where

from fastmlp.backend import resolve
from fastmlp.errors import FastMLPError

ATTEMPTS, ROUNDS, N = 4, 5, 16_000
STEPS = 160         # so that fastmlp has found its number of threads before the first round
MEMBERS = 8


@dataclass
class Check:
    """A ratio of two times a step and its bound; `makers` gives both contenders, those of the numerator first."""

    name: str
    bound: float
    makers: dict
    share: int = 1          # of the numerator's time that counts: a member's
    measured: tuple = ()

    @property
    def best(self):
        return min(self.measured, default=float("inf"))

    @property
    def holds(self):
        return self.best <= self.bound


def checks(problem, backend):
    shapes = {case.name: case for case in SECTIONS["networks"]}
    shallow, deep = shapes["50-50 BN"], shapes["9 layers BN"]
    ours = partial(fastmlp, problem=problem, backend=backend)
    return [
        *(Check(f"{case.name}: fastmlp over plain NumPy", 0.9,
                {"fastmlp": partial(ours, case), "plain NumPy": partial(plain_numpy, case, problem)})
          for case in (shallow, deep)),
        Check(f"{deep.name}: recorded over call by call", 0.9,
              {"recorded": partial(ours, deep), "call by call": partial(ours, deep, record=False)}),
        Check(f"{MEMBERS} members of {shallow.name}: each over a lone network", 1.0,
              {"population": partial(ours, population(MEMBERS)), "lone": partial(ours, shallow)}, MEMBERS),
    ]


def try_again(check, problem):
    """Measure a ratio once more. A contender that fails is an error here."""
    results = Results()
    seconds = measure(SECTIONS["networks"][0], check.makers, ROUNDS, float("inf"), results)
    if results.failed:
        raise RuntimeError("; ".join(f"{one['contender']}: {one['error']}" for one in results.failed))
    ours, theirs = (in_microseconds(times, problem.steps)["median"] for times in seconds.values())
    check.measured = (*check.measured, ours / check.share / theirs)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=N, help="examples")
    parser.add_argument("--inputs", type=int, default=3072)
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="for ratios.json and ratios.md")
    args = parser.parse_args(arguments)
    backend = resolve("cpu", kernels="compiled")
    machine, problem = Machine([backend]), Problem(args.n, args.inputs, STEPS)
    all_checks = checks(problem, backend)
    for _ in range(ATTEMPTS):
        for check in all_checks:
            if not check.holds:
                try_again(check, problem)
    facts = {"title": "Ratios that must hold", **machine.facts(), "n": args.n, "inputs": args.inputs,
             "rows": [{"name": check.name, "bound": check.bound, "measured": check.measured, "holds": check.holds}
                      for check in all_checks]}
    lines = table(facts["rows"])
    print(*where(facts), "", *lines, "", load(facts), sep="\n")
    if args.out:
        store(facts, args.out, "ratios", [*where(facts), "", *lines])
    return int(not all(check.holds for check in all_checks))


def table(rows):
    return aligned({
        "ratio of times a step": [row["name"] for row in rows],
        "best": [f"{min(row['measured']):.2f}" for row in rows],
        "bound": [f"{row['bound']:.2f}" for row in rows],
        "measured": [", ".join(f"{value:.2f}" for value in row["measured"]) for row in rows],
        "": ["holds" if row["holds"] else "BROKEN" for row in rows],
    }, left=("ratio of times a step", ""))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except FastMLPError as error:
        sys.exit(f"ratios.py: {error}")
