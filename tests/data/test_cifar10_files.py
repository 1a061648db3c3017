"""CIFAR-10 in folders and archives: where it is looked for, and what is refused."""

import functools
import http.server
import os
import pickle
import socket
import sys
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest

from fastmlp.data import cifar10, download, load_dataset
from fastmlp.data.cifar10 import BINARY, PICKLED, read_parts
from fastmlp.errors import DataError, MissingExtraError

PARTS = [["data_batch_3", "data_batch_1"], ["test_batch"]]


def names_in(folder):
    return [path.name for path in folder.iterdir()]


def assert_is_small(small, results):
    for names, (images, labels) in zip(PARTS, results, strict=True):
        assert images.dtype == np.uint8
        assert labels.dtype == np.int64
        np.testing.assert_array_equal(images, np.concatenate([small.images[name] for name in names]))
        np.testing.assert_array_equal(labels, np.concatenate([small.labels[name] for name in names]))


@pytest.mark.parametrize("layout", [BINARY, PICKLED])
def test_folder_is_read_in_the_order_asked_for(small, tmp_path, layout):
    folder = small.write_folder(tmp_path / layout.folder, layout)
    assert_is_small(small, read_parts(PARTS, tmp_path))
    assert_is_small(small, read_parts(PARTS, str(folder)))  # data_dir may itself be the folder


@pytest.mark.parametrize("layout", [BINARY, PICKLED])
def test_official_archive_is_read_without_unpacking(small, tmp_path, layout):
    small.write_archive(tmp_path, layout)
    assert_is_small(small, read_parts(PARTS, tmp_path))
    assert names_in(tmp_path) == [layout.archive]


def test_unpacked_folder_comes_before_archive(small, tmp_path):
    (tmp_path / BINARY.archive).write_bytes(b"not even an archive")
    small.write_folder(tmp_path / PICKLED.folder, PICKLED)
    assert_is_small(small, read_parts(PARTS, tmp_path))


def test_only_the_wanted_batches_are_needed(small, tmp_path):
    folder = small.write_folder(tmp_path / BINARY.folder, BINARY)
    (folder / "data_batch_5.bin").unlink()
    assert_is_small(small, read_parts(PARTS, tmp_path))
    with pytest.raises(DataError, match=r"data_batch_5\.bin cannot be read: No such file"):
        read_parts([["data_batch_5"]], tmp_path)


def test_folder_comes_from_the_environment(small, tmp_path, monkeypatch):
    small.write_folder(tmp_path / BINARY.folder, BINARY)
    monkeypatch.setenv(download.DATA_VARIABLE, str(tmp_path))
    assert_is_small(small, read_parts(PARTS))


@pytest.mark.parametrize("change", [-1, 1, -3073])
def test_binary_file_of_another_size_is_refused(small, tmp_path, change):
    folder = small.write_folder(tmp_path / BINARY.folder, BINARY)
    content = (folder / "test_batch.bin").read_bytes()
    (folder / "test_batch.bin").write_bytes(content[:change] if change < 0 else content + b"\0")
    expected = small.rows * 3073
    with pytest.raises(DataError, match=rf"test_batch\.bin has {expected + change} bytes; expected {expected}"):
        read_parts(PARTS, tmp_path)


def test_first_bad_label_is_named(small, tmp_path):
    small.labels["data_batch_1"][[7, 9]] = 10, 255
    small.write_folder(tmp_path / BINARY.folder, BINARY)
    small.write_folder(tmp_path / "other" / PICKLED.folder, PICKLED)
    for root in (tmp_path, tmp_path / "other"):
        with pytest.raises(DataError, match=r"data_batch_1(\.bin)? has the label 10 in row 7"):
            read_parts(PARTS, root)


@pytest.mark.parametrize("label", [-1, 10, 2**70, 2**2000])
def test_pickled_label_of_any_size_is_refused(small, tmp_path, label):
    folder = small.write_folder(tmp_path / PICKLED.folder, PICKLED)
    batch = {"data": small.images["test_batch"], "labels": [0] * (small.rows - 1) + [label]}
    (folder / "test_batch").write_bytes(pickle.dumps(batch, 4))
    with pytest.raises(DataError, match=f"has the label {label} in row {small.rows - 1}"):
        read_parts(PARTS, tmp_path)


def test_data_dir_that_is_a_file_is_refused(small, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="is not a folder"):
        read_parts(PARTS, tmp_path / "file")


def test_archive_with_another_checksum_is_refused_before_it_is_read(small, tmp_path, monkeypatch):
    small.write_archive(tmp_path, PICKLED)
    with (tmp_path / PICKLED.archive).open("ab") as file:
        file.write(b"\0")
    monkeypatch.setattr(tarfile, "open", lambda *_, **__: pytest.fail("the archive was opened"))
    with pytest.raises(DataError, match="SHA-256") as caught:
        read_parts(PARTS, tmp_path)
    for part in (PICKLED.archive, cifar10.LAYOUTS[1].sha256, "unpack it yourself", str(tmp_path / PICKLED.folder)):
        assert part in str(caught.value)


def member(name, kind=tarfile.REGTYPE, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (member("../../evil"), "leads out"),
        (member("cifar-10-batches-bin/../../evil"), "leads out"),
        (member("/tmp/evil"), "leads out"),
        (member("cifar-10-batches-bin/data_batch_1.bin", tarfile.SYMTYPE, "/etc/passwd"), "link or device"),
        (member("hard", tarfile.LNKTYPE, "cifar-10-batches-bin/data_batch_1.bin"), "link or device"),
        (member("device", tarfile.CHRTYPE), "link or device"),
        (member("pipe", tarfile.FIFOTYPE), "link or device"),
    ],
)
@pytest.mark.parametrize("position", [0, -1])
def test_archive_with_a_dangerous_member_is_refused(small, tmp_path, bad, message, position):
    members = small.members(BINARY)
    members.insert(position, (bad, b""))
    small.write_archive(tmp_path, BINARY, members)
    with pytest.raises(DataError, match=message):
        read_parts(PARTS, tmp_path)
    assert names_in(tmp_path) == [BINARY.archive]


