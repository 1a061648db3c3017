"""Every reader with small files that it reads: what mutations begin with.

A reader that comes later is one more line in READERS.
"""

from __future__ import annotations

import gzip
import io
import pickle
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas
import pyarrow
from pyarrow import parquet

from fastmlp import load_dataset
from fastmlp.config import TrainOptions
from fastmlp.data import cifar10, read_examples
from fastmlp.errors import ConfigError
from fastmlp.options import build, read_toml
from fuzz.tensor_samples import (
    checkpoints,
    header_of,
    models,
    read_checkpoint,
    read_classifier,
    read_model,
    with_header,
)

ROWS = 4            # images a batch of CIFAR-10 instead of 10,000

Samples = Callable[[], list[bytes]]


def same(content: bytes) -> bytes:
    """What is mutated is the file."""
    return content


@dataclass(frozen=True)
class Reader:
    """One way into the library.

    Attributes
    ----------
    name : what tables call it
    file : the mutated file's path in a folder
    samples : good contents of it
    read : reads it as users do, given its path
    wrap : from the mutated content to the file's, where mutations shall act within a compressed container
    beside : good files that lie in the folder, too
    """

    name: str
    file: str
    samples: Samples
    read: Callable[[Path], Any]
    wrap: Callable[[bytes], bytes] = same
    beside: Mapping[str, Samples] = field(default_factory=dict)

    def place(self, folder: Path, content: bytes) -> Path:
        """Write the file into a folder, and what must lie beside it."""
        path = folder / self.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.wrap(content))
        for name, samples in self.beside.items():
            if not (folder / name).exists():
                (folder / name).write_bytes(samples()[0])
        return path


# ------------------------------------------------------------------------------------------------- CIFAR-10

def images() -> np.ndarray:
    """Images (ROWS, 3072)."""
    return np.random.default_rng(0).integers(0, 256, (ROWS, cifar10.N_PIXELS), np.uint8)


def records() -> list[bytes]:
    """A batch in the binary layout."""
    return [np.hstack([np.arange(ROWS, dtype=np.uint8)[:, None], images()]).tobytes()]


def pickles() -> list[bytes]:
    """A batch as Python 2 and 3 pickle it."""
    batch = {"labels": list(range(ROWS)), "data": images(), "filenames": ["a.png"]}
    return [pickle.dumps(batch, protocol) for protocol in (2, 4, 5)]


