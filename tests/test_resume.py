"""Trainings are killed, at random and at the worst moments, and go on: the end is that of one that was let be."""

import errno
import itertools
import json
import os
import re
import shutil
import signal
import time
from dataclasses import replace

import children
import numpy as np
import pytest

from fastmlp import backend, tensor_files
from fastmlp.building import make_backend
from fastmlp.cli import main
from fastmlp.config import TrainOptions
from fastmlp.errors import CheckpointError, DeviceError, OutputError
from fastmlp.interrupts import stop_on_interrupt
from fastmlp.resuming import check_circumstances, make_keeper
from fastmlp.run import load
from fastmlp.run_folders import run_folder
from fastmlp.tensor_files import read_tensors, write_tensors

KILLS = int(os.environ.get("FASTMLP_TEST_KILLS", "8"))      # of each kind of run, at random moments
FORMAT = "fastmlp-checkpoint-1"
ALONE = ["--hidden", "20", "--cycles", "6", "--momentum", "0.9", "--dropout", "0.1"]
KINDS = {
    "alone": (ALONE, ["history.csv", "model.safetensors"]),
    "population": (["--hidden", "9", "--cycles", "6", "--members", "3", "--order", "own", "--optimizer", "adamw",
                    "--lr-max", "0.003"], ["history.csv", "model.safetensors", "members.csv", "summary.csv"]),
    "folds": (["--hidden", "9", "--cycles", "6", "--sweep", "l2=0,0.01", "--folds", "2", "--snapshots"],
              ["history.csv", "model.safetensors", "members.csv", "summary.csv"]),
}
OFTEN = ["--device", "cpu", "--checkpoint-every", "0.02s"]


def content(folder, files):
    return {name: (folder / name).read_bytes() for name in files}


@pytest.fixture(scope="module")
def let_be(tmp_path_factory):
    """By kind, what comes of a run that nothing happens to; each is run once."""
    made = {}

    def get(kind):
        if kind not in made:
            options, files = KINDS[kind]
            out = tmp_path_factory.mktemp(kind) / "run"
            assert children.run(["train", *options, "--device", "cpu", "--out", out])[0] == 0
            assert not list(out.glob("checkpoint*"))
            made[kind] = content(out, files)
        return made[kind]
    return get


def goes_on(out, options):
    """The command that goes on with a run, or begins it where it was killed before the first checkpoint."""
    if list(out.glob("checkpoint*")):
        return ["train", "--resume", out, "--checkpoint-every", "0.02s"]
    return ["train", *options, *OFTEN, "--out", out]


@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_random_moments_a_run_ends_as_if_it_had_been_let_be(tmp_path, let_be, kind):
    (options, files), rng = KINDS[kind], np.random.default_rng(len(kind))
    out, kills, went_on, finished = tmp_path / "0", 0, 0, 0
    while kills < KILLS or not finished:
        process = children.start(command := goes_on(out, options))
        process.join(rng.uniform(0.05, 0.8) if kills < KILLS else 60)
        if process.is_alive():
            process.kill()
            process.join()
            kills += 1
            went_on += command[1] == "--resume"
        ended = process.exitcode != -signal.SIGKILL
        if ended or (out / "result.json").exists():     # or killed at its end
            assert not ended or process.exitcode == 0, children.output_file(command).read_text()
            assert content(out, files) == let_be(kind)
            left = [path.name for path in out.iterdir() if path.name.startswith((".fastmlp", "checkpoint"))]
            assert not (ended and left)
            finished += 1
            out = tmp_path / str(finished)
    assert went_on > 0


