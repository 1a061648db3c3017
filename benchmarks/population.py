"""Many networks of 50-50 with batch norm: what one of them costs a step when 1, 2, 4, ... 256 are trained at once.

    python benchmarks/population.py [--members 1 2 4 ...] [--device auto] [--peers] [--out FOLDER]

The contenders are those of `epoch.py --section populations` and alternate as they do there. The more members, the fewer
steps a round, so that each case takes about as long.
"""

import argparse
import sys

import race
from problem import population

from fastmlp.errors import FastMLPError

MEMBERS = tuple(2 ** k for k in range(9))
MEMBER_STEPS, FEWEST_STEPS, MOST_STEPS = 512, 6, 100


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--members", nargs="+", type=int, default=list(MEMBERS), metavar="K")
    race.add_options(parser)
    args = parser.parse_args(arguments)
    race.check_options(parser, args)
    if min(args.members) < 1:
        parser.error(f"--members {min(args.members)}: at least 1")
    cases = [population(members, max(FEWEST_STEPS, min(MOST_STEPS, MEMBER_STEPS // members)))
             for members in sorted(args.members)]
    race.run(cases, args, "population", "Populations: a member's share of a step", race.told(arguments))


if __name__ == "__main__":
    try:
        main()
    except FastMLPError as error:
        sys.exit(f"population.py: {error}")
