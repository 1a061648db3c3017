"""The corpus lies beside the tests, in `fuzz/`, as programs use it too."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))
