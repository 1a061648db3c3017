"""A report as one page of HTML that needs nothing else: no network, no script, no font.

Pictures are embedded as `<img>` with data URIs, SVG too: what an image holds can neither run nor collide with the ids
of another picture, as those of Matplotlib's clip paths and letters would if they stood in the page itself.
"""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Iterable, Iterator
from html import escape
from itertools import count
from pathlib import Path

from fastmlp.studies.findings import FAILS, HOLDS, UNDECIDED, Claim, Comparison, Figure, Finding, Report, Table
from fastmlp.studies.naming import table_file
from fastmlp.studies.reading import SPREAD_IN_WORDS, WITHIN_IN_WORDS, ours, read, spread

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
#: Class of a badge and its sign, which tells it apart without colours.
_BADGES = {HOLDS: ("yes", "✓"), FAILS: ("no", "✗"), UNDECIDED: ("open", "?"),
           True: ("yes", "✓"), False: ("no", "✗"), None: ("open", "?")}
_NUMBER = re.compile(r"(?!\d+-\d)[+\-\N{MINUS SIGN}]?(\d|\.\d|nan|inf)|[-\N{EN DASH}\N{EM DASH}]?$")
_LONG = 30      # rows from which a table scrolls in its own box on a screen
_LINE = 70      # letters from which a circumstance has a line of its own


def html_page(report: Report) -> str:
    """The whole page.

    Examples
    --------
    >>> html_page(Report("Studies", (), (Finding("001", "One < two", "It was trained."),)))[:15]
    '<!doctype html>'
    """
    figures, tables = count(1), count(1)
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    return "\n".join([
        "<!doctype html>",
        '<html lang="en-GB">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f"<title>{escape(report.title)}</title>",
        '<link rel="icon" href="data:,">',
        f"<style>\n{style}</style>",
        "</head>",
        "<body>",
        "<header>",
        f"<h1>{escape(report.title)}</h1>",
        *_circumstances(report.circumstances),
        "</header>",
        "<main>",
        *_reading(report),
        *_contents(report),
        *(line for finding in report.findings for line in _study(finding, figures, tables)),
        "</main>",
        "</body>",
        "</html>",
        "",
    ])


def _circumstances(circumstances: Iterable[tuple[str, str]]) -> Iterator[str]:
    yield '<dl class="circumstances">'
    for name, value in circumstances:
        width = ' class="long"' if len(value) > _LINE else ""
        yield f"<div{width}><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
    yield "</dl>"


def _reading(report: Report) -> Iterator[str]:
    reading = read(report)
    yield '<section id="reading" aria-labelledby="reading-heading">'
    yield '<h2 id="reading-heading">In short</h2>'
    yield from (f'<p class="lead">{escape(sentence)}</p>' for sentence in reading.sentences())
    if reading.within or reading.outside:
        yield f'<p class="small">{escape(SPREAD_IN_WORDS)}</p>'
    for heading, compared in reading.figures_to_explain():
        yield from _listed(heading, (
            f"{_link(study)} {escape(comparison.what)}: reported {comparison.reported:g}, ours "
            f"{escape(ours(comparison))}. {escape(comparison.remark)}" for study, comparison in compared))
    for heading, verdict in (("Claims that do not hold", FAILS), ("Claims not decided", UNDECIDED),
                             ("Claims that hold", HOLDS)):
        if claims := reading.claims[verdict]:
            yield from _listed(heading, (f"{_link(study)} {escape(claim.text)}" for study, claim in claims))
    yield "</section>"


def _listed(heading: str, items: Iterable[str]) -> Iterator[str]:
    yield f"<h3>{escape(heading)}</h3>"
    yield "<ul>"
    yield from (f"<li>{item}</li>" for item in items)
    yield "</ul>"


def _link(study: str) -> str:
    return f'<a class="study" href="#study-{study}">{study}</a>'


def _contents(report: Report) -> Iterator[str]:
    yield '<nav aria-labelledby="contents-heading">'
    yield '<h2 id="contents-heading">Contents</h2>'
    yield "<ol>"
    for finding in report.findings:
        yield (f'<li><a href="#study-{finding.study}">{escape(finding.title)}</a> '
               f'<span class="small">{finding.study}</span></li>')
    yield "</ol>"
    yield "</nav>"


def _study(finding: Finding, figures: Iterator[int], tables: Iterator[int]) -> Iterator[str]:
    yield f'<section class="study" id="study-{finding.study}" aria-labelledby="heading-{finding.study}">'
    yield f'<p class="name">{finding.study}</p>'
    yield f'<h2 id="heading-{finding.study}">{escape(finding.title)}</h2>'
    yield f"<p>{escape(finding.asked)}</p>"
    if finding.comparisons:
        yield "<h3>Reported figures and ours</h3>"
        yield from _comparisons(finding.comparisons)
    if finding.claims:
        yield "<h3>Claims</h3>"
        yield '<ul class="claims">'
        yield from (_claim(claim) for claim in finding.claims)
        yield "</ul>"
    for place, table in enumerate(finding.tables, 1):
        yield from _table(table, next(tables), table_file(finding.study, place, table))
    for figure in finding.figures:
        yield from _figure(figure, next(figures))
    if finding.notes:
        yield '<div class="notes">'
        yield from _listed("Notes", (escape(note) for note in finding.notes))
        yield "</div>"
    yield "</section>"


