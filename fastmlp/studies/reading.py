"""What a report comes to, counted: how many reported figures lie within our spread, and which claims hold."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from fastmlp.studies.findings import FAILS, HOLDS, UNDECIDED, Claim, Comparison, Report

#: A reported figure lies within our spread if it is at most this many standard deviations ...
DEVIATIONS = 3.0
#: ... and this much more, which allows for rounding and another split, away from our mean.
ALLOWANCE = 0.01
SPREAD_IN_WORDS = (f"A reported figure lies within our spread if it is at most {DEVIATIONS:g} standard deviations over "
                   f"seeds and {ALLOWANCE:g} more away from our mean.")
WITHIN_IN_WORDS = {True: "within", False: "not within", None: "unknown"}


@dataclass(frozen=True)
class Reading:
    """The counts of a report.

    Attributes
    ----------
    within, outside, unknown : tuple of (str, Comparison)
        Reported figures by whether they lie within our spread, each with the name of its study.
    claims : dict of str to tuple of (str, Claim)
        Claims by verdict, each with the name of its study; every verdict has an entry.
    """

    within: tuple[tuple[str, Comparison], ...]
    outside: tuple[tuple[str, Comparison], ...]
    unknown: tuple[tuple[str, Comparison], ...]
    claims: dict[str, tuple[tuple[str, Claim], ...]]

    def figures_to_explain(self) -> list[tuple[str, tuple[tuple[str, Comparison], ...]]]:
        """Headings, and the figures to be listed under each; those that cannot be compared only if others can."""
        some = bool(self.within or self.outside)
        return [(heading, pairs) for heading, pairs in (("Not within our spread", self.outside),
                                                        ("It cannot be said", self.unknown if some else ())) if pairs]

    def sentences(self) -> list[str]:
        """The counts in words, one sentence for the figures and one for the claims.

        Examples
        --------
        >>> from fastmlp.studies.findings import Finding
        >>> seen = Comparison("test accuracy", 0.53, 0.525, 0.002, 5, True)
        >>> read(Report("", (), (Finding("001", "One", "", (seen,)),))).sentences()
        ['The 1 reported figure that was compared lies within our spread.']
        """
        sentences = []
        compared = len(self.within) + len(self.outside) + len(self.unknown)
        if compared and compared == len(self.within):
            sentences.append("The 1 reported figure that was compared lies within our spread." if compared == 1 else
                             f"All {compared} reported figures that were compared lie within our spread.")
        elif compared and compared == len(self.unknown):
            sentences.append(f"Ours cannot be compared with the {compared} reported figure{'s'[:compared != 1]}: they "
                             f"are of other data, of short trainings, or of one seed.")
        elif compared:
            parts = [f"{len(self.within)} {'lies' if len(self.within) == 1 else 'lie'} within our spread"]
            parts += [f"{len(self.outside)} {'does' if len(self.outside) == 1 else 'do'} not"] * bool(self.outside)
            parts += [f"of {len(self.unknown)} it cannot be said"] * bool(self.unknown)
            sentences.append(f"Of {compared} reported figure{'s'[:compared != 1]} {_enumerated(parts)}.")
        counts = {verdict: len(claims) for verdict, claims in self.claims.items()}
        if sum(counts.values()):
            parts = [f"{count} {words[count != 1]}" for verdict, words in (
                (HOLDS, ("holds", "hold")), (FAILS, ("does not hold", "do not hold")),
                (UNDECIDED, ("is not decided", "are not decided"))) if (count := counts[verdict])]
            total = sum(counts.values())
            sentences.append(f"Of {total} {'claim' if total == 1 else 'claims'} {_enumerated(parts)}.")
        return sentences or ["Nothing was compared and nothing claimed."]


def read(report: Report) -> Reading:
    """Sort what a report compared and claimed.

    Examples
    --------
    >>> from fastmlp.studies.findings import Finding
    >>> claim = Claim("Batch norm helps.", HOLDS, "0.53 against 0.51.")
    >>> read(Report("", (), (Finding("001", "One", "", claims=(claim,)),))).claims[HOLDS][0][0]
    '001'
    """
    compared = [(finding.study, comparison) for finding in report.findings for comparison in finding.comparisons]
    claimed = [(finding.study, claim) for finding in report.findings for claim in finding.claims]
    within, outside, unknown = (tuple(pair for pair in compared if pair[1].lies_within is answer)
                                for answer in (True, False, None))
    return Reading(within, outside, unknown, {verdict: tuple(pair for pair in claimed if pair[1].verdict == verdict)
                                              for verdict in (HOLDS, FAILS, UNDECIDED)})


def spread(comparison: Comparison) -> tuple[float, float] | None:
    """From where to where a reported figure counts as within ours: the mean ± 3 std ± 0.01.

    Returns
    -------
    (low, high) or None
        None where there is no mean or, with fewer than two seeds, no standard deviation.

    Examples
    --------
    >>> low, high = spread(Comparison("test accuracy", 0.53, 0.5, 0.01, 5, True))
    >>> f"{low:.2f} {high:.2f}"
    '0.46 0.54'
    """
    if comparison.mean is None or comparison.std is None or not math.isfinite(comparison.mean + comparison.std):
        return None
    margin = DEVIATIONS * comparison.std + ALLOWANCE
    return comparison.mean - margin, comparison.mean + margin


def ours(comparison: Comparison) -> str:
    """Our mean and standard deviation, as precise as two digits of the deviation, and the number of seeds.

    Examples
    --------
    >>> ours(Comparison("test accuracy", 0.53, 0.52534, 0.00213, 5, True))
    '0.5253 ± 0.0021 (5 seeds)'
    >>> ours(Comparison("test accuracy", 0.53, None, None, 0, None))
    'none finished'
    """
    if comparison.mean is None:
        return "none finished"
    seeds = f"({comparison.n} {'seed' if comparison.n == 1 else 'seeds'})"
    if comparison.std is None or not math.isfinite(comparison.std):
        return f"{comparison.mean:.4g} {seeds}"
    if comparison.std == 0:
        return f"{comparison.mean:.4g} ± 0 {seeds}"
    decimals = min(max(1 - math.floor(math.log10(comparison.std)), 0), 8)
    return f"{comparison.mean:.{decimals}f} ± {comparison.std:.{decimals}f} {seeds}"


def _enumerated(parts: Iterable[str]) -> str:
    *before, last = parts
    return f"{', '.join(before)} and {last}" if before else last
