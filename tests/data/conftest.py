"""Small CIFAR-10 files in every official form, made here: 40 images a batch instead of 10,000."""

import hashlib
import io
import pickle
import tarfile
from dataclasses import replace

import numpy as np
import pytest

from fastmlp.data import cifar10, download

ROWS = 40
BATCHES = (*cifar10.TRAIN_BATCHES, cifar10.TEST_BATCH)


def python2_text(text):
    return b"U" + bytes([len(text)]) + text.encode()


def python2_pickle(images, labels, dtype=b"u1"):
    """A batch in the byte form in which Python 2 and NumPy 1 wrote the official ones: protocol 2, text for bytes."""
    n_rows, n_pixels = images.shape
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    array = b"cnumpy.core.multiarray\n_reconstruct\nq\x01(cnumpy\nndarray\nq\x02K\x00\x85U\x01bq\x03tRq\x04"
    array += b"(K\x01M" + n_rows.to_bytes(2, "little") + b"M" + n_pixels.to_bytes(2, "little") + b"\x86q\x05"
    array += b"cnumpy\ndtype\nq\x06U" + bytes([len(dtype)]) + dtype + b"K\x00K\x01\x87Rq\x07"
    array += b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array += b"\x89T" + images.nbytes.to_bytes(4, "little") + images.tobytes() + b"tb"
    names = b"](" + b"".join(python2_text(f"image_{row}.png") for row in range(n_rows)) + b"e"
    return (
        b"\x80\x02}q\x00(" + python2_text("batch_label") + python2_text("training batch 1 of 5")
        + python2_text("labels") + numbers + python2_text("data") + array + python2_text("filenames") + names + b"u."
    )


def python3_pickle(images, labels, protocol, key=str):
    """A batch pickled anew, with text or bytes for keys."""
    batch = {"batch_label": b"training batch", "labels": labels.tolist(), "data": images, "filenames": [b"a.png"]}
    return pickle.dumps({key(name): value for name, value in batch.items()}, protocol)


def binary_records(images, labels):
    return np.hstack([labels[:, None].astype(np.uint8), images]).tobytes()


def tar_bytes(members):
    """A .tar.gz of (TarInfo or name, content) pairs."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as tar:
        for member, content in members:
            info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member)
            if info.isfile():
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


class SmallCifar10:
    """Images and labels per batch, and how to write them to a folder; `trust` makes a checksum the expected one."""

    rows = ROWS
    python2_pickle = staticmethod(python2_pickle)
    python3_pickle = staticmethod(python3_pickle)
    binary_records = staticmethod(binary_records)
    tar_bytes = staticmethod(tar_bytes)

    def __init__(self, monkeypatch):
        self.monkeypatch = monkeypatch
        generator = np.random.default_rng(0)
        self.images = {name: generator.integers(0, 256, (ROWS, 3072), np.uint8) for name in BATCHES}
        self.labels = {name: generator.permutation(np.arange(ROWS) % 10) for name in BATCHES}

    def files(self, layout):
        form = python2_pickle if layout.pickled else binary_records
        return {name + layout.suffix: form(self.images[name], self.labels[name]) for name in BATCHES}

    def write_folder(self, folder, layout):
        folder.mkdir(parents=True)
        for name, content in self.files(layout).items():
            (folder / name).write_bytes(content)
        return folder

    def members(self, layout):
        return [(f"{layout.folder}/{name}", content) for name, content in self.files(layout).items()]

    def write_archive(self, root, layout, members=None):
        content = tar_bytes(self.members(layout) if members is None else members)
        (root / layout.archive).write_bytes(content)
        self.trust(content, layout)
        return root / layout.archive

    def trust(self, content, layout):
        trusted = replace(layout, sha256=hashlib.sha256(content).hexdigest())
        layouts = tuple(trusted if known.archive == layout.archive else known for known in cifar10.LAYOUTS)
        self.monkeypatch.setattr(cifar10, "LAYOUTS", layouts)
        if not layout.pickled:
            self.monkeypatch.setattr(cifar10, "BINARY", trusted)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(cifar10, "ROWS_PER_BATCH", ROWS)
    monkeypatch.setattr(cifar10, "BASE_URL", "http://127.0.0.1:9/")  # no test may reach the real one
    monkeypatch.delenv(download.DATA_VARIABLE, raising=False)
    return SmallCifar10(monkeypatch)
