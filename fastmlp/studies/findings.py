"""What studies find, in the form that pages are made from: tables, figures, figures compared, claims with verdicts."""

from __future__ import annotations

from dataclasses import dataclass, field

HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "not decided"


@dataclass(frozen=True)
class Table:
    """Rows under headings; numbers are text already, as precise as they deserve.

    Attributes
    ----------
    title : str
    columns : tuple of str
    rows : tuple of tuples of str
        One text for each column.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Figure:
    """A picture.

    Attributes
    ----------
    name : str
        Of its file, without an ending: letters, digits and dashes.
    caption : str
        What is seen; also the text for those who do not see it.
    svg : str or None
        The picture as an SVG document.
    png : bytes or None
        Or as pixels, where there are too many shapes for SVG, such as images of weights.
    """

    name: str
    caption: str
    svg: str | None = None
    png: bytes | None = None


@dataclass(frozen=True)
class Comparison:
    """A figure that a report states, beside ours.

    Attributes
    ----------
    what : str
        The setting and the measure: "50-50, batch norm: test accuracy".
    reported : float
    mean, std : float or None
        Ours over `n` seeds; None where none finished, or for `std` where there is one.
    n : int
    lies_within : bool or None
        Whether the reported figure is within our spread; None where that cannot be said.
    remark : str
        Why not, where we know.
    """

    what: str
    reported: float
    mean: float | None
    std: float | None
    n: int
    lies_within: bool | None
    remark: str = ""


@dataclass(frozen=True)
class Claim:
    """What a report concludes, and whether our figures bear it out.

    Attributes
    ----------
    text : str
        The claim.
    verdict : {"holds", "does not hold", "not decided"}
    evidence : str
        The figures that decide, in a sentence.
    """

    text: str
    verdict: str
    evidence: str


@dataclass(frozen=True)
class Finding:
    """One study, done.

    Attributes
    ----------
    study : str
        Its name, as on the command line: "001-eta-grid".
    title : str
    asked : str
        What the report did, in a few sentences.
    comparisons, claims, tables, figures
        What came of it, in the order in which it is shown.
    notes : tuple of str
        Sentences about how ours was done.
    """

    study: str
    title: str
    asked: str
    comparisons: tuple[Comparison, ...] = ()
    claims: tuple[Claim, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """All studies of one command.

    Attributes
    ----------
    title : str
    circumstances : tuple of (str, str)
        Names and values, as data set, seeds, device, seconds, command.
    findings : tuple of Finding
    """

    title: str
    circumstances: tuple[tuple[str, str], ...]
    findings: tuple[Finding, ...] = field(default=())
