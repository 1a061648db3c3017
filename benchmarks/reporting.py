"""The results of a benchmark as files: all of them as JSON, tables as Markdown, and a picture."""

import json

from pictures import draw

from fastmlp.files import write_atomically

TITLES = {"networks": "Networks", "populations": "Populations of 50-50 with batch norm",
          "widths": "Widths: two hidden layers with batch norm"}
ONE_BY_ONE = " One by one: two networks are trained, and their time is multiplied by half the members."


def write(facts, folder, name, pictures=True):
    """A race's `name`.json and `name`.md, and with `pictures` `name`.png, in the folder."""
    picture = (lambda path: draw(facts["rows"], path)) if pictures and facts["rows"] else None
    store(facts, folder, name, [*about(facts), "", *sections(facts)], picture)


def store(facts, folder, name, lines, picture=None):
    """`name`.json with the facts, `name`.md with a title and these lines, and `name`.png, which `picture` draws."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / f"{name}.json", json.dumps(facts, indent=1) + "\n")
    text = [f"# {facts['title']}, {facts['date']}", "", *lines]
    if picture:
        picture(folder / f"{name}.png")
        text += ["", f"![The same as a picture]({name}.png)"]
    write_atomically(folder / f"{name}.md", "\n".join(text) + "\n")


def about(facts):
    """What was measured, where, and whether the machine was free for it."""
    steps = sorted({row["steps"] for row in facts["rows"]} or {facts["steps"]})
    threads = "as many as it finds" if facts["threads"] is None else str(facts["threads"])
    return [f"`{facts['command']}`", "",
            f"{facts['n']:,} examples of {facts['inputs']} bytes, batch {facts['batch']}, "
            f"{' to '.join(str(end) for end in dict.fromkeys((steps[0], steps[-1])))} steps a round; median and "
            "spread of the rounds; ratio: time over that of the case's first contender. Threads of each on the CPU: "
            f"{threads}.{ONE_BY_ONE * any('one by one' in row['contender'] for row in facts['rows'])}", "",
            *where(facts)]


def where(facts):
    """The machine, the versions, and whether it was free for this."""
    machine, packages = facts["machine"], facts["machine"]["packages"]
    versions = {"Python": machine["python"], "NumPy": packages["numpy"], "scikit-learn": packages["scikit-learn"],
                "torch": facts["peers"]["torch"], "JAX": facts["peers"]["jax"], "NVIDIA driver": facts["driver"]}
    lines = [*(f"- {backend}" for backend in facts["backends"]),
             "- " + ", ".join(f"{name} {version}" for name, version in versions.items()),
             f"- commit {machine['git_commit'] or 'unknown'}",
             f"- {facts['cores']} cores, load average {facts['load_before']:.2f} before, "
             f"{facts['load_after']:.2f} after"]
    if facts["busy"]:
        lines += ["", "**The machine was busy: these times are worth little.**"]
    return lines


def sections(facts):
    """A table for each section, then what failed and what was skipped."""
    lines = []
    for section in dict.fromkeys(row["section"] for row in facts["rows"]):
        lines += [f"## {TITLES[section]}", "", *table([row for row in facts["rows"] if row["section"] == section]), ""]
    for kind, reason in (("failed", "error"), ("skipped", "why")):
        if facts[kind]:
            lines += [f"## {kind.capitalize()}", "", *left_out(facts[kind], reason), ""]
    return lines[:-1]


def left_out(entries, reason):
    """What failed or was skipped, a line for each contender and reason."""
    cases = {}
    for entry in entries:
        cases.setdefault((entry["contender"], entry[reason]), []).append(entry["case"])
    return [f"- {contender}: {why} ({', '.join(where)})" for (contender, why), where in cases.items()]


def table(rows):
    """Markdown that is readable as it is too. Populations have a column for one member's share, widths one for
    GFLOP/s of the products."""
    columns = {"case": [row["case"] for row in rows], "contender": [row["contender"] for row in rows],
               "µs a step": [_number(row["us_per_step"]["median"]) for row in rows],
               "spread": [" to ".join(_number(row["us_per_step"][end]) for end in ("min", "max")) for row in rows],
               "ratio": [f"{row['ratio']:.2f}" for row in rows], "rounds": [str(row["rounds"]) for row in rows]}
    if any(row["section"] == "populations" for row in rows):
        columns["µs a member and step"] = [_number(row["us_per_member_step"]["median"]) for row in rows]
    if any(row["section"] == "widths" for row in rows):
        columns["GFLOP/s"] = [_number(row["gflops"]) for row in rows]
    return aligned(columns, left=("case", "contender"))


def aligned(columns, left):
    """The lines of a Markdown table: columns of strings by heading, aligned to the right but for those in `left`."""
    widths = {name: max(map(len, (name, *cells))) for name, cells in columns.items()}

    def line(cells):
        return "| " + " | ".join(f"{cell:{'<' if name in left else '>'}{widths[name]}}"
                                 for name, cell in zip(columns, cells, strict=True)) + " |"

    rule = "|" + "|".join("-" * (width + 1) + ("-" if name in left else ":") for name, width in widths.items()) + "|"
    return [line(columns), rule, *map(line, zip(*columns.values(), strict=True))]


def _number(value):
    """Three digits at least, and no more than make sense."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
