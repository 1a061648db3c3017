"""How much faster trials are trained together than one after the other.

    python benchmarks/search.py --data-dir DIR

trains 20 settings of `--l2` for CIFAR-10, 50-50 with batch norm, 8 epochs, in turns as: `fastmlp search` (a process,
with everything: start, reading, database, training the best setting again, pictures), the same trials in one population
within this process, and one by one, of which a few are timed and scaled to all: as processes of `fastmlp train`, and
within this process. Medians over the rounds. The search's process is set against `fastmlp train`'s, and the population
against single trainings that are just as bare.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from fastmlp.backend import resolve
from fastmlp.config import TrainOptions
from fastmlp.data import load_dataset
from fastmlp.data.standardize import Standardizer
from fastmlp.trials import ONLY_AT_THE_END, train_trials


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--singles", type=int, default=2, help="trials a round that are timed one by one")
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()

    data, backend = load_dataset("cifar10", data_dir=given.data_dir), resolve("cpu")
    standardizer = Standardizer.fit(data.x_train, "feature")
    steps = 2 * (len(data.y_train) // 100)                              # two epochs up, two down, twice
    trials = [TrainOptions(hidden=(50, 50), step_size=steps, l2=float(l2), evaluate_every=ONLY_AT_THE_END)
              for l2 in np.geomspace(1e-5, 1e-1, given.trials)]
    recipe = ["--data", "cifar10", "--data-dir", str(given.data_dir), "--hidden", "50", "50", "--step-size", str(steps),
              "--device", "cpu", "--quiet"]

    def process(command: str, *words: str) -> float:
        with tempfile.TemporaryDirectory() as folder:
            return timed(lambda: subprocess.run(
                [sys.executable, "-m", "fastmlp", command, *recipe, *words, "--out", f"{folder}/out"], check=True))

    def together(chosen: list[TrainOptions]) -> float:
        return timed(lambda: train_trials(chosen, data, backend, standardizer=standardizer, seed=0,
                                          evaluate_on=("val",)))

    together(trials[:1])                                                # kernels are compiled, threads chosen
    names = ("fastmlp search", "fastmlp train, one by one", "one population", "within a process, one by one")
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(given.rounds):
        for k in range(given.singles):
            seconds[names[1]].append(process("train", "--l2", str(trials[k].l2)) * given.trials)
            seconds[names[3]].append(together([trials[k]]) * given.trials)
        seconds[names[2]].append(together(trials))
        seconds[names[0]].append(process("search", "--stages", "1", "--trials", str(given.trials)))
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    for name in names:
        print(f"{name:32} {middle[name]:7.1f} s for {given.trials} trials"
              f"  ({', '.join(f'{value:.1f}' for value in seconds[name])})")
    print(f"search / trainings as processes  {middle[names[0]] / middle[names[1]]:.2f}")
    print(f"population / trainings within    {middle[names[2]] / middle[names[3]]:.2f}")


if __name__ == "__main__":
    main()
