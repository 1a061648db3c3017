import contextlib
import shlex
import signal
import subprocess
import sys
import time
from html import escape

import pytest

from fastmlp.cli import main
from fastmlp.command_options import StudyOptions
from fastmlp.errors import ConfigError, DataError, OutputError
from fastmlp.interrupts import Interruption
from fastmlp.studies import training
from fastmlp.studies.run import run_studies

EMPTY = {"svg": b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"></svg>'}
QUICK = ["--data", "digits", "--quick", "--seeds", "2", "--device", "cpu"]


def options(folder, **given):
    return StudyOptions(data="digits", quick=True, seeds=2, device="cpu", out=folder, quiet=True, **given)


@pytest.fixture
def trained(monkeypatch):
    """How many trials were trained so far."""
    counted, train = [], training.train_trials

    def count(trials, *arguments, **details):
        counted.extend(trials)
        return train(trials, *arguments, **details)

    monkeypatch.setattr(training, "train_trials", count)
    return counted


@pytest.fixture
def without_pixels(monkeypatch):
    """Pictures are made and not painted, which would take half of a quick study's time."""
    monkeypatch.setattr("fastmlp.studies.pictures._save", lambda _, picture, kind: picture.write(EMPTY[kind]))


@pytest.mark.usefixtures("without_pixels")
def test_a_study_leaves_a_page_and_its_trials_which_are_trained_once(tmp_path, trained):
    folder, report = run_studies(["003-init-sensitivity", "000-depth"], options(tmp_path / "out"))
    assert {"report.html", "report.md", "trials", "tables", "figures"} <= {path.name for path in folder.iterdir()}
    assert [finding.study for finding in report.findings] == ["000-depth", "003-init-sensitivity"]
    assert len(trained) == 2 * (6 + 4) == len(list((folder / "trials").glob("*.json")))
    run_studies(["000-depth", "001-depth"], options(tmp_path / "out"))
    assert len(trained) == 20
    next((folder / "trials").glob("*.json")).unlink()
    run_studies(["003-init-sensitivity", "000-depth"], options(tmp_path / "out"))
    assert len(trained) == 21


@pytest.mark.usefixtures("without_pixels")
def test_studies_that_keep_different_things_of_a_trial_lose_none_of_them(tmp_path, trained):
    for names in (["001-depth"], ["improvements"]):
        run_studies(names, options(tmp_path))
    before = len(trained)
    run_studies(["001-depth", "improvements"], options(tmp_path))
    assert len(trained) == before


@pytest.mark.usefixtures("without_pixels")
def test_trained_together_or_alone_a_trial_is_the_same(tmp_path):
    _, together = run_studies(["000-init-sensitivity"], options(tmp_path / "together"))
    folder = tmp_path / "alone"
    run_studies(["000-init-sensitivity"], options(folder))
    kept = sorted((folder / "trials").glob("*.json"))
    for path in kept[::3]:
        path.unlink()
    _, in_parts = run_studies(["000-init-sensitivity"], options(folder))
    for one, other in zip(together.findings[0].comparisons, in_parts.findings[0].comparisons, strict=True):
        assert one.mean == pytest.approx(other.mean, rel=1e-4)


@pytest.mark.usefixtures("without_pixels")
def test_seeds_differ_in_weights_order_and_split(tmp_path):
    _, report = run_studies(["000-depth"], options(tmp_path))
    assert all(" ± " in cell and cell[-4:] != " ± 0" for cell in report.findings[0].tables[0].rows[0][1:])


def test_weights_are_shown_as_images(tmp_path):
    folder, report = run_studies(["linear"], options(tmp_path))
    figure = next(figure for figure in report.findings[0].figures if figure.name == "002-linear-weights")
    assert figure.png.startswith(b"\x89PNG")
    arrays = list((folder / "trials").glob("*.weights.npy"))
    assert len(arrays) == 5
    arrays[0].unlink()
    _, again = run_studies(["linear"], options(tmp_path))
    assert [f.png for f in again.findings[0].figures] == [f.png for f in report.findings[0].figures]


@pytest.mark.usefixtures("without_pixels")
def test_other_data_than_the_reports_are_compared_with_nothing(tmp_path):
    _, report = run_studies(["004-final"], options(tmp_path))
    assert [comparison.lies_within for comparison in report.findings[0].comparisons] == [None]
    assert "cannot be compared" in dict(report.circumstances)["data"]


@pytest.mark.usefixtures("without_pixels")
def test_a_folder_with_trials_on_other_data_is_refused(tmp_path):
    file, out = tmp_path / "own.csv", tmp_path / "out"
    for period in (5, 7):
        file.write_text("\n".join(["a,b,kind", *(f"{k % 7},{k % period},{k % 3}" for k in range(300))]))
        given = StudyOptions(data=str(file), target="kind", quick=True, seeds=1, device="cpu", out=out, quiet=True)
        if period == 5:
            run_studies(["004-final"], given)
    with pytest.raises(DataError, match="holds trials on other data"):
        run_studies(["004-final"], given)


def test_a_folder_is_made_once_the_data_are_there_and_before_anything_is_trained(tmp_path, trained):
    given = StudyOptions(data=str(tmp_path / "no.npz"), quick=True, device="cpu", out=tmp_path / "out", quiet=True)
    with pytest.raises(DataError, match=r"no\.npz"):
        run_studies(["004-final"], given)
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "trials").touch()
    with pytest.raises(OutputError, match="trials: it is not a folder; name another"):
        run_studies(["004-final"], options(tmp_path / "out"))
    assert not trained


