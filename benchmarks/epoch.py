"""Seconds for one epoch of training: fastmlp beside plain NumPy, the matrix products alone, PyTorch and JAX.

    python benchmarks/epoch.py [--device gpu] [--peers] [--only 50-50] [--rounds 7] [--n 45000] [--out FILE.json]

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
from peers import jax_contenders, torch_contenders
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


def contenders(data, labels, hidden, batch_norm, backend, peers):
    """Name and function of each contender; a call trains one epoch."""
    standardizer = Standardizer.fit(data, "feature")
    standardised = standardizer.apply(data, np.float32)
    if backend.name == "cpu":
        yield from numpy_contenders(standardised, labels, hidden, batch_norm)
    for members in (1,) if backend.name == "cpu" else (1, 32, 256):
        network = Network(NetworkSpec(data.shape[1], hidden, CLASSES, batch_norm), backend, members=members, l2=L2)
        network.initialize(list(range(members)))
        examples = Examples(data, labels, CLASSES, standardizer, backend)
        trainer = Trainer(network, examples, SGD(), rate, batch_size=BATCH)
        yield "fastmlp" + (f", {members} members" if members > 1 else ""), trainer.run_epoch
    for make in (torch_contenders, jax_contenders) if peers else ():
        try:
            yield from make(standardised, labels, hidden, batch_norm, L2, BATCH,
                            "cpu" if backend.name == "cpu" else "cuda")
        except (ImportError, RuntimeError) as error:
            print(f"left out of {make.__name__}: {type(error).__name__}: {str(error)[:200]}")


def numpy_contenders(standardised, labels, hidden, batch_norm):
    """The products alone, and plain NumPy."""
    n, inputs = standardised.shape
    sizes = (inputs, *hidden, CLASSES)
    products = ProductsOnly(sizes, BATCH)
    plain, one_hot = PlainNetwork(sizes, batch_norm), np.eye(CLASSES, dtype=np.float32)[labels]
    rng, step = np.random.default_rng(0), 0

    def products_epoch():
        for start in range(0, n, BATCH):
            products.step(standardised[start:start + BATCH])

    def plain_epoch():
        nonlocal step
        order = rng.permutation(n)
        for start in range(0, n, BATCH):
            rows = order[start:start + BATCH]
            plain.step(standardised[rows], one_hot[rows], np.float32(rate(step)), np.float32(L2))
            step += 1

    yield "products alone", products_epoch
    yield "plain NumPy", plain_epoch


def measure(functions, rounds):
    """Seconds of every round; the contenders take turns. Round 0 warms up."""
    seconds = {name: [] for name in functions}
    for k in range(rounds + 1):
        for name, function in functions.items():
            began = time.perf_counter()
            function()
            if k > 0:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--peers", action="store_true", help="PyTorch and JAX too, where they are installed")
    parser.add_argument("--only", default="", help="one network, such as 50-50")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--n", type=int, default=45_000)
    parser.add_argument("--inputs", type=int, default=3072)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    data = rng.integers(0, 256, (args.n, args.inputs), np.uint8)
    labels = rng.integers(0, CLASSES, args.n)
    backend, rows = resolve(args.device), []
    print(f"{backend.description}; load average before {os.getloadavg()[0]:.2f}")
    print(f"{'network':12} {'contender':22} {'median s':>9} {'spread':>15} {'us/step':>9} {'fastmlp / it':>13}")
    for name, hidden in NETWORKS.items():
        for batch_norm in (False, True) if args.only in ("", name) else ():
            seconds = measure(dict(contenders(data, labels, hidden, batch_norm, backend, args.peers)), args.rounds)
            medians = {who: statistics.median(times) for who, times in seconds.items()}
            network = name + (" BN" if batch_norm else "")
            for who, times in seconds.items():
                print(f"{network:12} {who:22} {medians[who]:9.4f} {min(times):7.4f}-{max(times):.4f} "
                      f"{medians[who] / -(-args.n // BATCH) * 1e6:9.1f} {medians['fastmlp'] / medians[who]:13.2f}",
                      flush=True)
                rows.append({"network": network, "contender": who, "seconds": times})
    load = os.getloadavg()[0]
    print(f"load average after {load:.2f}" + (": the machine was busy" if load > (os.cpu_count() or 1) else ""))
    if args.out:
        args.out.write_text(json.dumps({"machine": backend.description, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
