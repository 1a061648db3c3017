"""Train a network; the same as `fastmlp train`. Try `python scripts/train.py --help`."""

import sys

from fastmlp.cli import main

sys.exit(main(["train", *sys.argv[1:]]))
