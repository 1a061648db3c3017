"""What continuous integration makes of what its tools say."""

import json
import runpy
from pathlib import Path

import pytest

CI = Path(__file__).resolve().parents[1] / ".ci"


def found(*packages):
    return json.dumps({"dependencies": packages, "fixes": []})


SOUND = {"name": "one", "version": "1", "vulns": []}
FLAWED = {"name": "two", "version": "2", "vulns": [{"id": "FLAW-1", "fix_versions": ["2.1"]}]}
UNKNOWN = {"name": "three", "skip_reason": "not found"}


@pytest.mark.parametrize(("output", "error", "status", "words"), [
    (found(SOUND), "", 0, "1 packages without a known vulnerability"),
    (found(SOUND, FLAWED), "", 1, "two 2: FLAW-1"),
    (found(SOUND, UNKNOWN), "", 1, "could not be audited: three"),
    (found(UNKNOWN, UNKNOWN), "", 0, "NOTHING WAS AUDITED"),
    (found(UNKNOWN, FLAWED), "", 1, "two 2: FLAW-1"),
    (found(), "", 1, "nothing to audit"),
    ("", "requests.exceptions.ConnectionError: no such host", 0, "NOTHING WAS AUDITED"),
    ("", "TypeError: a flaw of its own", 1, "pip-audit failed"),
])
def test_only_a_database_that_cannot_be_reached_is_no_failure(output, error, status, words):
    given, said = runpy.run_path(str(CI / "audit.py"))["verdict"](output, error)
    assert given == status
    assert words in said


def test_files_too_many_and_too_few_in_a_distribution_are_named():
    differences = runpy.run_path(str(CI / "distributions.py"))["differences"]
    assert differences({"a", "b"}, {"b", "c"}, "wheel") == ["wheel has a, which it should not", "wheel lacks c"]
    assert differences({"b"}, {"b"}, "wheel") == []
