"""The throughput of an epoch: fastmlp beside plain NumPy, the matrix products alone, PyTorch and JAX.

    python benchmarks/epoch.py [--section networks populations widths] [--device auto] [--peers] [--out FOLDER]

All contenders train the same networks from the same weights on the same random bytes (the time does not depend on the
content): batch 100, float32, a fresh order every epoch, the batch gathered, forward, backward, update. fastmlp keeps
bytes and standardises them batch by batch; the others have the data standardised beforehand. They alternate within one
run, after three rounds in which they compile, record and warm up; what counts is the ratio of medians, since machines
drift. On a CPU take `--steps 20` or so for populations and widths: times are given per step.
"""

import argparse
import sys
from pathlib import Path

from contenders import makers
from measuring import Clock, Machine, Results, in_microseconds, measure
from problem import SECTIONS, Problem
from reporting import sections, table, write

from fastmlp.backend import resolve
from fastmlp.errors import DeviceError, FastMLPError

FEWEST_ROUNDS = 5
FEWEST_EXAMPLES = 100       # a batch


def main(arguments=None):
    args = parse(arguments)
    backends = present(args.device)
    machine, problem, results = Machine(backends), Problem(args.n, args.inputs, args.steps), Results()
    print(*machine.backends, sep="\n", flush=True)
    cases = [case for section in args.section for case in SECTIONS[section] if wanted(case, args.only)]
    clock = Clock(args.budget)

    def report(pictures):
        facts = {"command": " ".join(sys.argv[1:] if arguments is None else arguments), **machine.facts(),
                 "n": args.n, "inputs": args.inputs, "batch": problem.batch, "steps": problem.steps, **vars(results)}
        if args.out:
            write(facts, args.out, "epoch", pictures)
        return facts

    try:
        for k, case in enumerate(cases):
            found = makers(case, problem, backends, args.peers)
            seconds = measure(case, found, args.rounds, clock.share(len(cases) - k), results)
            new = rows(case, problem, seconds)
            results.rows += new
            print(*table(new), sep="\n", flush=True)
            report(pictures=False)          # whoever stops this has what was measured until then
    finally:
        facts = report(pictures=True)
    print("", *sections({**facts, "rows": []}), sep="\n")        # what failed and what was skipped
    busy = ": the machine was busy" if facts["busy"] else ""
    print(f"load average {facts['load_before']:.2f} before, {facts['load_after']:.2f} after{busy}")


def rows(case, problem, seconds):
    """One row a contender; the first is the one that the others are compared with."""
    found = []
    for name, times in seconds.items():
        per_step = in_microseconds(times, problem.steps)
        found.append({
            "section": case.section, "case": case.name, "contender": name, "hidden": list(case.hidden),
            "batch_norm": case.batch_norm, "members": case.members, "steps": problem.steps, "rounds": len(times),
            "seconds": times, "us_per_step": per_step,
            "us_per_member_step": {key: value / case.members for key, value in per_step.items()},
            "gflops": problem.flops(case) / per_step["median"] / 1e3,
            "ratio": per_step["median"] / found[0]["us_per_step"]["median"] if found else 1.0,
            "compared_with": next(iter(seconds)),
        })
    return found


def present(device):
    """The backends to measure: with "auto" every one that is there."""
    if device != "auto":
        return [resolve(device)]
    try:
        return [resolve("cpu"), resolve("gpu")]
    except DeviceError as reason:
        print(reason)
        return [resolve("cpu")]


def wanted(case, only):
    """Whether a case is asked for, by its name or the name's first word: "50-50" means that with batch norm too."""
    return not only or case.name in only or case.name.split()[0] in only


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--section", nargs="+", choices=SECTIONS, default=["networks"])
    parser.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto",
                        help="auto measures every backend that is there")
    parser.add_argument("--peers", action="store_true", help="PyTorch and JAX too, where they are installed")
    parser.add_argument("--only", nargs="+", default=[], metavar="CASE", help="such as 50-50, '50-50 BN', 8 or 128-128")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--few-rounds", action="store_true", help=f"allow fewer than {FEWEST_ROUNDS} rounds: a trial")
    parser.add_argument("--n", type=int, default=45_000, help="examples")
    parser.add_argument("--inputs", type=int, default=3072)
    parser.add_argument("--steps", type=int, help="so many steps of an epoch only")
    parser.add_argument("--budget", type=float, metavar="SECONDS", help="what has not begun by then is skipped")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="for epoch.json, epoch.md and epoch.png")
    args = parser.parse_args(arguments)
    if args.rounds < (1 if args.few_rounds else FEWEST_ROUNDS):
        parser.error(f"{args.rounds} rounds tell nothing of the spread: take at least {FEWEST_ROUNDS}")
    if args.n < FEWEST_EXAMPLES or args.inputs < 1 or (args.steps is not None and args.steps < 1):
        parser.error(f"--n {args.n} --inputs {args.inputs} --steps {args.steps}: at least "
                     f"{FEWEST_EXAMPLES} examples, 1 input, 1 step")
    known = [case for section in args.section for case in SECTIONS[section]]
    if not any(wanted(case, args.only) for case in known):
        parser.error(f"--only {' '.join(args.only)}: take some of {', '.join(case.name for case in known)}")
    return args


if __name__ == "__main__":
    try:
        main()
    except FastMLPError as error:
        sys.exit(f"epoch.py: {error}")
