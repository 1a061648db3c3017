"""The throughput of an epoch: fastmlp beside plain NumPy, the matrix products alone, scikit-learn, PyTorch and JAX.

    python benchmarks/epoch.py [--section networks populations widths] [--device auto] [--peers] [--out FOLDER]

All contenders train the same networks from the same weights on the same random bytes (the time does not depend on the
content): batch 100, float32, a fresh order every epoch, the batch gathered, forward, backward, update. fastmlp keeps
bytes and standardises them batch by batch; the others have the data standardised beforehand. They alternate within one
run, after three rounds in which they compile, record and warm up; what counts is the ratio of medians, since machines
drift. On a CPU take `--steps 20` or so for populations and widths: times are given per step.
"""

import argparse
import sys

import race
from problem import SECTIONS

from fastmlp.errors import FastMLPError


def main(arguments=None):
    args = parse(arguments)
    cases = [case for section in args.section for case in SECTIONS[section] if wanted(case, args.only)]
    race.run(cases, args, "epoch", "Throughput of an epoch", race.told(arguments))


def wanted(case, only):
    """Whether a case is asked for, by its name or the name's first word: "50-50" means that with batch norm too."""
    return not only or case.name in only or case.name.split()[0] in only


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--section", nargs="+", choices=SECTIONS, default=["networks"])
    parser.add_argument("--only", nargs="+", default=[], metavar="CASE", help="such as 50-50, '50-50 BN', 8 or 128-128")
    race.add_options(parser)
    args = parser.parse_args(arguments)
    race.check_options(parser, args)
    known = [case for section in args.section for case in SECTIONS[section]]
    if not any(wanted(case, args.only) for case in known):
        parser.error(f"--only {' '.join(args.only)}: take some of {', '.join(case.name for case in known)}")
    return args


if __name__ == "__main__":
    try:
        main()
    except FastMLPError as error:
        sys.exit(f"epoch.py: {error}")
