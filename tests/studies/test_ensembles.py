import numpy as np
import pytest

from fastmlp.command_options import StudyOptions
from fastmlp.studies.ensembles import COLUMNS, aim_claims, ensemble_accuracies, ensemble_table
from fastmlp.studies.findings import FAILS, HOLDS, UNDECIDED
from fastmlp.studies.run import run_studies

LABELS = np.array([0, 0, 1])


def logits(*answers, sure=5.0):
    """Outputs (1, n, 2) that answer so."""
    return sure * np.eye(2)[list(answers)][None]


def test_an_ensemble_of_seeds_averages_their_last_networks():
    good, bad = logits(0, 0, 1, sure=9.0), logits(1, 1, 0, sure=1.0)
    found = ensemble_accuracies([np.concatenate([bad, good]), bad], LABELS)
    assert found == {"single network": [1.0, 0.0], "its cycles' ends": [1.0, 0.0], "all seeds": 1.0,
                     "all seeds, by vote": 1.0, "all seeds' cycles' ends": 1.0}


def test_votes_count_networks_and_probabilities_count_how_sure_they_are():
    trials = [logits(0, 0, 1, sure=20.0), logits(1, 1, 0, sure=0.5), logits(1, 1, 0, sure=0.5)]
    found = ensemble_accuracies(trials, LABELS)
    assert (found["all seeds"], found["all seeds, by vote"]) == (1.0, 0.0)


def test_the_table_has_mean_and_deviation_of_what_each_seed_has():
    table = ensemble_table(["one"], [ensemble_accuracies([logits(0, 0, 1), logits(0, 0, 0)], LABELS)])
    assert table.columns == COLUMNS
    assert table.rows[0][:2] == ("one", "0.8333 ± 0.2357")


@pytest.mark.parametrize(("single", "ensemble", "verdicts"), [(0.9, 0.9, [HOLDS, HOLDS]), (0.5, 0.7, [FAILS, HOLDS])])
def test_aims_are_compared_with_the_best_setting(single, ensemble, verdicts):
    found = {"single network": [single, single], "all seeds": ensemble}
    aims = {"single": 0.58, "ensemble": 0.6}
    assert [claim.verdict for claim in aim_claims(aims, "wide", found, comparable=True)] == verdicts
    assert {claim.verdict for claim in aim_claims(aims, "wide", found, comparable=False)} == {UNDECIDED}


def test_improvements_are_shown_with_their_ensembles_and_a_trained_network_is_the_last_end_of_its_cycles(tmp_path):
    given = StudyOptions(data="digits", quick=True, seeds=2, device="cpu", out=tmp_path, quiet=True)
    _, report = run_studies(["improvements"], given)
    finding, = report.findings
    scores, ensembles = finding.tables
    means = [float(row[1].split(" ")[0]) for row in scores.rows]
    assert [float(row[1].split(" ")[0]) for row in ensembles.rows] == pytest.approx(means, abs=1e-3)
    for label, single, ends, *_ in ensembles.rows:
        assert (single != ends) == ("4 cycles" in label)
    assert finding.figures[0].name == "improvements-steps"
    assert [claim.verdict for claim in finding.claims] == [UNDECIDED, UNDECIDED]
