"""The report of studies as files: one page that needs nothing else, the same in Markdown, tables and figures."""

from __future__ import annotations

from pathlib import Path

from fastmlp.errors import OutputError
from fastmlp.files import write_atomically, write_csv
from fastmlp.studies.findings import Report
from fastmlp.studies.naming import check, figure_file, table_file
from fastmlp.studies.page_html import html_page
from fastmlp.studies.page_markdown import markdown_page


def write_report(report: Report, folder: Path) -> None:
    """Write a report into a folder; `report.html`, which alone shows all of it, is written last.

    Parameters
    ----------
    report : Report
    folder : Path
        Made where it is missing. It receives `report.html`, `report.md`, a CSV file for each table and one of all
        comparisons in `tables`, and the pictures in `figures`. Files of those names are replaced.

    Raises
    ------
    DataError
        There are no findings, names are not fit for files or not unique, or a table is ragged. Nothing is written.
    OutputError
        A file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from fastmlp.studies.findings import Comparison, Finding
    >>> finding = Finding("001", "One layer", "A layer was trained.", (Comparison("loss", 1.0, 1.1, 0.1, 5, True),))
    >>> folder = Path(tempfile.mkdtemp())
    >>> write_report(Report("Studies", (("seeds", "5"),), (finding,)), folder)
    >>> sorted(path.name for path in folder.iterdir())
    ['figures', 'report.html', 'report.md', 'tables']
    """
    check(report)
    page, text = html_page(report), markdown_page(report)
    for part in (folder / "tables", folder / "figures"):
        try:
            part.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot write a report to {folder}: {error.strerror}; name another folder") from error
    for finding in report.findings:
        for number, table in enumerate(finding.tables, 1):
            columns = dict(zip(table.columns, zip(*table.rows, strict=True), strict=True)) if table.rows else (
                dict.fromkeys(table.columns, ()))
            write_csv(folder / table_file(finding.study, number, table), columns)
        for figure in finding.figures:
            write_atomically(folder / figure_file(figure), figure.svg if figure.svg is not None else figure.png or b"")
    _write_comparisons(report, folder / "tables" / "comparisons.csv")
    write_atomically(folder / "report.md", text)
    write_atomically(folder / "report.html", page)


def _write_comparisons(report: Report, path: Path) -> None:
    rows = [(finding.study, comparison) for finding in report.findings for comparison in finding.comparisons]
    write_csv(path, {
        "study": [study for study, _ in rows],
        "what": [comparison.what for _, comparison in rows],
        "reported": [comparison.reported for _, comparison in rows],
        "mean": [comparison.mean for _, comparison in rows],
        "std": [comparison.std for _, comparison in rows],
        "n": [comparison.n for _, comparison in rows],
        "within": [{True: "yes", False: "no", None: "unknown"}[comparison.lies_within] for _, comparison in rows],
        "remark": [comparison.remark for _, comparison in rows],
    })