def tars(layout: cifar10.Layout, batches: Samples) -> Samples:
    """The same batch as a tar file."""
    def make() -> list[bytes]:
        buffer, content = io.BytesIO(), batches()[0]
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for name in ("readme.html", "data_batch_1" + layout.suffix):
                info = tarfile.TarInfo(f"{layout.folder}/{name}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        return [buffer.getvalue()]
    return make


def compressed(samples: Samples) -> Samples:
    """Each of the samples through gzip."""
    return lambda: [pack(sample) for sample in samples()]


def pack(content: bytes) -> bytes:
    """Compressed by gzip."""
    return gzip.compress(content, 1, mtime=0)


def read_cifar10(path: Path) -> Any:
    """The first batch; an archive is trusted, as mutations would otherwise never get past its checksum."""
    root = path.parent if path.name.endswith(".gz") else path.parent.parent
    with mock.patch.object(cifar10, "ROWS_PER_BATCH", ROWS), mock.patch.object(cifar10, "_check_sum"):
        return cifar10.read_parts([["data_batch_1"]], root)


# --------------------------------------------------------------------------------------------------- arrays

def npy(array: np.ndarray) -> bytes:
    """An array in .npy form."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def matrices() -> list[bytes]:
    """Some X (12, 4), as .npy."""
    x = np.random.default_rng(0).normal(size=(12, 4))
    return [npy(x), npy(np.asfortranarray(x.astype(np.float32))), npy((9 * x).astype(np.int16)),
            npy(x.astype(np.float32).reshape(12, 1, 2, 2))]


def rows_in_order() -> list[bytes]:
    """Those of them whose rows can be read one by one."""
    return [sample for sample in matrices() if b"'fortran_order': False" in sample]


def labels() -> list[bytes]:
    """Some y (12,), as .npy."""
    return [npy(np.arange(12) % 3), npy(np.array(["cat", "dog", "ant"] * 4))]


def npy_headers() -> list[bytes]:
    """What stands in the head of an .npy file."""
    return [b"{'descr': '<f4', 'fortran_order': False, 'shape': (12, 4), }\n",
            b"{'descr': '|u1', 'fortran_order': True, 'shape': (12L, 4, 4), }\n"]


def with_npy_header(content: bytes) -> bytes:
    """An .npy file with this header, of the right length, and 192 bytes of numbers."""
    return b"\x93NUMPY\x01\x00" + min(len(content), 65535).to_bytes(2, "little") + content[:65535] + bytes(192)


def zipped(compression: int = zipfile.ZIP_DEFLATED) -> Callable[[bytes], bytes]:
    """Puts X into an .npz beside a good y, with correct checksums."""
    def make(content: bytes) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", compression) as archive:
            archive.writestr(zipfile.ZipInfo("X.npy"), content, compression)
            archive.writestr(zipfile.ZipInfo("y.npy"), labels()[0], compression)
        return buffer.getvalue()
    return make


def zips() -> list[bytes]:
    """Whole .npz files, stored and compressed."""
    arrays = {"X": np.eye(12, 4), "y": np.arange(12) % 3, "X_test": np.eye(3, 4), "y_test": np.arange(3)}
    made = []
    for save_zip in (np.savez, np.savez_compressed):
        buffer = io.BytesIO()
        save_zip(buffer, **arrays)
        made.append(buffer.getvalue())
    return made


# --------------------------------------------------------------------------------------------------- tables

def frame() -> pandas.DataFrame:
    """Twelve rows, two inputs, labels `kind`."""
    return pandas.DataFrame({"a": np.arange(12) / 8, "b": np.arange(12), "kind": ["cat", "dog", "ant"] * 4})


def tables() -> list[bytes]:
    """As CSV."""
    text = frame().to_csv(index=False)
    return [text.encode(), text.replace("\n", "\r\n").encode("utf-8-sig"), text.replace("cat", '"=1+1"').encode()]


def parquets() -> list[bytes]:
    """As Parquet, uncompressed and compressed, with and without a dictionary."""
    made = []
    for compression, dictionary in (("none", False), ("snappy", True), ("zstd", True), ("gzip", False)):
        buffer = io.BytesIO()
        parquet.write_table(pyarrow.Table.from_pandas(frame()), buffer, compression=compression,
                            use_dictionary=dictionary)
        made.append(buffer.getvalue())
    return made


# ------------------------------------------------------------------------------------------- configurations

def configurations() -> list[bytes]:
    """TOML for `fastmlp train --config`."""
    return [b'hidden = [50, 50]\ndata = "pets.csv"\ntarget = "kind"\nlr-max = 0.1\nbatch_norm = false\n'
            b'train_batches = ["1-3", 4]\n# a comment\nvalidation = 0.1\ndata-memory = "2GB"\n',
            b'sweep = ["l2=1e-5..1e-1:5", "init=he,xavier"]\nmembers = 4\nfolds = 5\nout = "runs"\nseed = 0x10\n']


def read_configuration(path: Path) -> Any:
    """As `fastmlp train --config` does.

    Where options contradict each other, one of them may come from the command line: that sentence names the options.
    """
    given = read_toml(path, TrainOptions)
    try:
        return build(TrainOptions, given)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


READERS = (
    Reader("CIFAR-10 binary folder", "cifar-10-batches-bin/data_batch_1.bin", records, read_cifar10),
    Reader("CIFAR-10 pickled folder", "cifar-10-batches-py/data_batch_1", pickles, read_cifar10),
    Reader("CIFAR-10 binary archive", cifar10.BINARY.archive, compressed(tars(cifar10.BINARY, records)), read_cifar10),
    Reader("CIFAR-10 pickled archive", cifar10.PICKLED.archive, compressed(tars(cifar10.PICKLED, pickles)),
           read_cifar10),
    Reader("CIFAR-10 archive, its tar", cifar10.PICKLED.archive, tars(cifar10.PICKLED, pickles), read_cifar10, pack),
    Reader(".npz", "data.npz", zips, load_dataset),
    Reader(".npz, an array in it", "data.npz", matrices, load_dataset, zipped()),
    Reader(".npy", "X.npy", matrices, lambda path: load_dataset(path, target=str(path.with_name("y.npy"))),
           beside={"y.npy": labels}),
    Reader(".npy, on disk", "X.npy", rows_in_order, lambda path: load_dataset(
        path, target=str(path.with_name("y.npy")), data_memory=1), beside={"y.npy": labels}),
    Reader(".npy, its header", "X.npy", npy_headers, lambda path: load_dataset(
        path, target=str(path.with_name("y.npy"))), with_npy_header, beside={"y.npy": labels}),
    Reader(".npy, labels", "y.npy", labels, lambda path: load_dataset(
        path.with_name("X.npy"), target=str(path)), beside={"X.npy": matrices}),
    Reader("CSV", "pets.csv", tables, lambda path: load_dataset(path, target="kind")),
    Reader("CSV, to predict", "pets.csv", tables, lambda path: read_examples(path, target="kind")),
    Reader("Parquet", "pets.parquet", parquets, lambda path: load_dataset(path, target="kind")),
    Reader("Parquet, on disk", "pets.parquet", parquets, lambda path: load_dataset(path, target="kind", data_memory=1)),
    Reader("model", "model.safetensors", models, read_model),
    Reader("model, its header", "model.safetensors", header_of(models, 0), read_model, with_header(models, 0)),
    Reader("ensemble, its header", "model.safetensors", header_of(models, 1), read_model, with_header(models, 1)),
    Reader("estimator", "model.safetensors", models, read_classifier),
    Reader("estimator, its header", "model.safetensors", header_of(models, 2), read_classifier,
           with_header(models, 2)),
    Reader("checkpoint", "checkpoint-000.safetensors", checkpoints, read_checkpoint),
    Reader("checkpoint, its header", "checkpoint-000.safetensors", header_of(checkpoints, 0), read_checkpoint,
           with_header(checkpoints, 0)),
    Reader("TOML", "options.toml", configurations, read_configuration),
)
