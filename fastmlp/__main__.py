"""`python -m fastmlp` is the same as `fastmlp`."""

import sys

from fastmlp.cli import main

sys.exit(main())
