"""Seconds for one epoch of training: fastmlp beside plain NumPy and the matrix products alone.

    python benchmarks/epoch.py [--rounds 7] [--n 45000] [--inputs 3072] [--out FILE.json]

All contenders do the same work on the same random bytes (the time does not depend on the content): batch 100, float32,
a fresh order, the batch gathered and standardised, forward, backward, update. They alternate within one run, after a
warm-up; what counts is the ratio of medians, since machines drift.
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path

import numpy as np
from plain_numpy import PlainNetwork, ProductsOnly

from fastmlp.backend import resolve
from fastmlp.data.standardize import Standardizer
from fastmlp.examples import Examples
from fastmlp.layout import NetworkSpec
from fastmlp.network import Network
from fastmlp.optimizers import SGD
from fastmlp.schedules import cyclical
from fastmlp.training import Trainer

NETWORKS = {"50": (50,), "50-50": (50, 50), "9 layers": (50, 30, 20, 20, 10, 10, 10, 10)}
BATCH, CLASSES, L2 = 100, 10, 0.005


def rate(step):
    return cyclical(step, lr_min=1e-5, lr_max=1e-1, step_size=2250)


def contenders(data, labels, hidden, batch_norm):
    """A function for each contender that trains one epoch."""
    n, inputs = data.shape
    sizes = (inputs, *hidden, CLASSES)
    standardizer, backend = Standardizer.fit(data, "feature"), resolve("cpu")
    network = Network(NetworkSpec(inputs, hidden, CLASSES, batch_norm), backend, l2=L2)
    network.initialize([0])
    trainer = Trainer(network, Examples(data, labels, CLASSES, standardizer, backend), SGD(), rate, batch_size=BATCH)

    plain, one_hot = PlainNetwork(sizes, batch_norm), np.eye(CLASSES, dtype=np.float32)[labels]
    standardised = standardizer.apply(data, np.float32)
    rng, step = np.random.default_rng(0), 0

    def plain_epoch():
        nonlocal step
        order = rng.permutation(n)
        for start in range(0, n, BATCH):
            rows = order[start:start + BATCH]
            plain.step(standardised[rows], one_hot[rows], np.float32(rate(step)), np.float32(L2))
            step += 1

    products = ProductsOnly(sizes, BATCH)

    def products_epoch():
        for start in range(0, n, BATCH):
            products.step(standardised[start:start + BATCH])

    return {"products alone": products_epoch, "plain NumPy": plain_epoch, "fastmlp": trainer.run_epoch}


def measure(functions, rounds):
    """Seconds of every round; the contenders take turns."""
    seconds = {name: [] for name in functions}
    for k in range(rounds + 1):
        for name, function in functions.items():
            began = time.perf_counter()
            function()
            if k > 0:                               # round 0 warms up
                seconds[name].append(time.perf_counter() - began)
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--n", type=int, default=45_000)
    parser.add_argument("--inputs", type=int, default=3072)
    parser.add_argument("--only", default="", help="one network, such as 50-50")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    data = rng.integers(0, 256, (args.n, args.inputs), np.uint8)
    labels = rng.integers(0, CLASSES, args.n)
    rows = []
    print(f"{resolve('cpu').description}; load average before {os.getloadavg()[0]:.2f}")
    print(f"{'network':12} {'contender':16} {'median s':>9} {'spread':>15} {'/ plain NumPy':>14} {'/ products':>11}")
    for name, hidden in [(n, h) for n, h in NETWORKS.items() if args.only in ("", n)]:
        for batch_norm in (False, True):
            seconds = measure(contenders(data, labels, hidden, batch_norm), args.rounds)
            medians = {who: statistics.median(times) for who, times in seconds.items()}
            for who, times in seconds.items():
                network = name + (" BN" if batch_norm else "")
                print(f"{network:12} {who:16} {medians[who]:9.3f} {min(times):7.3f}-{max(times):.3f} "
                      f"{medians[who] / medians['plain NumPy']:14.2f} {medians[who] / medians['products alone']:11.2f}",
                      flush=True)
                rows.append({"network": network, "contender": who, "seconds": times})
    print(f"load average after {os.getloadavg()[0]:.2f} (above the number of cores: the machine was busy)")
    if args.out:
        args.out.write_text(json.dumps({"machine": resolve("cpu").description, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
