import numpy as np
import pytest

from fastmlp.gradcheck import BAR
from fastmlp.studies.catalogue import Study, find_studies
from fastmlp.studies.findings import FAILS, HOLDS
from fastmlp.studies.gradients import check, fault_notes, gradient_claims, gradient_figures, gradient_tables


@pytest.fixture(scope="module")
def tables():
    study, = find_studies(["gradient-tables"])
    return study, check(study)


def test_every_cell_that_was_wrong_is_right_here(tables):
    study, checks = tables
    wrong = 0
    for table, asked in zip(gradient_tables(study, checks), study.gradients, strict=True):
        for row in table.rows:
            for column, cell in zip(table.columns, row, strict=True):
                if cell.endswith("(wrong)"):
                    wrong += 1
                    ours = row[table.columns.index(column.removesuffix(", reported"))]
                    assert float(ours) < BAR if ours != "none" else asked["batch_norm"] and column.startswith("b,")
    assert wrong == 8
    assert gradient_claims(study, checks)[0].verdict == HOLDS
    assert fault_notes(study)[0].startswith("8 of the report's stated errors")


def test_a_wrong_gradient_refutes_the_claim(tables):
    study, checks = tables
    tensor = checks[0].tensors[0]
    kept = tensor.analytic.copy()
    try:
        tensor.analytic[0, 0] += 1e-3
        assert gradient_claims(study, checks)[0].verdict == FAILS
    finally:
        tensor.analytic[...] = kept


def test_boxes_are_drawn_by_tensor_or_for_many_networks_by_network(tables):
    study, checks = tables
    assert [figure.name for figure in gradient_figures(study, checks)] == [
        f"003-gradient-tables-boxes-{k}" for k in (1, 2, 3)]
    assert len(gradient_figures(study, [*checks, *checks])) == 1


def test_absolute_differences_are_what_is_claimed_where_a_report_says_so(tables):
    _, checks = tables
    largest = max(float(np.max(tensor.absolute_differences)) for one in checks for tensor in one.tensors)
    for bar, verdict in ((largest * 1.01, HOLDS), (largest * 0.99, FAILS)):
        study = Study("9-x", "X", "", gradient_claim={"text": "right", "bar": bar, "absolute": True})
        assert gradient_claims(study, checks)[0].verdict == verdict
