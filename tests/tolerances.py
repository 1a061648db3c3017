"""How close is close enough, in one place; measured, then rounded up. The form is `tolerance * (1 + |expected|)`."""

import numpy as np

KERNEL = {"float64": 1e-13, "float32": 2e-5}    # one operation, a faster maker beside the reference in float64
GRADIENT = 1e-6                                 # relative error of a gradient element beside finite differences
PARITY = 1e-9                                   # parameters after 50 steps beside PyTorch, float64
MEMBER = {"float64": 1e-12, "float32": 1e-4}    # a member of a population beside the same network alone
STRICT = 1e-12                                  # an epoch by the reference beside one by the NumPy maker, float64


def assert_close(got, expected, tolerance, what=""):
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    assert got.shape == expected.shape, f"{what}: {got.shape} is not {expected.shape}"
    with np.errstate(invalid="ignore"):
        error = np.abs(got - expected) / (1.0 + np.abs(expected))
    worst = np.max(error, initial=0.0)          # NaN if any is
    assert worst <= tolerance, f"{what}: off by {worst:.2e}, more than {tolerance:.0e}"
