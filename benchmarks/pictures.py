"""The results of the epoch benchmark as a picture: a row of panels a section, logarithmic axes."""

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

# The colours of Okabe and Ito; a library's contenders share one and differ in marker and dash.
COLOURS = {"fastmlp": "#D55E00", "plain": "#000000", "scikit-learn": "#CC79A7", "PyTorch": "#0072B2", "JAX": "#009E73",
           "products": "#8C8C8C", "stacked": "#8C8C8C"}
MARKERS, DASHES = "osD^v*", ("-", "--", ":", "-.")
PANELS = {
    "networks": [("us_per_step", "µs a step")],
    "populations": [("us_per_step", "µs a step"), ("us_per_member_step", "µs a member and step")],
    "widths": [("us_per_step", "µs a step"), ("gflops", "GFLOP/s of the products")],
}
HEADINGS = {"networks": "Networks", "populations": "Populations of 50-50, batch norm: members",
            "widths": "Two hidden layers with batch norm: width"}


def draw(rows, path):
    """One picture of all sections in the rows."""
    sections = list(dict.fromkeys(row["section"] for row in rows))
    by_section = {name: [row for row in rows if row["section"] == name] for name in sections}
    heights = [max(3.0, 0.7 + 0.16 * len(by_section[name])) if name == "networks" else 5.0 for name in sections]
    figure = Figure(figsize=(13, sum(heights)), dpi=100, layout="constrained")
    parts = figure.subfigures(len(sections), 1, height_ratios=heights, squeeze=False)[:, 0]
    for part, name in zip(parts, sections, strict=True):
        part.suptitle(HEADINGS[name], fontsize=12)
        looks = _looks(by_section[name])
        panels = part.subplots(1, len(PANELS[name]), squeeze=False)[0]
        for axes, (key, label) in zip(panels, PANELS[name], strict=True):
            (_beside if name == "networks" else _along)(axes, by_section[name], key, label, looks)
        part.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=9)
    figure.savefig(path)


def _looks(rows):
    """Colour, marker and dash of each contender, library by library."""
    def kind_of(contender):
        return next((kind for kind in COLOURS if contender.startswith(kind)), "plain")

    looks, used = {}, {}
    contenders = dict.fromkeys(row["contender"] for row in rows)
    for contender in sorted(contenders, key=lambda contender: list(COLOURS).index(kind_of(contender))):
        kind = kind_of(contender)
        place = used[kind] = used.get(kind, -1) + 1
        looks[contender] = {"color": COLOURS[kind], "marker": MARKERS[place % len(MARKERS)],
                            "linestyle": DASHES[place % len(DASHES)]}
    return looks


def _beside(axes, rows, key, label, looks):
    """A band a case, in it a point with its spread a contender."""
    cases = list(dict.fromkeys(row["case"] for row in rows))
    for place, (contender, look) in enumerate(looks.items()):
        mine = [row for row in rows if row["contender"] == contender]
        heights = [cases.index(row["case"]) + 0.8 * ((place + 0.5) / len(looks) - 0.5) for row in mine]
        middle = [row[key]["median"] for row in mine]
        axes.errorbar(middle, heights, xerr=_spread(mine, key), label=contender, capsize=2,
                      **{**look, "linestyle": "none"})
    for edge in range(1, len(cases)):
        axes.axhline(edge - 0.5, color="#D0D0D0", linewidth=0.8)
    axes.set_yticks(range(len(cases)), cases)
    axes.set_ylim(len(cases) - 0.5, -0.5)
    axes.set_xscale("log")
    axes.set_xlabel(label)
    plain_logarithms(axes.xaxis)
    axes.grid(axis="x", which="both", color="#E4E4E4")


def _along(axes, rows, key, label, looks):
    """A line a contender over the members or the width."""
    where = "members" if rows[0]["section"] == "populations" else "width"
    for contender, look in looks.items():
        mine = [row for row in rows if row["contender"] == contender]
        x = [row["members"] if where == "members" else row["hidden"][0] for row in mine]
        simple = not isinstance(mine[0][key], dict)
        y = [row[key] if simple else row[key]["median"] for row in mine]
        axes.errorbar(x, y, yerr=None if simple else _spread(mine, key), label=contender, capsize=2, **look)
    axes.set_xscale("log")
    axes.set_yscale("log")
    ticks_at(axes.xaxis, sorted({row["members"] if where == "members" else row["hidden"][0] for row in rows}))
    axes.set_xlabel(where)
    axes.set_ylabel(label)
    plain_logarithms(axes.yaxis)
    axes.grid(which="both", color="#E4E4E4")


def _spread(rows, key):
    """How far the extremes lie from the medians, as matplotlib wants it."""
    return [[row[key]["median"] - row[key]["min"] for row in rows],
            [row[key]["max"] - row[key]["median"] for row in rows]]


def ticks_at(axis, values):
    """Plain numbers at these values and nowhere else."""
    axis.set_major_locator(FixedLocator(values))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(_plain))


def plain_logarithms(axis):
    """Plain numbers at the powers of ten and, where there is room, at 2 and 5 times them."""
    from matplotlib.ticker import LogLocator

    low, high = axis.get_view_interval()
    steps = (1.0, 2.0, 5.0) if high / low < 1000 else (1.0,)
    axis.set_major_locator(LogLocator(10, subs=steps, numticks=30))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(_plain))


def _plain(value, _place=None):
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"