def _comparisons(comparisons: Iterable[Comparison]) -> Iterator[str]:
    # A telephone shows each row as a block; the roles say that it is still a table.
    yield '<table class="comparisons" role="table">'
    yield '<thead role="rowgroup"><tr role="row">'
    for word in ("What", "Reported", "Ours: mean ± std", "In our spread", "Within?"):
        yield f'<th role="columnheader" scope="col">{word}</th>'
    yield '</tr></thead>\n<tbody role="rowgroup">'
    for comparison in comparisons:
        remark = f' <span class="remark">{escape(comparison.remark)}</span>' if comparison.remark else ""
        yield '<tr role="row">'
        yield f'<th role="rowheader" scope="row">{escape(comparison.what)}{remark}</th>'
        yield f'<td role="cell" class="n" data-label="reported">{comparison.reported:g}</td>'
        yield f'<td role="cell" class="n" data-label="ours">{escape(ours(comparison))}</td>'
        yield f'<td role="cell" class="strip">{_strip(comparison)}</td>'
        within = comparison.lies_within
        yield f'<td role="cell" class="verdict">{_badge(within, WITHIN_IN_WORDS[within])}</td>'
        yield "</tr>"
    yield "</tbody>\n</table>"


def _strip(comparison: Comparison) -> str:
    """Our spread as a bar of fixed width around our mean, ± std thicker, and the reported figure as a diamond."""
    if (interval := spread(comparison)) is None or comparison.mean is None or comparison.std is None:
        return '<span class="small">no spread</span>'
    half = (interval[1] - interval[0]) / 2
    away = (comparison.reported - comparison.mean) / half       # in spreads: -1 to 1 is within
    thick = 30 * comparison.std / half
    at = 66 + 30 * max(-1.9, min(1.9, away))
    beyond = "" if abs(away) <= 1.9 else (
        f'<path class="beyond" d="M{at + (6 if away > 0 else -6):.1f} 7 l{4 if away > 0 else -4} 4 '
        f'l{-4 if away > 0 else 4} 4"/>')
    words = (f"reported {comparison.reported:g}; our spread reaches from {interval[0]:.4g} to {interval[1]:.4g}")
    return (f'<svg viewBox="0 0 132 22" width="132" height="22" role="img" aria-label="{escape(words)}">'
            f"<title>{escape(words)}</title>"
            f'<path class="axis" d="M2 11H130"/><path class="spread" d="M36 11H96"/>'
            f'<path class="std" d="M{66 - thick:.1f} 11H{66 + thick:.1f}"/><path class="mean" d="M66 5V17"/>'
            f'<path class="reported {_BADGES[comparison.lies_within][0]}" d="M{at:.1f} 6l5 5-5 5-5-5z"/>{beyond}</svg>')


def _badge(verdict: str | bool | None, words: str) -> str:
    kind, sign = _BADGES[verdict]
    return f'<span class="badge {kind}"><span aria-hidden="true">{sign}</span> {escape(words)}</span>'


def _claim(claim: Claim) -> str:
    return (f"<li>{_badge(claim.verdict, claim.verdict)} <div><p>{escape(claim.text)}</p>"
            f'<p class="evidence">{escape(claim.evidence)}</p></div></li>')


def _table(table: Table, number: int, path: str) -> Iterator[str]:
    numeric = [all(_NUMBER.match(row[column]) for row in table.rows) for column in range(len(table.columns))]
    kinds = [' class="n"' if is_number else "" for is_number in numeric]
    label = f"table-{number}"
    yield '<figure class="table">'
    yield (f'<figcaption id="{label}"><b>Table {number}.</b> {escape(table.title)} '
           f'<a class="small" href="{path}">CSV</a></figcaption>')
    box = "scroll long" if len(table.rows) > _LONG else "scroll"
    yield f'<div class="{box}" tabindex="0" role="region" aria-labelledby="{label}"><table aria-labelledby="{label}">'
    heads = (f'<th scope="col"{kind}>{escape(column)}</th>' for column, kind in zip(table.columns, kinds, strict=True))
    yield f"<thead><tr>{''.join(heads)}</tr></thead>"
    yield "<tbody>"
    for row in table.rows:
        yield f"<tr>{''.join(f'<td{kind}>{escape(cell)}</td>' for cell, kind in zip(row, kinds, strict=True))}</tr>"
    yield "</tbody></table></div>"
    yield "</figure>"


def _figure(figure: Figure, number: int) -> Iterator[str]:
    if figure.svg is not None:
        kind, data = "svg+xml", figure.svg.encode()
        length = re.search(r'<svg[^>]*viewBox="0 0 ([\d.]+) ([\d.]+)"', figure.svg)
        size = "" if length is None else (          # in pixels, of which 4 are 3 points
            f' width="{float(length[1]) * 4 / 3:.0f}" height="{float(length[2]) * 4 / 3:.0f}"')
    else:
        kind, data = "png", figure.png or b""
        size = ' width="{}" height="{}"'.format(*struct.unpack(">II", data[16:24]))
    caption = escape(figure.caption)
    yield f'<figure id="figure-{figure.name}">'
    yield (f'<div class="scroll"><img src="data:image/{kind};base64,{base64.b64encode(data).decode()}"{size} '
           f'alt="{caption}"></div>')
    yield f"<figcaption><b>Figure {number}.</b> {caption}</figcaption>"
    yield "</figure>"
