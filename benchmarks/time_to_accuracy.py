"""Seconds from CIFAR-10's files to a trained network, and the test accuracy that comes of it, over seeds.

    python benchmarks/time_to_accuracy.py --data-dir DIR [--seeds 5] [--peers] [--out FOLDER]
    python benchmarks/time_to_accuracy.py --data-dir DIR --choose

The clock runs from opening the files to the end of training; imports and the first compilation are told apart, as the
start of a fresh process. Every recipe trains for a fixed number of steps and meets the test set once a run, at the
end: its time counts for a target that its mean accuracy reaches. `--choose` shows how the recipes were chosen: by
accuracy on held-out training images, with seeds that are not reported. The contenders alternate, seed by seed.
"""

import argparse
import statistics
import sys
from pathlib import Path

import first_step
import race
from accuracy_pictures import draw
from cifar_recipes import CANDIDATES, FAST, GOOD, REPORTS, held_out, test_part, train_fastmlp, train_torch
from measuring import Machine
from reporting import aligned, store, where

from fastmlp.backend import resolve
from fastmlp.errors import FastMLPError

TARGETS = (0.535, 0.55)
PARTS = ("reading", "preparing", "training")
FIRST_SEED_TO_CHOOSE = 100
WARM_UP_SEED = 99
CONTENDERS = {
    "reports' recipe, PyTorch": (REPORTS, train_torch),
    "reports' recipe, fastmlp": (REPORTS, train_fastmlp),
    "53.5 % recipe, fastmlp": (FAST, train_fastmlp),
    "53.5 % recipe, PyTorch": (FAST, train_torch),
    "55 % recipe, fastmlp": (GOOD, train_fastmlp),
    "55 % recipe, PyTorch": (GOOD, train_torch),
}


def main(arguments=None):
    args = parse(arguments)
    options = {"data_dir": args.data_dir, "threads": args.threads, "trial_epochs": 1 if args.quick else None}
    with race.same_threads(args.threads):
        machine = Machine([resolve("cpu", threads=args.threads)])
        print(*machine.backends, sep="\n", flush=True)
        if args.choose:
            print(*table_of_candidates(candidates(args.seeds, options)), sep="\n")
            return
        found = measured(contenders(args.peers), range(args.seeds), options)
        starts = first_step.measured(1 if args.quick else 3, args.peers)
    rows = [row(name, runs, found) for name, runs in found.items()]
    facts = {"title": "Time to accuracy on CIFAR-10", "command": race.told(arguments), **machine.facts(),
             "threads": args.threads, "trial": args.quick, "rows": rows, "starts": starts}
    lines = report(facts)
    print(*lines, sep="\n")
    if args.out:
        store(facts, args.out, "time_to_accuracy", lines, lambda path: draw(rows, TARGETS, path))


def contenders(peers):
    return {name: how for name, how in CONTENDERS.items() if peers or how[1] is train_fastmlp}


def measured(found, seeds, options):
    """Seconds by part and test accuracy of every run, by contender."""
    test = test_part(options["data_dir"])
    for recipe, train in found.values():        # libraries start, kernels are compiled, files come into memory
        train(recipe, seed=WARM_UP_SEED, **{**options, "trial_epochs": 1})
    runs = {name: [] for name in found}
    for k, seed in enumerate(seeds):
        for name in list(found)[::1 if k % 2 == 0 else -1]:        # to and fro
            recipe, train = found[name]
            run = train(recipe, seed=seed, **options)
            runs[name].append({"seed": seed, **run.seconds, "seconds": run.total, "accuracy": run.accuracy(*test)})
            print(f"seed {seed}, {name}: {run.total:.2f} s, {runs[name][-1]['accuracy']:.4f}", flush=True)
    return runs


def candidates(n_seeds, options):
    """Seconds and accuracy on held-out images of every recipe that was considered, by its name."""
    found = {str(recipe): [] for recipe in CANDIDATES}
    for seed in range(FIRST_SEED_TO_CHOOSE, FIRST_SEED_TO_CHOOSE + n_seeds):
        for recipe in CANDIDATES:
            run = train_fastmlp(recipe, seed=seed, **options)
            found[str(recipe)].append((run.total, run.accuracy(*held_out(options["data_dir"], seed))))
    return found


