"""Results are written whole or not at all, and never over a finished run."""

import csv
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from fastmlp import files, run_folders
from fastmlp.errors import OutputError


def names(folder):
    return [path.name for path in folder.iterdir()]


def test_text_and_bytes_are_written_as_they_are(tmp_path):
    files.write_atomically(tmp_path / "text", "größer\n")
    files.write_atomically(tmp_path / "bytes", b"\x00\xff\r\n")
    assert (tmp_path / "text").read_bytes() == "größer\n".encode()
    assert (tmp_path / "bytes").read_bytes() == b"\x00\xff\r\n"


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_behind(tmp_path, monkeypatch):
    target = tmp_path / "model"
    target.write_text("old")

    def full_disk(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OutputError, match=r"cannot write .*model: No space left on device"):
        files.write_atomically(target, "new")
    assert target.read_text() == "old"
    assert names(tmp_path) == ["model"]


def test_an_interrupted_write_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupted(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        files.write_atomically(tmp_path / "model", "new")
    assert names(tmp_path) == []


def test_the_target_is_replaced_only_after_its_content_is_on_disk(tmp_path, monkeypatch):
    target = tmp_path / "model"
    target.write_text("old")
    seen = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: seen.append(target.read_text()))
    files.write_atomically(target, "new")
    assert seen == ["old", "new"]                   # of the file, and after the rename of its folder
    assert target.read_text() == "new"


@pytest.mark.parametrize("place", ["absent/model", "file/model", "folder"])
def test_a_place_that_cannot_be_written_is_named(tmp_path, place):
    (tmp_path / "file").touch()
    (tmp_path / "folder" / "full").mkdir(parents=True)
    with pytest.raises(OutputError, match=place):
        files.write_atomically(tmp_path / place, "x")


@pytest.mark.skipif(os.name != "posix", reason="the umask is POSIX's")
def test_the_umask_decides_who_may_read(tmp_path):
    before = os.umask(0o022)
    try:
        files.write_atomically(tmp_path / "shared", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "shared").stat().st_mode & 0o777 == 0o644


def test_a_name_as_long_as_the_file_system_allows_is_fine(tmp_path):
    files.write_atomically(tmp_path / ("n" * 250), "x")
    assert names(tmp_path) == ["n" * 250]


def test_default_folders_of_one_second_are_numbered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_folders.time, "strftime", lambda form: "20260102-030405")
    made = [run_folders.make_run_folder() for _ in range(3)]
    assert made == [Path("runs/20260102-030405"), Path("runs/20260102-030405-2"), Path("runs/20260102-030405-3")]


def test_runs_that_start_together_get_different_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_folders.time, "strftime", lambda form: "same")
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: run_folders.make_run_folder(), range(24)))
    assert len(set(made)) == 24


def test_a_folder_of_a_finished_run_is_refused_and_untouched(tmp_path):
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(OutputError, match="already holds a finished run"):
        run_folders.make_run_folder(tmp_path)
    assert names(tmp_path) == ["result.json"]


@pytest.mark.parametrize("others", [["notes.txt"], ["config.json", "weights.png", ".fastmlp-1.tmp", "notes.txt"]])
def test_a_folder_of_an_unfinished_run_is_taken_again(tmp_path, others):
    (tmp_path / "environment.json").write_text('{"packages": {"fastmlp": "0.1"}}')      # written first, removed last
    for name in others:
        (tmp_path / name).touch()
    assert run_folders.make_run_folder(str(tmp_path)) == tmp_path
    assert names(tmp_path) == ["notes.txt"]     # nothing stale stays, and the proof that it can be written to is gone


@pytest.mark.parametrize("name", ["config.json", "history.csv", "model.safetensors", "environment.json"])
def test_a_folder_with_somebody_elses_files_of_these_names_is_refused(tmp_path, name):
    (tmp_path / name).write_text("precious")
    with pytest.raises(OutputError, match=f"holds {name}"):
        run_folders.make_run_folder(tmp_path)
    assert (tmp_path / name).read_text() == "precious"


def test_names_that_are_no_text_can_be_written(tmp_path):
    files.write_json(tmp_path / "a.json", {"file": "g\udcff.csv"})
    assert json.loads((tmp_path / "a.json").read_text()) == {"file": "g\udcff.csv"}


def test_a_new_folder_is_made_with_its_parents(tmp_path):
    assert run_folders.make_run_folder(tmp_path / "a" / "b").is_dir()


def test_a_file_is_no_run_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="it is not a folder"):
        run_folders.make_run_folder(tmp_path / "file")
    with pytest.raises(OutputError, match=r"cannot write results to .*below"):
        run_folders.make_run_folder(tmp_path / "file" / "below")


def test_a_file_named_runs_is_reported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").touch()
    with pytest.raises(OutputError, match="cannot write results to runs"):
        run_folders.make_run_folder()


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux's /proc")
def test_a_folder_that_exists_but_takes_no_files_is_found_out_at_once():
    # Even the root user, whom permission bits do not bind, cannot make a file here.
    with pytest.raises(OutputError, match="cannot write results to /proc/self/task"):
        run_folders.make_run_folder("/proc/self/task")


def test_csv_numbers_read_back_exactly(tmp_path):
    value = np.float64(0.1) + np.float64(0.2)
    files.write_csv(tmp_path / "h.csv", {
        "step": np.array([0, 100]), "lr": [value, 1e-5], "loss": np.array([0.1, np.nan], dtype=np.float32),
        "note": ["a, b", None],
    })
    text = (tmp_path / "h.csv").read_bytes()
    rows = list(csv.DictReader(text.decode().splitlines()))
    assert b"\r" not in text
    assert rows[0] == {"step": "0", "lr": "0.30000000000000004", "loss": "0.1", "note": "a, b"}
    assert rows[1] == {"step": "100", "lr": "1e-05", "loss": "nan", "note": ""}


def test_csv_columns_of_different_lengths_are_refused(tmp_path):
    with pytest.raises(ValueError, match="shorter"):
        files.write_csv(tmp_path / "h.csv", {"a": [1, 2], "b": [1]})
    assert names(tmp_path) == []


def test_json_has_null_for_what_is_not_finite_and_plain_types_for_numpys(tmp_path):
    files.write_json(tmp_path / "r.json", {
        "nan": float("nan"), "inf": [-np.inf, (np.float32("inf"),)], "array": np.array([[1.5, np.nan]]),
        "count": np.int64(3), "yes": np.bool_(True), "path": tmp_path, "name": "Größe", "none": None,
    })
    text = (tmp_path / "r.json").read_text(encoding="utf-8")

    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    assert json.loads(text, parse_constant=refuse) == {
        "nan": None, "inf": [None, [None]], "array": [[1.5, None]], "count": 3, "yes": True, "path": str(tmp_path),
        "name": "Größe", "none": None,
    }
    assert "Größe" in text
    assert text.endswith("}\n")


def test_json_refuses_what_it_cannot_say(tmp_path):
    with pytest.raises(TypeError):
        files.write_json(tmp_path / "r.json", {"function": print})
    assert names(tmp_path) == []
