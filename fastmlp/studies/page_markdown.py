"""A report as Markdown: the same facts as on the page, pictures and tables beside it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import count

from fastmlp.studies.findings import FAILS, HOLDS, UNDECIDED, Comparison, Finding, Report
from fastmlp.studies.naming import figure_file, table_file
from fastmlp.studies.reading import SPREAD_IN_WORDS, WITHIN_IN_WORDS, ours, read


def markdown_page(report: Report) -> str:
    r"""The report as Markdown with GitHub's tables; it refers to files in `figures` and `tables`.

    Examples
    --------
    >>> print(markdown_page(Report("Studies", (("seeds", "5"),), (Finding("001", "One_layer", "It was trained."),))))
    # Studies
    <BLANKLINE>
    - seeds: 5
    <BLANKLINE>
    ## In short
    <BLANKLINE>
    Nothing was compared and nothing claimed.
    <BLANKLINE>
    ## 001: One\_layer
    <BLANKLINE>
    It was trained.
    <BLANKLINE>
    """
    figures, tables = count(1), count(1)
    blocks = [f"# {_text(report.title)}",
              _listed(f"{_text(name)}: {_text(value)}" for name, value in report.circumstances),
              "## In short", *_reading(report)]
    for finding in report.findings:
        blocks += _study(finding, figures, tables)
    return "\n\n".join(block for block in blocks if block) + "\n"


def _reading(report: Report) -> Iterator[str]:
    reading = read(report)
    yield _text(" ".join(reading.sentences()))
    if reading.within or reading.outside:
        yield _text(SPREAD_IN_WORDS)
    for heading, compared in reading.figures_to_explain():
        yield f"### {heading}"
        yield _listed(f"{_text(study)}, {_text(comparison.what)}: reported {comparison.reported:g}, ours "
                      f"{_text(ours(comparison))}. {_text(comparison.remark)}".rstrip()
                      for study, comparison in compared)
    for heading, verdict in (("Claims that do not hold", FAILS), ("Claims not decided", UNDECIDED),
                             ("Claims that hold", HOLDS)):
        if claims := reading.claims[verdict]:
            yield f"### {heading}"
            yield _listed(f"{_text(study)}: {_text(claim.text)}" for study, claim in claims)


def _study(finding: Finding, figures: Iterator[int], tables: Iterator[int]) -> Iterator[str]:
    yield f"## {_text(finding.study)}: {_text(finding.title)}"
    yield _text(finding.asked)
    if finding.comparisons:
        yield "### Reported figures and ours"
        yield _table(("what", "reported", "ours", "within our spread?", "remark"),
                     [_compared(comparison) for comparison in finding.comparisons])
    if finding.claims:
        yield "### Claims"
        yield _listed(f"{_text(claim.text)} **{_text(claim.verdict)}**: {_text(claim.evidence)}"
                      for claim in finding.claims)
    for number, table in enumerate(finding.tables, 1):
        yield f"### Table {next(tables)}: {_text(table.title)}"
        yield _table(table.columns, table.rows)
        yield f"[As CSV]({table_file(finding.study, number, table)})"
    for figure in finding.figures:
        yield f"![{_text(figure.caption)}]({figure_file(figure)})"
        yield f"*Figure {next(figures)}.* {_text(figure.caption)}"
    if finding.notes:
        yield "### Notes"
        yield _listed(_text(note) for note in finding.notes)


def _compared(comparison: Comparison) -> tuple[str, ...]:
    return (comparison.what, f"{comparison.reported:g}", ours(comparison), WITHIN_IN_WORDS[comparison.lies_within],
            comparison.remark)


def _listed(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head, *body = ([_text(cell) for cell in line] for line in (columns, *rows))
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(columns), *body))


def _text(text: str) -> str:
    """Text in which nothing means anything to Markdown."""
    escaped = re.sub(r"([\\`*_\[\]<>|&~$])", r"\\\1", " ".join(text.split()))
    listed = re.match(r"(\d*)([#+.)-]+)(\s|$)", escaped)           # would begin a heading or a list
    return f"{listed[1]}\\{escaped[listed.end(1):]}" if listed else escaped