def test_oversized_member_is_refused_before_it_is_read(small, tmp_path, monkeypatch):
    monkeypatch.setattr(cifar10, "MAX_FILE_BYTES", 200_000)
    small.write_archive(tmp_path, BINARY, [("readme.html", bytes(200_001)), *small.members(BINARY)])
    with pytest.raises(DataError, match=r"readme\.html has 200001 bytes"):
        read_parts(PARTS, tmp_path)


def test_member_of_another_size_is_refused(small, tmp_path):
    small.write_archive(tmp_path, BINARY, [(name, content[:-1]) for name, content in small.members(BINARY)])
    with pytest.raises(DataError, match=f"data_batch_1.bin has {small.rows * 3073 - 1} bytes"):
        read_parts(PARTS, tmp_path)


def test_oversized_pickle_is_refused_before_it_is_read(small, tmp_path, monkeypatch):
    monkeypatch.setattr(cifar10, "MAX_FILE_BYTES", 1000)
    small.write_folder(tmp_path / PICKLED.folder, PICKLED)
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("the file was read"))
    with pytest.raises(DataError, match="at most 1000"):
        read_parts(PARTS, tmp_path)


def test_archive_that_lacks_a_batch_is_refused(small, tmp_path):
    small.write_archive(tmp_path, BINARY, [pair for pair in small.members(BINARY) if "test" not in pair[0]])
    with pytest.raises(DataError, match=r"lacks cifar-10-batches-bin/test_batch\.bin"):
        read_parts(PARTS, tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.95, 0.9999])
def test_archive_cut_short_is_refused(small, tmp_path, share):
    content = small.write_archive(tmp_path, BINARY).read_bytes()
    content = content[: int(share * len(content))]
    (tmp_path / BINARY.archive).write_bytes(content)
    small.trust(content, BINARY)
    with pytest.raises(DataError, match="damaged or cut short"):
        read_parts(PARTS, tmp_path)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serves the folder tmp_path/served on this machine."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder)) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        monkeypatch.setattr(cifar10, "BASE_URL", f"http://127.0.0.1:{running.server_port}/")
        yield folder
        running.shutdown()
        thread.join()


def test_absent_data_is_downloaded_once(small, server, tmp_path):
    archive = small.write_archive(server, BINARY)
    target = tmp_path / "new" / "folder"
    assert_is_small(small, read_parts(PARTS, target))
    assert names_in(target) == [BINARY.archive]
    archive.unlink()
    assert_is_small(small, read_parts(PARTS, target))


def test_download_with_another_checksum_leaves_nothing(small, server, tmp_path):
    small.write_archive(server, BINARY)
    (server / BINARY.archive).write_bytes(b"something else")
    with pytest.raises(DataError, match="could not be downloaded"):
        read_parts(PARTS, tmp_path / "new")
    assert names_in(tmp_path / "new") == []


def test_without_network_the_file_and_its_place_are_named(small, tmp_path):
    with pytest.raises(DataError, match="could not be downloaded") as caught:
        read_parts(PARTS, tmp_path)
    assert f"put {BINARY.archive} into {tmp_path}" in str(caught.value)


def test_a_server_that_never_answers_is_given_up(small, tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(cifar10, "BASE_URL", f"http://127.0.0.1:{silent.getsockname()[1]}/")
        monkeypatch.setattr(download, "TIMEOUT_SECONDS", 0.1)
        with pytest.raises(DataError, match=r"could not be downloaded .*timed out"):
            read_parts(PARTS, tmp_path)


def test_without_pooch_the_extra_is_named(small, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(MissingExtraError, match=r'pip install "fastmlp\[data\]"') as caught:
        read_parts(PARTS, tmp_path)
    assert f"put {BINARY.archive} into {tmp_path}" in str(caught.value)


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"XDG_CACHE_HOME": "/caches"}, "/caches/fastmlp"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "/home/ada/.cache/fastmlp"),
        ("linux", {}, "/home/ada/.cache/fastmlp"),
        ("darwin", {}, "/home/ada/Library/Caches/fastmlp"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/fastmlp/Cache"),
        ("win32", {}, "/home/ada/AppData/Local/fastmlp/Cache"),
        ("linux", {"FASTMLP_DATA": "~/data"}, "/home/ada/data"),
    ],
)
def test_default_folder_follows_the_platform(monkeypatch, platform, variables, expected):
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA", "FASTMLP_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setattr(sys, "platform", platform)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert download.data_folder() == Path(expected)


@pytest.mark.skipif("FASTMLP_TEST_CIFAR10" not in os.environ, reason="FASTMLP_TEST_CIFAR10 names no folder")
def test_real_cifar10_has_its_known_shape():
    data = load_dataset("cifar10", data_dir=os.environ["FASTMLP_TEST_CIFAR10"])
    assert [len(part) for part in (data.x_train, data.x_val, data.x_test)] == [45_000, 5_000, 10_000]
    for labels, each in ((data.y_train, 4500), (data.y_val, 500), (data.y_test, 1000)):
        np.testing.assert_array_equal(np.bincount(labels), np.full(10, each))
    assert 110 < data.x_train.mean() < 130