def table_of_candidates(found):
    return aligned({
        "recipe": list(found),
        "seconds": [f"{statistics.median(seconds for seconds, _ in runs):.2f}" for runs in found.values()],
        "validation accuracy": [mean_and_deviation([value for _, value in runs], 4) for runs in found.values()],
    }, left=("recipe",))


def row(name, runs, found):
    """A contender's runs in a few numbers; times are compared with those of the first contender, run by run."""
    seconds, accuracy = [run["seconds"] for run in runs], [run["accuracy"] for run in runs]
    first = next(iter(found.values()))
    ratios = [mine["seconds"] / theirs["seconds"] for mine, theirs in zip(runs, first, strict=True)]
    return {
        "contender": name, "runs": runs, "seconds": seconds, "accuracy": accuracy, "mean_seconds": mean(seconds),
        "mean_accuracy": mean(accuracy), "compared_with": next(iter(found)),
        "ratio": statistics.median(ratios),
        "reached": {str(target): sum(value >= target for value in accuracy) for target in TARGETS},
    }


def mean(values):
    return sum(values) / len(values)


def mean_and_deviation(values, digits):
    deviation = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{deviation}"


def report(facts):
    """The readable form."""
    rows = facts["rows"]
    parts = [[statistics.median(run[part] for run in row["runs"]) for part in PARTS] for row in rows]
    columns = {
        "contender": [row["contender"] for row in rows],
        "seconds": [mean_and_deviation(row["seconds"], 2) for row in rows],
        " + ".join(PARTS): [" + ".join(f"{seconds:.2f}" for seconds in one) for one in parts],
        "ratio": [f"{row['ratio']:.2f}" for row in rows],
        "test accuracy": [mean_and_deviation(row["accuracy"], 4) for row in rows],
        **{f"seeds at {100 * target:g} %": [seeds_at(row, target) for row in rows]
           for target in TARGETS},
    }
    return [f"`{facts['command']}`", "", *(["**A trial with one epoch.**", ""] * facts["trial"]), *where(facts), "",
            *aligned(columns, left=("contender",)), "",
            f"Seconds: mean ± deviation, from opening the files; their parts: medians; ratio: the median of the seeds' "
            f"ratios to {rows[0]['compared_with']}.", "", *recipes(), "",
            *conclusions(rows), "", "## The start of a fresh process", "",
            *first_step.table(facts["starts"])]


def seeds_at(row, target):
    """How many seeds reached a target, in words."""
    return f"{row['reached'][str(target)]} of {len(row['runs'])}"


def recipes():
    """What the recipes are."""
    return [f"- {name}: {recipe}; batch norm, SGD" for name, recipe in (
        ("the reports' recipe", REPORTS), ("53.5 % recipe", FAST), ("55 % recipe", GOOD))]


def conclusions(rows):
    """For each target the fastest contender of each library whose mean accuracy reaches it."""
    lines = []
    for target in TARGETS:
        for library in ("fastmlp", "PyTorch"):
            mine = [row for row in rows if row["contender"].endswith(library)]
            good = [row for row in mine if row["mean_accuracy"] >= target]
            best = min(good, key=lambda row: row["mean_seconds"], default=None)
            if mine:
                lines.append(f"- {100 * target:g} % with {library}: " + (
                    f"{best['mean_seconds']:.2f} s ({best['contender']})" if best else "not reached by any mean"))
    return lines


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True, help="the official binary files, unpacked")
    parser.add_argument("--seeds", type=int, default=5, help="runs of each contender")
    parser.add_argument("--threads", type=int, metavar="N", help="of both libraries; by default what they find")
    parser.add_argument("--peers", action="store_true", help="PyTorch too, where it is installed")
    parser.add_argument("--choose", action="store_true", help="only show the candidates' validation accuracies")
    parser.add_argument("--quick", action="store_true", help="one epoch each: a trial")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="for time_to_accuracy.json, .md and .png")
    args = parser.parse_args(arguments)
    if args.seeds < 1:
        parser.error(f"--seeds {args.seeds}: at least 1")
    return args


if __name__ == "__main__":
    try:
        main()
    except FastMLPError as error:
        sys.exit(f"time_to_accuracy.py: {error}")
