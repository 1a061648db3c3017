"""How long a fresh process takes to its first training step, part by part: import, preparation, first and later steps.

    python benchmarks/first_step.py [--peers]

"cold" is fastmlp with an empty cache of compiled kernels, "warm" is every later start: "kernels" is compiling or
loading them. PyTorch computes eagerly and compiles nothing. Files are in the system's memory in all cases.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

PARTS = ("import", "kernels", "preparation", "first step", "later step")
LATER_STEPS = 20
N, INPUTS, WIDTH, CLASSES, BATCH = 1000, 3072, 50, 10, 100


def start_fastmlp():
    """Seconds of each part, in this process."""
    began = time.perf_counter()
    import numpy as np

    from fastmlp import Network, NetworkSpec, Trainer, resolve
    from fastmlp.data.standardize import Standardizer
    from fastmlp.examples import Examples
    from fastmlp.optimizers import SGD
    imported = time.perf_counter()
    backend = resolve("cpu")
    compiled = time.perf_counter()
    x = np.random.default_rng(0).integers(0, 256, (N, INPUTS), np.uint8)
    examples = Examples(x, np.arange(N) % CLASSES, CLASSES, Standardizer.fit(x, "feature"), backend)
    network = Network(NetworkSpec(INPUTS, (WIDTH, WIDTH), CLASSES), backend)
    network.initialize([0])
    trainer = Trainer(network, examples, SGD(), lambda step: 0.01 + 0.0 * step, batch_size=BATCH)
    return _parts(began, imported, compiled, lambda: trainer.run_epoch(1))


def start_torch():
    began = time.perf_counter()
    import numpy as np
    import torch
    imported = time.perf_counter()
    x = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (N, INPUTS), np.uint8)).float()
    x = (x - x.mean(0)) / x.std(0, correction=0)
    labels = torch.arange(N) % CLASSES
    layers = []
    for inputs in (INPUTS, WIDTH):
        layers += [torch.nn.Linear(inputs, WIDTH, bias=False), torch.nn.BatchNorm1d(WIDTH), torch.nn.ReLU()]
    network = torch.nn.Sequential(*layers, torch.nn.Linear(WIDTH, CLASSES))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, fused=True)

    def step():
        rows = torch.randperm(N)[:BATCH]
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(network(x[rows]), labels[rows]).backward()
        optimizer.step()

    return _parts(began, imported, imported, step)


STARTS = {"fastmlp": start_fastmlp, "PyTorch": start_torch}


def _parts(began, imported, compiled, step):
    seconds = [began, imported, compiled, time.perf_counter()]
    step()
    seconds.append(time.perf_counter())
    for _ in range(LATER_STEPS):
        step()
    later = (time.perf_counter() - seconds[-1]) / LATER_STEPS
    return dict(zip(PARTS, [*(b - a for a, b in pairwise(seconds)), later], strict=True))


def measured(rounds, peers):
    """Medians of every part, by library and state, each start in a process of its own."""
    found = {name: [] for name in ("fastmlp, cold", "fastmlp, warm", *(["PyTorch"] * peers))}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as cache:
            for name, parts in found.items():       # the warm start finds what the cold one has compiled
                parts.append(in_new_process(name.partition(",")[0], cache))
    return {name: {part: statistics.median(one[part] for one in parts) for part in PARTS}
            for name, parts in found.items() if all(parts)}


def in_new_process(library, cache):
    """Seconds of each part; nothing where the library is not installed."""
    environment = {**os.environ, "XDG_CACHE_HOME": cache,
                   "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, __file__, "--only", library], capture_output=True, text=True, check=False,
                          env=environment)
    return json.loads(done.stdout) if done.returncode == 0 else {}


def table(found):
    from reporting import aligned  # here, since what it imports must be timed above

    return aligned({"": list(found), **{f"{part}, s": [f"{parts[part]:.4f}" if "step" in part else f"{parts[part]:.2f}"
                                                       for parts in found.values()] for part in PARTS}}, left=("",))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", action="store_true", help="PyTorch too, where it is installed")
    parser.add_argument("--only", choices=STARTS, help="one start in this process, told as JSON")
    args = parser.parse_args()
    if args.only:
        print(json.dumps(STARTS[args.only]()))
    else:
        print(*table(measured(args.rounds, args.peers)), sep="\n")


if __name__ == "__main__":
    main()