@pytest.mark.parametrize("moment", ["before it is on disk", "half of it", "before the rename", "after the rename"])
@pytest.mark.parametrize("checkpoint", [1, 3])
def test_killed_while_a_checkpoint_is_written_nothing_is_lost(tmp_path, let_be, moment, checkpoint):
    options, files = KINDS["alone"]
    out = tmp_path / "run"
    code, _ = children.run(["train", *options, *OFTEN, "--out", out], children.die_at, moment, checkpoint)
    assert code == -signal.SIGKILL
    assert bool(list(out.glob("checkpoint*"))) == (checkpoint > 1 or moment == "after the rename")
    assert bool(list(out.glob(".fastmlp*"))) == (moment != "after the rename")
    code, output = children.run(goes_on(out, options))
    assert code == 0, output
    assert content(out, files) == let_be("alone")
    assert not list(out.glob(".fastmlp*"))


def interrupted(out, by=signal.SIGTERM, options=ALONE):
    """A run that was asked to end after its first checkpoint."""
    command = ["train", *options, *OFTEN, "--out", out]
    process, deadline = children.start(command), time.monotonic() + 60
    while not list(out.glob("checkpoint*")):
        assert time.monotonic() < deadline
        assert process.is_alive(), children.output_file(command).read_text()
        time.sleep(0.005)
    os.kill(process.pid, by)
    process.join(60)
    return process.exitcode, children.output_file(command).read_text()


