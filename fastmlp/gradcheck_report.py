"""Showing gradient checks: a table for people, a table and a file for a report, box plots."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fastmlp.files import write_atomically, write_csv
from fastmlp.gradcheck import BAR, GradientCheck, TensorCheck, check_gradients
from fastmlp.layout import NetworkSpec
from fastmlp.plots import plot_gradient_errors
from fastmlp.run_folders import make_run_folder

KINDS = ("w", "b", "gamma", "beta")


def run_gradcheck(*, hidden: Sequence[int] = (50, 30), batch_norm: bool = True, activation: str = "relu",
                  loss: str = "cross-entropy", init: str = "he", l2: float = 0.0, dropout: float = 0.0,
                  label_smoothing: float = 0.0, dim: int = 20, classes: int = 10, n: int = 20,
                  seed: int = 0) -> GradientCheck:
    """Check the network that these options describe; see `NetworkSpec` and `check_gradients`.

    Examples
    --------
    >>> run_gradcheck(hidden=(4,), dim=3, classes=2).passed()
    True
    """
    spec = NetworkSpec(dim, tuple(hidden), classes, batch_norm, activation, loss)
    return check_gradients(spec, n=n, l2=l2, dropout=dropout, label_smoothing=label_smoothing, seed=seed, init=init)


def table(check: GradientCheck) -> str:
    """The check as text: a line of verdict, then one a tensor.

    Examples
    --------
    >>> print(table(check_gradients(NetworkSpec(4, (), 2))).splitlines()[1])
    layer  tensor   max rel. error   median   max abs. diff.   elements   skipped
    """
    lines = [
        f"{check.title}: {verdict(check)}",
        "layer  tensor   max rel. error   median   max abs. diff.   elements   skipped",
    ]
    for t in check.tensors:
        worst, median, difference = _summary(t)
        lines.append(f"{t.layer:5d}  {t.name:6s}   {worst:14.1e}   {median:6.0e}   {difference:15.1e}   "
                     f"{t.numeric.size:8d}   {t.skipped:7d}")
    return "\n".join(lines)


def verdict(check: GradientCheck) -> str:
    """Passed or not, and why."""
    passed = "passed" if check.passed() else "FAILED"
    skipped = f", {check.skipped} of {check.elements} skipped at kinks" if check.skipped else ""
    return f"{passed}, worst relative error {check.worst:.1e} (bar {BAR:.0e}){skipped}"


def write_report(checks: Sequence[GradientCheck], out: str | Path) -> None:
    """Write `gradcheck.csv` (a row a tensor), `gradcheck.md` (a row a layer) and a box plot a check.

    Parameters
    ----------
    checks : sequence of GradientCheck
    out : str or Path
        The folder, made where it is missing.

    Raises
    ------
    OutputError
        Something cannot be written, or the folder holds a finished run.
    """
    folder = make_run_folder(out)
    rows = [
        (check.title, t.layer, t.name, *_summary(t), t.numeric.size, t.skipped)
        for check in checks for t in check.tensors
    ]
    names = ("network", "layer", "tensor", "max_relative_error", "median_relative_error", "max_absolute_difference",
             "elements", "skipped")
    write_csv(folder / "gradcheck.csv", dict(zip(names, zip(*rows, strict=True), strict=True)))
    write_atomically(folder / "gradcheck.md", "\n".join(_markdown(check) for check in checks))
    for number, check in enumerate(checks, start=1):
        errors = {t.name: t.relative_errors for t in check.tensors}
        plot_gradient_errors(errors, folder / f"gradient-errors-{number}.png", check.title)


def _markdown(check: GradientCheck) -> str:
    """The largest relative error by layer and kind of tensor."""
    cells = {(t.layer, t.kind): f"{_summary(t)[0]:.1e}" for t in check.tensors}
    lines = [f"## {check.title}", "", f"{verdict(check)}. Largest relative error of each tensor:", "",
             "| layer | W | b | gamma | beta |", "|---|---|---|---|---|"]
    rows = [[str(layer), *(cells.get((layer, kind), "") for kind in KINDS)]
            for layer in range(1, check.spec.n_layers + 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows), ""])


def _summary(tensor: TensorCheck) -> tuple[float, float, float]:
    """Largest and median relative error, largest absolute difference; NaN where every element was skipped."""
    errors, differences = tensor.relative_errors, tensor.absolute_differences
    if not errors.size:
        return (float("nan"),) * 3
    return float(errors.max()), float(np.median(errors)), float(differences.max())
