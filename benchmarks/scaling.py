"""How a step's time and the peak of memory grow with samples, inputs, width, depth, batch and members.

    python benchmarks/scaling.py [--device cpu] [--only width depth] [--out FOLDER]

Each quantity is varied alone, from a network of 64-64 with batch norm on 8,000 examples of 768 bytes; each measurement
is a process of its own. Memory is the peak of the process above what it has taken after its imports, the data included.
The exponent is the slope of the line through the upper half of the points on logarithmic axes: 1 is proportional.
"""

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import race
from contenders import fastmlp
from measuring import Machine
from problem import Case, Problem
from reporting import aligned, store, where
from scaling_pictures import draw

from fastmlp.backend import resolve
from fastmlp.errors import FastMLPError

BASE = {"samples": 8000, "inputs": 768, "width": 64, "depth": 2, "batch": 100, "members": 1}
VALUES = {
    "samples": (2000, 4000, 8000, 16_000, 32_000, 64_000), "inputs": (96, 192, 384, 768, 1536, 3072, 6144),
    "width": (16, 32, 64, 128, 256, 512, 1024), "depth": (1, 2, 4, 8, 16, 32),
    "batch": (25, 50, 100, 200, 400, 800, 1600), "members": (1, 2, 4, 8, 16, 32, 64),
}
SHORTEST_ROUND = 0.1        # seconds
WARM_UP, ROUNDS = 4, 7


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="of a GPU only the time is told")
    parser.add_argument("--threads", type=int, metavar="N", help="by default what is fastest")
    parser.add_argument("--only", nargs="+", choices=VALUES, default=list(VALUES))
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="for scaling.json, .md and .png")
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)        # a measurement, told as JSON
    args = parser.parse_args(arguments)
    if args.one:
        print(json.dumps(measured_here(args.one, args.device, args.threads)))
        return
    machine, rows = Machine([resolve(args.device, threads=args.threads)]), []
    for quantity in args.only:
        rows += [{"quantity": quantity, "value": value,
                  **in_new_process({**BASE, quantity: value}, args.device, args.threads)} for value in VALUES[quantity]]
        print(*table([row for row in rows if row["quantity"] == quantity]), "", sep="\n", flush=True)
    fits = [fit([row for row in rows if row["quantity"] == quantity]) for quantity in args.only]
    print(*table_of_fits(fits), sep="\n")
    facts = {"title": "How time and memory grow", "command": race.told(arguments), **machine.facts(), "base": BASE,
             "rows": rows, "exponents": fits}
    if args.out:
        base = ", ".join(f"{name} {value:,}" for name, value in BASE.items())
        lines = [f"`{facts['command']}`", "", f"One quantity varies, the others are: {base}.", "", *where(facts), "",
                 *table_of_fits(fits), "", *table(rows)]
        store(facts, args.out, "scaling", lines, lambda path: draw(rows, fits, path))


def in_new_process(numbers, device, threads):
    command = [sys.executable, __file__, "--device", device, "--one", json.dumps(numbers),
               *(["--threads", str(threads)] if threads else [])]
    root = str(Path(__file__).resolve().parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(f"{numbers}: {done.stderr.strip().splitlines()[-1:]}")
    return json.loads(done.stdout)


def measured_here(numbers, device, threads):
    """Microseconds a step and the peak of memory, in this process, which should have done nothing before."""
    backend = resolve(device, threads=threads)
    before = forget_peak()
    problem = Problem(numbers["samples"], numbers["inputs"], batch=numbers["batch"])
    case = Case("networks", "case", (numbers["width"],) * numbers["depth"], True, numbers["members"])
    per_round = steps_of_a_round(case, problem, backend)
    run = fastmlp(case, problem.with_steps(per_round), backend)
    for _ in range(WARM_UP):
        run()
    times = [1e6 * seconds_of(run) / min(per_round, problem.whole) for _ in range(ROUNDS)]
    return {"us_per_step": {"median": statistics.median(times), "min": min(times), "max": max(times)},
            "peak_bytes": peak() - before if device == "cpu" else None}


def steps_of_a_round(case, problem, backend):
    """So many that a round is long enough for the clock, if an epoch has as many."""
    few = fastmlp(case, problem.with_steps(2), backend)
    few()
    return max(1, math.ceil(2 * SHORTEST_ROUND / max(seconds_of(few), 1e-6)))


def seconds_of(run):
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def forget_peak():
    """Let the peak begin anew, where the system can, and tell what the process takes now."""
    with suppress(OSError):                     # then what the imports took at their peak stays
        Path("/proc/self/clear_refs").write_text("5")
    return peak()


def peak():
    """The most memory that the process has taken, in bytes."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def fit(rows):
    """The exponents of one quantity's upper half."""
    upper = rows[len(rows) // 2 if len(rows) > 3 else 0:]
    return {"quantity": rows[0]["quantity"], "from": upper[0]["value"], "to": upper[-1]["value"],
            "time": slope([(row["value"], row["us_per_step"]["median"]) for row in upper]),
            "memory": slope([(row["value"], row["peak_bytes"]) for row in upper])}


def slope(points):
    """Of the straight line through the points' logarithms, by least squares; None where something is missing."""
    if len(points) < 2 or not all(y for _, y in points):
        return None
    x, y = ([math.log(point[k]) for point in points] for k in range(2))
    return statistics.linear_regression(x, y).slope


def table_of_fits(fits):
    def number(value):
        return "" if value is None else f"{value:.2f}"

    return aligned({"quantity": [one["quantity"] for one in fits],
                    "over": [f"{one['from']:,} to {one['to']:,}" for one in fits],
                    "exponent of a step's time": [number(one["time"]) for one in fits],
                    "of peak memory": [number(one["memory"]) for one in fits]}, left=("quantity", "over"))


def table(rows):
    return aligned({
        "quantity": [row["quantity"] for row in rows], "value": [f"{row['value']:,}" for row in rows],
        "µs a step": [f"{row['us_per_step']['median']:,.0f}" for row in rows],
        "spread": [f"{row['us_per_step']['min']:,.0f} to {row['us_per_step']['max']:,.0f}" for row in rows],
        "peak MiB": ["" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 2 ** 20:,.1f}" for row in rows],
    }, left=("quantity",))


if __name__ == "__main__":
    try:
        main()
    except FastMLPError as error:
        sys.exit(f"scaling.py: {error}")
