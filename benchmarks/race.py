"""What the benchmarks of training share: their options, the backends, and one case after the other into a report."""

import os
import sys
from pathlib import Path

from contenders import COMPILED, CUPY, NUMPY, makers
from measuring import Clock, Machine, Results, in_microseconds, measure
from problem import Problem
from reporting import sections, table, write

from fastmlp.backend import resolve
from fastmlp.cpu import blas_threads
from fastmlp.errors import DeviceError

FEWEST_ROUNDS = 5
FEWEST_EXAMPLES = 100       # a batch


def add_options(parser):
    """Those of every race; see `check_options`."""
    parser.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto",
                        help="auto measures every backend that is there")
    parser.add_argument("--threads", type=int, metavar="N",
                        help="of every contender on the CPU; by default each takes what it finds")
    parser.add_argument("--peers", action="store_true", help="scikit-learn, PyTorch and JAX too, where installed")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--few-rounds", action="store_true", help=f"allow fewer than {FEWEST_ROUNDS} rounds: a trial")
    parser.add_argument("--n", type=int, default=45_000, help="examples")
    parser.add_argument("--inputs", type=int, default=3072)
    parser.add_argument("--steps", type=int, help="so many steps of an epoch only")
    parser.add_argument("--budget", type=float, metavar="SECONDS", help="what has not begun by then is skipped")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="for a .json, .md and .png")


def check_options(parser, args):
    if args.rounds < (1 if args.few_rounds else FEWEST_ROUNDS):
        parser.error(f"{args.rounds} rounds tell nothing of the spread: take at least {FEWEST_ROUNDS}")
    if args.n < FEWEST_EXAMPLES or args.inputs < 1 or (args.steps is not None and args.steps < 1):
        parser.error(f"--n {args.n} --inputs {args.inputs} --steps {args.steps}: at least "
                     f"{FEWEST_EXAMPLES} examples, 1 input, 1 step")
    if args.threads is not None and args.threads < 1:
        parser.error(f"--threads {args.threads}: at least 1")


def run(cases, args, name, title, command):
    """Measure all cases and tell of them; the facts, which with --out lie in `name`.json, .md and .png, too."""
    with same_threads(args.threads):
        results = Results()
        backends = present(args.device, args.threads, results)
        machine, problem = Machine(backends.values()), Problem(args.n, args.inputs, args.steps)
        print(*machine.backends, sep="\n", flush=True)
        clock = Clock(args.budget)

        def report(pictures):
            facts = {"title": title, "command": command, **machine.facts(), "threads": args.threads, "n": args.n,
                     "inputs": args.inputs, "batch": problem.batch, "steps": problem.steps, **vars(results)}
            if args.out:
                write(facts, args.out, name, pictures)
            return facts

        try:
            for k, case in enumerate(cases):
                shorter = problem.with_steps(min(problem.steps, case.steps or problem.steps))
                found = makers(case, shorter, backends, args.peers)
                seconds = measure(case, found, args.rounds, clock.share(len(cases) - k), results)
                new = rows(case, shorter, seconds)
                results.rows += new
                print(*table(new), sep="\n", flush=True)
                report(pictures=False)      # whoever stops this has what was measured until then
        finally:
            facts = report(pictures=True)
    print("", *sections({**facts, "rows": []}), sep="\n")        # what failed and what was skipped
    print(load(facts))
    return facts


def load(facts):
    """How busy the machine was, in words."""
    busy = ": the machine was busy" if facts["busy"] else ""
    return f"load average {facts['load_before']:.2f} before, {facts['load_after']:.2f} after{busy}"


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


def same_threads(threads):
    """Give every library on the CPU as many threads; to be entered before the first of them computes.

    NumPy's BLAS (and with it scikit-learn) is limited by threadpoolctl, and PyTorch set to as many threads as that has;
    JAX reads an environment variable when it starts. fastmlp is told by `resolve`.
    """
    if threads is not None:
        os.environ["PJRT_NPROC"] = str(threads)
    return blas_threads(threads)


def present(device, threads, results):
    """The backends to measure, by what fastmlp on them is called; the fastest first. What is missing is said.

    With "auto" those of every device that is there.
    """
    wanted = {CUPY: {"device": "gpu"}, COMPILED: {"device": "cpu", "kernels": "compiled", "threads": threads},
              NUMPY: {"device": "cpu", "kernels": "numpy", "threads": threads}}
    found = {}
    for name, where in wanted.items():
        if device not in ("auto", where["device"]):
            continue
        try:
            found[name] = resolve(**where)
        except DeviceError as reason:
            if device == "gpu":
                raise
            print(f"{name} is left out: {reason}")
            if name == COMPILED:
                results.leave_out(name, reason)
    return found


def told(arguments):
    """The options of a command, for its report."""
    return " ".join(sys.argv[1:] if arguments is None else arguments)
