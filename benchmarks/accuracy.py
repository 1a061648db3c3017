"""Test accuracy of the reference networks on CIFAR-10: mean and deviation over seeds, by the command line's own recipe.

    python benchmarks/accuracy.py --data-dir DIR [--seeds 5] [--out benchmarks/results/accuracy.md]

Every run is `fastmlp train --data cifar10 --data-dir DIR --seed S` with the options that the table shows. The test set
is looked at once a run, after training.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

from fastmlp.backend import resolve
from fastmlp.config import TrainOptions
from fastmlp.options import add_options, build
from fastmlp.run import run_training

DEEP = "--hidden 50 30 20 20 10 10 10 10"
SOFTMAX = ("--hidden --train-batches 1 --validation-batches 2 --standardize scale --init normal --init-std 0.01 "
           "--schedule constant --lr 0.001 --l2 0 --epochs 40")
NETWORKS = {
    "50-50": "--hidden 50 50 --no-batch-norm",
    "50-50, batch norm": "--hidden 50 50",
    "9 layers": f"{DEEP} --no-batch-norm",
    "9 layers, batch norm": DEEP,
    "150-50, batch norm": "--hidden 150 50",
    "softmax classifier": SOFTMAX,
}


def accuracy(flags, data_dir, seed):
    parser = argparse.ArgumentParser()
    add_options(parser, TrainOptions)
    with tempfile.TemporaryDirectory() as folder:
        common = ["--data", "cifar10", "--data-dir", str(data_dir), "--seed", str(seed), "--out", folder, "--quiet",
                  "--device", "cpu", "--evaluate-every", "100"]
        _, result = run_training(build(TrainOptions, vars(parser.parse_args([*flags.split(), *common]))))
    return result["test_accuracy"], result["seconds_training"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    lines = ["| network | test accuracy, mean ± deviation | seeds | options |", "|---|---|---|---|"]
    for name, flags in NETWORKS.items():
        results = [accuracy(flags, args.data_dir, seed) for seed in range(args.seeds)]
        values = [value for value, _ in results]
        deviation = statistics.stdev(values) if len(values) > 1 else float("nan")
        seeds = " ".join(f"{value:.4f}" for value in values)
        lines.append(f"| {name} | {statistics.mean(values):.4f} ± {deviation:.4f} | {seeds} | `{flags}` |")
        print(lines[-1], f"median training {statistics.median(s for _, s in results):.1f} s", flush=True)
    if args.out:
        title = f"# Test accuracy on CIFAR-10\n\n{resolve('cpu').description}\n"
        args.out.write_text("\n".join([title, *lines]) + "\n")


if __name__ == "__main__":
    main()
