"""Microseconds a call of each operation of `fastmlp.kernels.CONTRACT` and `CHAINS`, for 50-50 and for 256 of them.

    python benchmarks/kernels.py [--device auto] [--rounds 7] [--calls 50] [--out FOLDER]

The arguments are those of the tests, in float32; of the activations only ReLU. On a GPU there are two times: "device"
is what the GPU is busy with a call, taken by CUDA events around calls that pile up behind a long product, so that the
host is not waited for; "host" is what it takes to launch one. On a CPU there is only one.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
from measuring import Machine, in_microseconds
from reporting import aligned

from fastmlp.backend import resolve
from fastmlp.errors import FastMLPError
from fastmlp.files import write_atomically

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "kernels"))
from operations import cases, chain_cases

#: Members, examples, inputs, units, classes. The first layers of a population are one wide layer, the others batched.
SIZES = {
    "50-50, first layer": (1, 100, 3072, 50, 10),
    "50-50, second layer": (1, 100, 50, 50, 10),
    "256 members, first layer": (1, 100, 3072, 256 * 50, 10),
    "256 members, second layer": (256, 100, 50, 50, 10),
}
BLOCKER = 4096      # a product of this size keeps a large GPU busy for some 3 ms, in which many calls can be launched


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto")
    parser.add_argument("--only", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=50, help="calls a round")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="for kernels.json and kernels.md")
    args = parser.parse_args(arguments)
    if args.rounds < 1 or args.calls < 1:
        parser.error(f"--rounds {args.rounds} --calls {args.calls}: at least 1 of each")
    backend = resolve(args.device)
    machine, rows, failed = Machine([backend]), [], []
    timer = (GpuTimer if backend.name == "gpu" else CpuTimer)(backend, args.rounds, args.calls)
    print(backend.description, flush=True)
    for place in args.only:
        for case in (*cases(SIZES[place]), *(chain_cases(SIZES[place]) if "second" in place else ())):
            if case.keywords.get("kind", "relu") != "relu" or "no bias, members" in case.label:
                continue
            about = {"shapes": place, "operation": case.operation, "variant": case.label}
            try:
                rows.append({**about, **timer(case)})
            except Exception as error:      # noqa: BLE001  whatever it is, the others go on
                failed.append({**about, "error": f"{type(error).__name__}: {error}"[:300]})
        if args.out:
            write({**machine.facts(), "sizes": SIZES, "rows": rows, "failed": failed}, args.out)
        print(*table([row for row in rows if row["shapes"] == place]), "", sep="\n", flush=True)
    for one in failed:
        print(f"failed: {one['shapes']}, {one['operation']} ({one['variant']}): {one['error']}")


def table(rows):
    """Markdown: one line an operation and variant."""
    columns = {"shapes": [row["shapes"] for row in rows], "operation": [row["operation"] for row in rows],
               "variant": [row["variant"] for row in rows]}
    for clock in ("device", "host"):
        times = [row.get(f"{clock}_us") for row in rows]
        if any(times):
            columns[f"{clock} µs"] = [f"{time['median']:.2f}" if time else "" for time in times]
            columns[f"{clock} spread"] = [f"{time['min']:.2f} to {time['max']:.2f}" if time else "" for time in times]
    return aligned(columns, left=("shapes", "operation", "variant"))


def write(facts, folder):
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "kernels.json", json.dumps(facts, indent=1) + "\n")
    lines = [f"# Microseconds a call, {facts['date']}", "", *facts["backends"], "", *table(facts["rows"])]
    write_atomically(folder / "kernels.md", "\n".join(lines) + "\n")


def in_float32(value):
    return value.astype(np.float32) if value.dtype == np.float64 else value


class CpuTimer:
    """Times every call on its own, after putting back what the last one has destroyed or updated."""

    def __init__(self, backend, rounds, calls):
        self.backend, self.rounds, self.calls = backend, rounds, calls

    def __call__(self, case):
        function = getattr(self.backend.kernels, case.operation)
        arguments = case.fresh_arguments(in_float32)
        changing = {name: arguments[name].copy() for name in (*case.updates, *case.destroyed)
                    if arguments[name] is not None}
        medians = []
        for k in range(self.rounds + 1):
            seconds = []
            for _ in range(self.calls):
                for name, value in changing.items():
                    arguments[name][...] = value
                began = time.perf_counter()
                function(*arguments.values(), **case.keywords)
                seconds.append(time.perf_counter() - began)
            if k > 0:                               # round 0 warms up
                medians.append(sorted(seconds)[len(seconds) // 2])
        return {"host_us": in_microseconds(medians, 1)}


class GpuTimer:
    """Times many calls together; numbers that grow out of bounds on the way cost a GPU no time."""

    def __init__(self, backend, rounds, calls):
        self.backend, self.rounds, self.calls = backend, rounds, calls
        xp = backend.xp
        self.blocker = [xp.zeros((BLOCKER, BLOCKER), dtype=xp.float32) for _ in range(3)]

    def __call__(self, case):
        backend, cuda = self.backend, self.backend.xp.cuda
        function = getattr(backend.kernels, case.operation)
        arguments = case.fresh_arguments(lambda value: backend.asarray(in_float32(value)), backend.xp).values()
        function(*arguments, **case.keywords)       # compiles
        on_device, on_host = [], []
        for k in range(self.rounds + 1):
            start, end = cuda.Event(), cuda.Event()
            backend.synchronize()
            backend.xp.matmul(self.blocker[0], self.blocker[1], out=self.blocker[2])
            start.record()
            began = time.perf_counter()
            for _ in range(self.calls):
                function(*arguments, **case.keywords)
            launched = time.perf_counter() - began
            end.record()
            end.synchronize()
            if k > 0:                               # round 0 warms up
                on_device.append(cuda.get_elapsed_time(start, end) / 1e3)
                on_host.append(launched)
        return {"device_us": in_microseconds(on_device, self.calls), "host_us": in_microseconds(on_host, self.calls)}


if __name__ == "__main__":
    try:
        main()
    except FastMLPError as error:
        sys.exit(f"kernels.py: {error}")