@pytest.mark.parametrize(("by", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_asked_to_end_a_run_is_saved_and_says_how_to_go_on(tmp_path, let_be, by, code):
    out = tmp_path / "run"
    ended, output = interrupted(out, by)
    assert ended == code, output
    assert f"fastmlp train --resume {out} goes on" in output
    assert f'"interrupted_by": "{signal.Signals(by).name}"' in (out / "result.json").read_text()
    code, output = children.run(["train", "--resume", out])
    assert code == 0, output
    assert "resume from step" in output
    assert content(out, KINDS["alone"][1]) == let_be("alone")


@pytest.mark.parametrize("more", [[], ["--members", "2"]])
def test_no_way_on_is_promised_that_there_is_not(tmp_path, capsys, monkeypatch, more):
    """Where results fit on a disk and the checkpoint does not."""
    write = tensor_files.write_atomically

    def full(path, data):
        if path.name.startswith("checkpoint"):
            raise OutputError(f"cannot write {path}: No space left on device")
        write(path, data)

    monkeypatch.setattr(tensor_files, "write_atomically", full)
    monkeypatch.setattr("fastmlp.interrupts.Interruption.__call__", lambda _: True)
    with pytest.warns(RuntimeWarning, match="there is none yet"):
        assert main(["train", "--hidden", "5", "--device", "cpu", *more, "--out", str(tmp_path / "a b")]) == 130
    assert capsys.readouterr().out.endswith("no checkpoint could be written, so this training cannot go on\n")
    monkeypatch.setattr(tensor_files, "write_atomically", write)
    assert main(["train", "--hidden", "5", "--device", "cpu", *more, "--out", str(tmp_path / "c d")]) == 130
    assert capsys.readouterr().out.endswith(f"fastmlp train --resume '{tmp_path / 'c d'}' goes on\n")


def test_what_the_process_is_told_to_ignore_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stop_on_interrupt(quiet=True) as stopped:
            os.kill(os.getpid(), signal.SIGINT)
            assert not stopped()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_full_disk_costs_the_checkpoints_that_do_not_fit_but_not_the_one_before(tmp_path, let_be):
    out = tmp_path / "run"
    interrupted(out)
    before = (out / "checkpoint-000.safetensors").read_bytes()
    code, output = children.run(["train", "--resume", out, "--checkpoint-every", "20"], children.no_larger_file_than,
                                8000)
    assert code == 2, output
    assert "no checkpoint at step" in output
    assert "File too large; the one before is kept" in output
    assert output.splitlines()[-1].startswith("fastmlp: cannot write ")
    assert output.endswith(f"; fastmlp train --resume {out} goes on\n")
    assert "Traceback" not in output
    assert (out / "checkpoint-000.safetensors").read_bytes() == before
    assert not list(out.glob(".fastmlp*"))
    assert children.run(["train", "--resume", out])[0] == 0
    assert content(out, KINDS["alone"][1]) == let_be("alone")


def test_in_a_read_only_folder_nothing_is_begun_and_nothing_lost(tmp_path):
    out = tmp_path / "parent" / "run"
    out.parent.mkdir()
    interrupted(out)
    before = content(out, [path.name for path in out.iterdir()])
    output = children.output_file(["--out", out / "new"])
    output.touch()
    for folder in (out, out.parent):
        folder.chmod(0o555)
    try:
        for command in (["train", "--resume", out], ["train", *ALONE, "--out", out / "new"]):
            code, said = children.run(command, children.heed_permissions)
            assert code == 2, said
            assert said.startswith("fastmlp: cannot write results to ")
            assert said.endswith("Permission denied; name another folder\n")
        out.chmod(0o333)
        code, said = children.run(["train", *ALONE, "--out", out], children.heed_permissions)
        assert (code, said) == (2, f"fastmlp: cannot lock {out}: Permission denied; name another folder\n")
        out.chmod(0o755)
        assert content(out, before) == before
    finally:
        for folder in (out.parent, out):
            folder.chmod(0o755)


# ------------------------------------------------------------------------------------------------ what is refused

@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run on a file that was stopped."""
    folder = tmp_path_factory.mktemp("stopped")
    rng = np.random.default_rng(0)
    np.savez(folder / "data.npz", X=rng.normal(size=(200, 5)), y=np.arange(200) % 2)
    interrupted(folder / "run", options=["--data", str(folder / "data.npz"), "--hidden", "5", "--cycles", "60"])
    return folder


@pytest.fixture
def copied(stopped, tmp_path):
    shutil.copytree(stopped / "run", tmp_path / "run")
    return tmp_path / "run"


def refused(capsys, *arguments):
    """The one sentence that a command ends with; the folder stays as it is."""
    assert main(["train", *map(str, arguments)]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("fastmlp: ")
    assert captured.err.count("\n") == 1
    return captured.err


@pytest.mark.parametrize(("options", "words"), [
    (["--l2", "0.1"], "--l2 0.1: the run in .* was begun with 0.005; leave it out"),
    (["--hidden", "5", "5"], "--hidden 5 5: the run in .* was begun with 5;"),
    (["--data", "digits"], "digits holds other data, or other rows to train on"),
    (["--seed", "1"], "--seed 1: "), (["--members", "3"], "--members 3: the run"),
    (["--out", "elsewhere"], "--out elsewhere: a run that goes on stays in its folder"),
    (["--kernels", "numpy"], "--kernels numpy: "),
])
def test_another_option_is_named_with_both_values(copied, capsys, options, words):
    before = content(copied, [path.name for path in copied.iterdir()])
    message = refused(capsys, "--resume", copied, *options)
    assert re.search(words, message), message
    assert content(copied, before) == before


def test_a_configuration_that_was_edited_is_named(copied, capsys):
    config = copied / "config.json"
    config.write_text(config.read_text().replace('"l2": 0.005', '"l2": 0.1'))
    assert "l2 is 0.1 in config.json, and the run was begun with 0.005" in refused(capsys, "--resume", copied)


def test_other_data_are_named(copied, stopped, capsys):
    with np.load(stopped / "data.npz") as file:
        arrays = dict(file)
    try:
        np.savez(stopped / "data.npz", X=arrays["X"] + np.eye(200, 5) * 1e-9, y=arrays["y"])
        assert "data.npz holds other data, or other rows to train on" in refused(capsys, "--resume", copied)
    finally:
        np.savez(stopped / "data.npz", **arrays)


@pytest.mark.parametrize(("change", "words"), [
    (lambda header: header.update(version="0.0.1"), "begun by fastmlp 0.0.1, and this is "),
    (lambda header: header.update(device="gpu"), "begun on the gpu, and this is the cpu, whose numbers differ"),
    (lambda header: header["options"].update(l2="no number"), "the options in its checkpoint are not whole"),
    (lambda header: header["options"].update(colour=3), "unknown option 'colour'"),
    (lambda header: header.pop("options"), "does not say with which options"),
])
def test_another_version_device_or_a_header_that_is_not_whole_is_named(copied, capsys, change, words):
    path = copied / "checkpoint-000.safetensors"
    header, tensors = read_tensors(path, FORMAT, "checkpoint", CheckpointError)
    change(header)
    write_tensors(path, header, tensors)
    assert words in refused(capsys, "--resume", copied)


def test_the_way_out_that_is_named_for_another_device_is_one(copied, capsys):
    path = copied / "checkpoint-000.safetensors"
    header, tensors = read_tensors(path, FORMAT, "checkpoint", CheckpointError)
    header["options"]["device"] = "auto"
    write_tensors(path, header | {"device": "gpu"}, tensors)
    words = refused(capsys, "--resume", copied).strip().partition("go on with ")[2].split()
    assert words == ["--device", "gpu"]
    write_tensors(path, header, tensors)
    assert main(["train", "--resume", str(copied), "--device", "cpu", "--quiet"]) == 0


def test_a_run_does_not_go_on_with_other_kernels_because_the_compiler_has_gone(tmp_path, capsys, monkeypatch):
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("fastmlp.interrupts.Interruption.__call__", lambda _: True)
        assert main(["train", "--hidden", "5", "--device", "cpu", "--quiet", "--out", str(out)]) == 130
    if "compiled kernels" not in json.loads((out / "environment.json").read_text())["device"]:
        pytest.skip("there is no compiler")

    def gone(*_):
        raise DeviceError("there is no C compiler")

    monkeypatch.setattr("fastmlp.kernels.compiled.CompiledKernels", gone)
    backend._cpu_kernels.cache_clear()
    try:
        assert "kernels 'compiled' cannot be used" in refused(capsys, "--resume", out)
    finally:
        backend._cpu_kernels.cache_clear()


def test_data_that_lie_elsewhere_now_are_gone_on_with(copied, stopped, tmp_path):
    shutil.copy(stopped / "data.npz", tmp_path / "data.npz")
    assert main(["train", "--resume", str(copied), "--data", str(tmp_path / "data.npz"), "--quiet"]) == 0


def test_rows_on_disk_keep_their_order_whatever_memory_is_free(tmp_path, capsys, monkeypatch):
    """And those that were in memory do not go on in the order of those on disk."""
    rng = np.random.default_rng(0)
    np.save(tmp_path / "X.npy", rng.normal(size=(20000, 40)).astype(np.float32))
    np.save(tmp_path / "y.npy", np.arange(20000) % 2)
    options = ["--data", tmp_path / "X.npy", "--target", tmp_path / "y.npy", "--hidden", "5", "--cycles", "1",
               "--step-size", "200", "--device", "cpu", "--quiet"]

    def train(free, *arguments):
        monkeypatch.setattr("fastmlp.data.loading.free_memory", lambda: free)
        return main(["train", *map(str, arguments)])

    def stop(free, out):
        with monkeypatch.context() as patch:
            asked = itertools.count()
            patch.setattr("fastmlp.interrupts.Interruption.__call__", lambda _: next(asked) > 1)
            assert train(free, *options, "--out", out) == 130

    assert train(4_000_000, *options, "--out", tmp_path / "whole") == 0
    stop(4_000_000, tmp_path / "disk")
    assert train(10**9, "--resume", tmp_path / "disk") == 0
    files = ["history.csv", "model.safetensors"]
    assert content(tmp_path / "disk", files) == content(tmp_path / "whole", files)
    stop(10**9, tmp_path / "memory")
    assert train(4_000_000, "--resume", tmp_path / "memory") == 2
    assert "begun with its data in memory, and now they are on disk, with --data-memory 2000000" in (
        capsys.readouterr().err)
    assert train(4_000_000, "--resume", tmp_path / "memory", "--data-memory", "1GB") == 0


def test_another_machine_is_a_note(copied):
    path = copied / "checkpoint-000.safetensors"
    header, tensors = read_tensors(path, FORMAT, "checkpoint", CheckpointError)
    header["computed_by"] = "cpu: another one"
    write_tensors(path, header, tensors)
    code, output = children.run(["train", "--resume", copied])
    assert code == 0, output
    assert "and the run was begun on cpu: another one: last digits may differ" in output


def test_what_cannot_go_on_says_so(tmp_path, stopped, copied, capsys):
    assert "there is no such folder" in refused(capsys, "--resume", tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    assert "there is no checkpoint in it" in refused(capsys, "--resume", tmp_path / "empty")
    assert "holds a training that was stopped: go on with it by fastmlp train --resume" in refused(
        capsys, "--data", stopped / "data.npz", "--out", copied)
    assert children.run(["train", "--resume", copied])[0] == 0
    assert "that run was not stopped; its result is in result.json" in refused(capsys, "--resume", copied)


@pytest.mark.parametrize("status", ["finished", "diverged"])
def test_a_run_that_was_killed_while_it_removed_its_checkpoints_is_not_trained_again(copied, capsys, status):
    result = copied / "result.json"
    result.write_text(result.read_text().replace('"interrupted"', f'"{status}"'))
    assert "that run was not stopped; its result is in result.json" in refused(capsys, "--resume", copied)
    assert not list(copied.glob("checkpoint*"))


def test_the_folder_of_a_run_that_goes_on_may_be_named_twice(copied):
    assert main(["train", "--resume", str(copied), "--out", f"{copied}/../run", "--quiet"]) == 0


def test_a_folder_in_use_is_not_taken(tmp_path, copied, capsys):
    with run_folder(tmp_path / "new"):
        assert "is in use by another run" in refused(capsys, "--hidden", "5", "--out", tmp_path / "new")
    with run_folder(copied, resumed=True):
        assert "is in use by another run" in refused(capsys, "--resume", copied)
    with run_folder(tmp_path / "new"):
        pass


def test_a_checkpoint_in_place_of_its_folder_says_what_to_name(copied, capsys):
    message = refused(capsys, "--resume", copied / "checkpoint-000.safetensors")
    assert f"it is a file: name the folder, {copied}" in message


def test_who_lost_the_checkpoint_is_not_sent_to_a_folder_that_is_refused(copied, capsys):
    (copied / "checkpoint-000.safetensors").unlink()
    assert "begun again in another folder" in refused(capsys, "--resume", copied)      # --out would be refused
    (copied / "result.json").unlink()
    assert f"begun again with --out {copied}" in refused(capsys, "--resume", copied)


@pytest.mark.parametrize("kernels", ["auto", "numpy"])
def test_another_number_of_threads_is_a_note_only_where_digits_depend_on_it(stopped, kernels, monkeypatch):
    options, lines = TrainOptions(data=str(stopped / "data.npz"), kernels=kernels), []
    data = load(options)
    begun, now = (make_backend(replace(options, threads=threads)) for threads in (1, 2))
    keeper = make_keeper(stopped / "run", options, data, begun)
    monkeypatch.setattr("fastmlp.resuming.read_header", lambda _: keeper._make_circumstances())
    check_circumstances(stopped / "run", data, now, lines.append)
    assert len(lines) == (not now.records)              # the compiled kernels' bits are the same


def test_a_checkpoint_that_cannot_be_removed_does_not_stop_the_sentence(copied, capsys, monkeypatch):
    def refuse(self, missing_ok=False):
        raise OSError(errno.EROFS, "Read-only file system")

    result = copied / "result.json"
    result.write_text(result.read_text().replace('"interrupted"', '"finished"'))
    monkeypatch.setattr("pathlib.Path.unlink", refuse)
    assert "that run was not stopped" in refused(capsys, "--resume", copied)
