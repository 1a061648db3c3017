"""Growth as a picture: a panel a quantity, time to the left and memory to the right, with the fitted exponents."""

import math

from matplotlib.figure import Figure
from pictures import plain_logarithms, ticks_at

COLUMNS = 3
TIME, MEMORY = "#D55E00", "#0072B2"


def draw(rows, fits, path):
    n_rows = math.ceil(len(fits) / COLUMNS)
    figure = Figure(figsize=(14, 4.2 * n_rows), dpi=100, layout="constrained")
    panels = figure.subplots(n_rows, COLUMNS, squeeze=False).flat
    for axes, fit in zip(panels, fits, strict=False):
        _panel(axes, [row for row in rows if row["quantity"] == fit["quantity"]], fit)
    for axes in list(panels):       # those left over
        axes.set_visible(False)
    figure.savefig(path)


def _panel(axes, rows, fit):
    values = [row["value"] for row in rows]
    middle = [row["us_per_step"]["median"] for row in rows]
    spread = [[row["us_per_step"]["median"] - row["us_per_step"]["min"] for row in rows],
              [row["us_per_step"]["max"] - row["us_per_step"]["median"] for row in rows]]
    axes.errorbar(values, middle, yerr=spread, color=TIME, marker="o", capsize=2)
    axes.set_ylabel("µs a step", color=TIME)
    words = [f"time: {_exponent(fit['time'])}"]
    scales = [axes]
    if rows[0]["peak_bytes"] is not None:
        right = axes.twinx()
        right.plot(values, [row["peak_bytes"] / 2 ** 20 for row in rows], color=MEMORY, marker="s", linestyle="--")
        right.set_ylabel("peak MiB", color=MEMORY)
        words.append(f"memory: {_exponent(fit['memory'])}")
        scales.append(right)
    for scale in scales:
        scale.set_yscale("log")
        low, high = scale.get_ylim()
        middle = math.sqrt(low * high)
        scale.set_ylim(min(low, middle / 3), max(high, middle * 3))     # what hardly grows shall look so
        plain_logarithms(scale.yaxis)
    axes.set_xscale("log")
    ticks_at(axes.xaxis, values)
    axes.set_xlabel(fit["quantity"])
    axes.set_title(", ".join(words) + f"  ({fit['from']:,} to {fit['to']:,})", fontsize=10)
    axes.grid(which="both", color="#E4E4E4")


def _exponent(value):
    return "unknown" if value is None else f"exponent {value:.2f}"