@pytest.mark.usefixtures("without_pixels")
def test_the_page_tells_a_command_that_can_be_copied(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my own.csv").write_text("\n".join(["a,kind", *(f"{k % 7},{k % 3}" for k in range(300))]))
    given = ["study", "004-final", "--data", "my own.csv", "--target", "kind", "--seeds", "2", "--quick"]
    assert main([*given, "--quiet", "--out", "out"]) == 0
    assert f"<dd>{escape(shlex.join(['fastmlp', *given]))}</dd>" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.usefixtures("without_pixels")
def test_an_interruption_keeps_what_is_finished_and_the_same_command_goes_on(tmp_path, monkeypatch, trained):
    lines, trials = [], tmp_path / "trials"

    class AfterAGroup(Interruption):
        def __call__(self):
            self.by = "SIGTERM" if any(trials.glob("*.json")) else None
            return super().__call__()

    @contextlib.contextmanager
    def interrupted_after_a_group(quiet):
        yield AfterAGroup()

    given = StudyOptions(data="digits", quick=True, seeds=2, device="cpu", out=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("fastmlp.studies.run.stop_on_interrupt", interrupted_after_a_group)
        folder, report = run_studies(["003-init-sensitivity"], given, lines.append)
    assert report.by == "SIGTERM"
    assert lines[-1] == f"interrupted: the finished trials are kept in {folder}; the same command goes on"
    assert not (folder / "report.html").exists()
    kept = len(list(trials.glob("*.json")))
    assert 0 < kept == len(trained) < 12
    _, report = run_studies(["003-init-sensitivity"], given, lines.append)
    assert report is not None
    assert len(trained) == 12


def test_a_killed_study_loses_no_finished_trial_and_repeats_none(tmp_path):
    command = [sys.executable, "-m", "fastmlp", "study", "all", *QUICK, "--out", str(tmp_path)]
    trials = tmp_path / "trials"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not trials.exists() or len(list(trials.glob("*.json"))) < 20:
        time.sleep(0.02)
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = {path: path.stat().st_mtime_ns for path in trials.glob("*.json")}
    again = [*command]
    again[again.index("all")] = "003-init-sensitivity"
    subprocess.run(again, check=True, capture_output=True)
    after = {path: path.stat().st_mtime_ns for path in trials.glob("*.json")}
    assert len(before) >= 20
    assert before.items() <= after.items()


@pytest.mark.parametrize(("arguments", "sentence"), [
    (["study"], "no study is named"), (["study", "deptth"], "study 'deptth' is unknown"),
    (["study", "all", "--seeds", "0"], "--seeds 0: must be at least 1"),
    (["study", "all", "--data", "nowhere.csv", "--target", "y"], "nowhere.csv"),
])
def test_bad_words_end_with_a_sentence(arguments, sentence, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.json"))


def test_studies_are_listed(capsys):
    assert main(["study", "--list"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "002-linear              Softmax classifier: rate and penalty"


def test_data_without_a_validation_part_are_refused(tmp_path, monkeypatch):
    from dataclasses import replace

    whole = training.load

    def without(given):
        data = whole(given)
        return replace(data, x_val=data.x_val[:0], y_val=data.y_val[:0])

    monkeypatch.setattr(training, "load", without)
    with pytest.raises(ConfigError, match="need a validation and a test part"):
        run_studies(["004-final"], options(tmp_path))


@pytest.mark.parametrize(("rows", "sentence"), [
    (60, r"batches of 100, and of 43 training examples of own\.csv none can be filled: take more data$"),
    (417, r"and of 301 training examples of own\.csv one is left over: add or leave out a few examples$"),
])
def test_data_that_do_not_fill_batches_are_refused_before_anything_is_written(tmp_path, rows, sentence):
    file = tmp_path / "own.csv"
    file.write_text("\n".join(["a,b,kind", *(f"{k % 7},{k % 5},{k % 2}" for k in range(rows))]))
    given = StudyOptions(data=str(file), target="kind", quick=True, seeds=1, device="cpu", out=tmp_path / "out",
                         quiet=True)
    with pytest.raises(ConfigError, match=sentence):
        run_studies(["000-depth"], given)
    assert not (tmp_path / "out").exists()
