"""Time against accuracy as a picture: a point a run, a large one the mean."""

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from pictures import COLOURS, MARKERS, plain_logarithms


def draw(rows, targets, path):
    figure = Figure(figsize=(11, 5), dpi=100, layout="constrained")
    axes = figure.subplots()
    for target in targets:
        axes.axhline(target, color="#8C8C8C", linestyle="--", linewidth=1)
        axes.annotate(f"{100 * target:g} %", (0, target), xycoords=("axes fraction", "data"), xytext=(4, 3),
                      textcoords="offset points", color="#606060")
    recipes = list(dict.fromkeys(row["contender"].rpartition(", ")[0] for row in rows))
    for row in rows:
        recipe, _, library = row["contender"].rpartition(", ")
        look = {"color": COLOURS[library], "marker": MARKERS[recipes.index(recipe)], "linestyle": "none"}
        axes.plot(row["seconds"], row["accuracy"], markersize=4, alpha=0.45, **look)
        axes.plot([row["mean_seconds"]], [row["mean_accuracy"]], markersize=11, markeredgecolor="black",
                  label=row["contender"], **look)
    axes.set_xscale("log")
    plain_logarithms(axes.xaxis)
    axes.set_xlabel("seconds from the files to the trained network")
    axes.set_ylabel("test accuracy")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=1))
    axes.grid(which="both", color="#E4E4E4")
    figure.legend(loc="outside right center", frameon=False, fontsize=9)
    figure.savefig(path)
