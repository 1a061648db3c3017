"""The reports' gradient checks, done again: tables by layer, box plots, and whether every error is below the bar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastmlp.gradcheck import GradientCheck, check_gradients
from fastmlp.gradcheck_report import KINDS
from fastmlp.layout import NetworkSpec
from fastmlp.studies.catalogue import Study
from fastmlp.studies.figures import box_figure
from fastmlp.studies.findings import FAILS, HOLDS, Claim, Figure, Table

CLASSES = 10
WRONG = 1e-2            # a reported relative error above this is a fault, not rounding


def check(study: Study) -> list[GradientCheck]:
    """Every network that the study checks; numbers are drawn, so no data set takes part."""
    return [check_gradients(
        NetworkSpec(asked["dim"], tuple(asked["hidden"]), CLASSES, asked["batch_norm"]), n=asked["n"],
        l2=asked.get("l2", 0.0), **({"eps": asked["eps"]} if "eps" in asked else {})) for asked in study.gradients]


def gradient_claims(study: Study, checks: Sequence[GradientCheck]) -> list[Claim]:
    """The study's claim about gradients, decided."""
    claim = study.gradient_claim
    if not claim:
        return []
    kind = "absolute difference" if claim.get("absolute") else "relative error"
    worst = max(_worst(check, bool(claim.get("absolute"))) for check in checks)
    skipped, elements = sum(check.skipped for check in checks), sum(check.elements for check in checks)
    whole = all(check.passed() for check in checks)
    return [Claim(claim["text"], HOLDS if worst < claim["bar"] and whole else FAILS,
                  f"The largest {kind} of {elements:,} compared elements (of large tensors, random directions) is "
                  f"{worst:.1e}; {skipped} were skipped at kinks of the non-linearity.")]


def _worst(check: GradientCheck, absolute: bool) -> float:
    return max(float((tensor.absolute_differences if absolute else tensor.relative_errors).max(initial=0.0))
               for tensor in check.tensors)


def gradient_tables(study: Study, checks: Sequence[GradientCheck]) -> list[Table]:
    """Largest relative error by layer and kind of tensor, beside what the report states."""
    tables = []
    for asked, one in zip(study.gradients, checks, strict=True):
        stated: Mapping[str, Sequence[float]] = asked.get("reported", {})
        kinds = [kind for kind in KINDS if any(tensor.kind == kind for tensor in one.tensors) or kind in stated]
        cells = {(t.layer, t.kind): f"{float(t.relative_errors.max(initial=0.0)):.1e}" for t in one.tensors}
        rows = []
        for layer in range(1, one.spec.n_layers + 1):
            row = [str(layer)]
            for kind in kinds:
                row.append(cells.get((layer, kind), "none"))
                if stated:
                    row.append(_stated(stated.get(kind, ()), layer))
            rows.append(tuple(row))
        columns = ["layer", *(word for kind in kinds for word in
                              ([_written(kind)] + ([f"{_written(kind)}, reported"] if stated else [])))]
        tables.append(Table(f"Largest relative error: {one.title}", tuple(columns), tuple(rows)))
    return tables


def _stated(errors: Sequence[float], layer: int) -> str:
    if layer > len(errors):
        return ""
    return f"{errors[layer - 1]:.1e}{' (wrong)' if errors[layer - 1] > WRONG else ''}"


def _written(kind: str) -> str:
    return "W" if kind == "w" else kind


def gradient_figures(study: Study, checks: Sequence[GradientCheck]) -> list[Figure]:
    """Box plots of relative errors: of each network by tensor, or of many networks by network."""
    if len(checks) > 3:
        boxes: dict[str, Any] = {f"{len(one.spec.sizes) - 1} layers{', BN' if one.spec.batch_norm else ''}": [
            error for tensor in one.tensors for error in tensor.relative_errors] for one in checks}
        return [box_figure(f"{study.name}-boxes", "Relative errors of all elements, by network.", boxes)]
    return [box_figure(f"{study.name}-boxes-{k}", f"Relative errors by tensor: {one.title}.",
                       {f"{_written(t.kind)}{t.layer}": t.relative_errors for t in one.tensors})
            for k, one in enumerate(checks, start=1)]


def fault_notes(study: Study) -> tuple[str, ...]:
    """How many of the report's stated errors show a fault, where any does."""
    wrong = [error for asked in study.gradients for errors in asked.get("reported", {}).values() for error in errors
             if error > WRONG]
    if not wrong:
        return ()
    return (f"{len(wrong)} of the report's stated errors are above {WRONG:g}, which no rounding explains. A bias "
            f"before batch norm would be subtracted again, so its gradient is zero and its relative error means "
            f"nothing: fastmlp's networks have none there.",)
