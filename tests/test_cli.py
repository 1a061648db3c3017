"""What the commands make of errors that are nobody's fault, and of output that nobody reads."""

import os
import sys

import pytest

from fastmlp import cli


@pytest.mark.parametrize(("error", "code", "words"), [
    (MemoryError("unable to allocate 8 GiB"), 2, "not enough memory (unable to allocate 8 GiB): make --hidden or"),
    (KeyboardInterrupt(), 130, "interrupted"),
])
def test_lack_of_memory_and_ctrl_c_end_any_command_with_one_sentence(monkeypatch, capsys, error, code, words):
    def fail(**options):
        raise error

    monkeypatch.setattr("fastmlp.doctor.report", fail)
    assert cli.main(["doctor"]) == code
    output = capsys.readouterr()
    assert output.out == ""
    assert words in output.err
    assert output.err.count("\n") == 1


def test_what_nobody_can_read_any_more_is_given_up_without_an_error(monkeypatch):
    class Closed:
        encoding = "utf-8"

        def write(self, text):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Closed())
    cli.say("a line")
    with sys.stdout as rest:
        assert rest.name == os.devnull
        cli.say("and another")
