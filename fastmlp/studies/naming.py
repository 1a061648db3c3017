"""What the files of a report are called, wherever they are written or linked."""

from __future__ import annotations

import re
from collections import Counter

from fastmlp.errors import DataError
from fastmlp.studies.findings import Figure, Report, Table

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")


def figure_file(figure: Figure) -> str:
    """Where a figure lies below the report's folder.

    Examples
    --------
    >>> figure_file(Figure("curves", "Loss.", svg="<svg/>"))
    'figures/curves.svg'
    """
    return f"figures/{figure.name}.{'svg' if figure.svg is not None else 'png'}"


def table_file(study: str, number: int, table: Table) -> str:
    """Where the `number`-th table of a study, from 1, lies below the report's folder.

    Examples
    --------
    >>> table_file("001-eta-grid", 1, Table("Accuracy by η (test set)", (), ()))
    'tables/001-eta-grid-1-accuracy-by-test-set.csv'
    """
    words = re.findall(r"[a-z0-9]+", table.title.lower())
    return f"tables/{'-'.join([study, str(number), *words])[:100].rstrip('-')}.csv"


def check(report: Report) -> None:
    """Raise DataError unless the report has findings, every name is fit for a file and unique, and tables are whole."""
    if not report.findings:
        raise DataError("there is nothing to report: no study has findings")
    figures = [figure for finding in report.findings for figure in finding.figures]
    for kind, names in (("study", [finding.study for finding in report.findings]),
                        ("figure", [figure.name for figure in figures])):
        for name, count in Counter(names).items():
            if not _NAME.fullmatch(name):
                raise DataError(f"{kind} {name!r} cannot name a file; use letters, digits and dashes")
            if count > 1:
                raise DataError(f"{kind} {name!r} is there {count} times; names must differ")
    for figure in figures:
        if (figure.svg is None) == (figure.png is None):
            raise DataError(f"figure {figure.name!r} must have either an SVG or a PNG picture")
    for table in (table for finding in report.findings for table in finding.tables):
        if len(set(table.columns)) < len(table.columns):
            raise DataError(f"table {table.title!r} has two columns of the same name")
        if any(len(row) != len(table.columns) for row in table.rows):
            raise DataError(f"table {table.title!r} has a row that is not as long as its {len(table.columns)} headings")
