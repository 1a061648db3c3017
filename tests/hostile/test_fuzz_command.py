"""`python -m fuzz.readers` without atheris."""

import sys

from fuzz import readers


def test_without_atheris_one_sentence_says_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "atheris", None)
    monkeypatch.setattr(sys, "argv", ["readers"])
    assert readers.main() == 2
    assert capsys.readouterr().err == (
        "fuzz.readers needs atheris, which is not installed: pip install 'atheris>=3'\n")
