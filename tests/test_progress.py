"""What a person sees while a network trains."""

import io
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from fastmlp import progress
from fastmlp.errors import ConfigError


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    def __init__(self):
        self.now = 1000.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def row(epoch, *, steps_per_epoch=100, **more):
    return {"step": epoch * steps_per_epoch, "epoch": epoch, "lr": 0.00123, "train_loss": 1.5 / (epoch + 1),
            "train_accuracy": 0.5, "val_accuracy": 0.4321} | more


def test_lines_are_aligned_and_hold_the_numbers(clock):
    stream = io.StringIO()
    watcher = progress.make_progress("auto", stream)
    watcher.start(total_steps=1200, total_epochs=12, description="digits")
    for epoch in range(13):
        watcher.epoch_done(row(epoch))
        clock.now += 5
    watcher.finish()
    lines = stream.getvalue().splitlines()
    assert lines[0] == "digits: 12 epochs, 1200 steps"
    assert len(lines) == 14
    assert lines[2] == ("epoch  1/12  loss  0.7500  train acc 0.5000  val acc 0.4321  lr 1.23e-03     0:05"
                        "     0:55 left")
    assert {line.index("val acc") for line in lines[1:]} == {lines[1].index("val acc")}
    assert "left" not in lines[-1]
    assert stream.getvalue().isascii()  # log files and old consoles


def test_lines_come_at_most_once_a_second_and_the_last_always_comes(clock):
    stream = io.StringIO()
    watcher = progress.make_progress("auto", stream)
    watcher.start(total_steps=10000, total_epochs=100, description="fast")
    for epoch in range(1, 101):
        clock.now += 0.03
        watcher.epoch_done(row(epoch))
    watcher.finish()
    watcher.finish()
    lines = stream.getvalue().splitlines()[1:]
    assert 3 <= len(lines) <= 5
    assert lines[0].startswith("epoch   1/100")
    assert lines[-1].startswith("epoch 100/100")
    assert len(set(lines)) == len(lines)


@pytest.mark.parametrize("missing", [{"val_accuracy": float("nan")}, {"val_accuracy": None}])
def test_a_number_that_is_missing_is_left_out(missing):
    assert progress._numbers(row(1, **missing)) == "loss  0.7500  train acc 0.5000  lr 1.23e-03"


def test_of_a_population_the_means_are_shown_and_how_many_diverged():
    loss, accuracy = np.array([0.5, 7.0, 1.0]), np.array([0.25, 0.0, 0.75])
    shown = row(1, train_loss=loss, train_accuracy=accuracy, val_accuracy=accuracy, lr=np.array([0.1, 0.0, 0.3]))
    assert progress._numbers(shown | {"frozen": np.array([False, True, False])}) == (
        "loss  0.7500  train acc 0.5000  val acc 0.5000  lr 2.00e-01  1 of 3 diverged")
    assert progress._numbers(shown | {"frozen": np.zeros(3, bool)}).startswith("loss  2.8333")
    assert progress._numbers(shown | {"frozen": np.ones(3, bool)}) == "3 of 3 diverged"


def test_durations_are_readable():
    assert [progress._duration(seconds) for seconds in (0.4, 59.6, 3599, 3600, 36061)] == [
        "0:00", "1:00", "59:59", "1:00:00", "10:01:01"]


def test_a_terminal_gets_a_bar_with_epoch_numbers_and_time_left(clock):
    stream = Terminal()
    watcher = progress.make_progress("auto", stream)
    watcher.start(total_steps=200, total_epochs=2, description="digits")
    watcher.step(1)
    watcher.epoch_done(row(1))
    first = stream.getvalue().split("\r")[-1]
    watcher.epoch_done(row(2))
    watcher.finish()
    watcher.finish()
    last = stream.getvalue().split("\r")[-1]
    assert first.startswith("epoch 2/2 loss 0.7500 train acc 0.5000 val acc 0.4321 lr 1.23e-03 ")
    assert " left |" in first
    assert last.startswith("epoch 2/2 loss")
    assert last.endswith("\n")


def test_a_bar_is_redrawn_ten_times_a_second_however_often_it_is_told(clock):
    stream = Terminal()
    watcher = progress.make_progress("auto", stream)
    watcher.start(total_steps=10000, total_epochs=1, description="fast")
    for step in range(1, 10001):
        clock.now += 0.0001  # one second in all
        watcher.step(step)
    drawn = stream.getvalue().count("epoch 1/1")
    watcher.finish()
    assert 8 <= drawn <= 13


def test_a_terminal_without_width_gets_lines(monkeypatch):
    stream = Terminal()
    stream.fileno = lambda: 2
    monkeypatch.setattr(os, "get_terminal_size", lambda descriptor: os.terminal_size((0, 0)))
    progress.make_progress("auto", stream).start(total_steps=1, total_epochs=1, description="digits")
    assert stream.getvalue() == "digits: 1 epoch, 1 step\n"


def test_a_bar_starts_no_thread_and_leaves_other_bars_alone():
    from tqdm import tqdm

    before, interval = set(threading.enumerate()), tqdm.monitor_interval
    watcher = progress.make_progress("auto", Terminal())
    watcher.start(total_steps=10, total_epochs=1, description="digits")
    watcher.step(1)
    assert set(threading.enumerate()) == before
    assert tqdm.monitor_interval == interval
    watcher.finish()


def test_finish_without_start_is_harmless():
    for stream in (Terminal(), io.StringIO()):
        progress.make_progress("auto", stream).finish()


def test_quiet_writes_nothing(capsys):
    watcher = progress.make_progress("quiet")
    watcher.start(total_steps=10, total_epochs=1, description="digits")
    watcher.step(1)
    watcher.epoch_done(row(1))
    watcher.finish()
    assert capsys.readouterr() == ("", "")


def test_the_default_stream_is_standard_error_as_it_is_now(capsys, monkeypatch):
    progress.make_progress().start(total_steps=1, total_epochs=1, description="digits")
    assert capsys.readouterr() == ("", "digits: 1 epoch, 1 step\n")
    monkeypatch.setattr(sys, "stderr", None)  # Python without a console
    progress.make_progress().start(total_steps=1, total_epochs=1, description="digits")


def test_an_unknown_mode_is_refused():
    with pytest.raises(ConfigError, match="'loud'"):
        progress.make_progress("loud")


def test_tqdm_is_imported_for_a_bar_only():
    code = ("import io, sys; from fastmlp.progress import make_progress;"
            "make_progress('auto', io.StringIO()).start(1, 1, 'x'); assert 'tqdm' not in sys.modules")
    subprocess.run([sys.executable, "-c", code], check=True)
