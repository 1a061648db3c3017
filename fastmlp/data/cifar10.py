"""CIFAR-10 in its official layouts: unpacked folders and archives, binary records and pickles.

A binary record is a label byte followed by 3072 bytes of pixels: 32 x 32 red ones, then green, then blue.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from fastmlp.data.download import data_folder, download
from fastmlp.data.pickled_batch import read_pickled_batch
from fastmlp.errors import DataError

IMAGE_SHAPE = (3, 32, 32)
N_PIXELS = 3072
ROWS_PER_BATCH = 10_000
CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
TRAIN_BATCHES = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5")
TEST_BATCH = "test_batch"
BASE_URL = "https://www.cs.toronto.edu/~kriz/"
# An official pickle has 31 MB; the same pickled anew by Python 3 in protocol 2 writes most bytes as two.
MAX_FILE_BYTES = 64 << 20

Part = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]  # images (n, 3072), labels (n,)


@dataclass(frozen=True)
class Layout:
    """One of the two official forms."""

    folder: str
    archive: str
    sha256: str
    suffix: str
    pickled: bool

    def size_problem(self, size: int) -> str | None:
        """What is wrong with the size of a batch file, if anything."""
        expected = ROWS_PER_BATCH * (N_PIXELS + 1)
        if self.pickled:
            return f"has {size} bytes; at most {MAX_FILE_BYTES} are expected" if size > MAX_FILE_BYTES else None
        return f"has {size} bytes; expected {expected}" if size != expected else None


# The checksums of the archives at BASE_URL. The binary layout comes first as it needs no pickle.
BINARY = Layout(
    folder="cifar-10-batches-bin",
    archive="cifar-10-binary.tar.gz",
    sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    suffix=".bin",
    pickled=False,
)
PICKLED = Layout(
    folder="cifar-10-batches-py",
    archive="cifar-10-python.tar.gz",
    sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    suffix="",
    pickled=True,
)
LAYOUTS = (BINARY, PICKLED)


def read_parts(parts: Sequence[Sequence[str]], data_dir: str | os.PathLike[str] | None = None) -> list[Part]:
    """Read batches of CIFAR-10 from the first place that has them.

    Looked through are, in the folder that `data_folder(data_dir)` names: `cifar-10-batches-bin/`,
    `cifar-10-batches-py/`, the folder itself if it is one of the two, `cifar-10-binary.tar.gz` and
    `cifar-10-python.tar.gz`. Where nothing is found the binary archive is downloaded there. Unpacked files may be of
    one's own making; an archive must be the official one.

    Parameters
    ----------
    parts : sequence of sequences of str
        For each wanted part the names of its batches, `data_batch_1` ... `data_batch_5` or `test_batch`, no name twice.
    data_dir : path or None

    Returns
    -------
    list of (images (n, 3072) uint8, labels (n,) int64)
        One pair per part, n being 10,000 for each batch in it.

    Raises
    ------
    DataError
        For files that are missing, of another size, damaged, or not the official archive, and when the archive
        cannot be downloaded.
    MissingExtraError
        When it would have to be downloaded and pooch is missing.

    Examples
    --------
    >>> (train, test) = read_parts([["data_batch_1", "data_batch_2"], ["test_batch"]])  # doctest: +SKIP
    >>> train[0].shape  # doctest: +SKIP
    (20000, 3072)
    """
    results: list[Part] = []
    rows: dict[str, Part] = {}  # for each batch the rows of the results that it fills
    for names in parts:
        n_rows = ROWS_PER_BATCH * len(names)
        images, labels = np.empty((n_rows, N_PIXELS), np.uint8), np.empty(n_rows, np.int64)  # (n, 3072), (n,)
        results.append((images, labels))
        for number, name in enumerate(names):
            part = slice(number * ROWS_PER_BATCH, (number + 1) * ROWS_PER_BATCH)
            rows[name] = images[part], labels[part]

    root = data_folder(data_dir)
    layout, place = _find(root)
    files = _files_in_folder(place, layout, rows) if place.is_dir() else _files_in_archive(place, layout, rows)
    for name, data in files:
        _fill(*rows[name], data, layout, f"{place}: {name}{layout.suffix}")
        del data  # before the next file is read
    return results


def _find(root: Path) -> tuple[Layout, Path]:
    """The layout that is there and its folder or archive, downloaded if need be."""
    if root.exists() and not root.is_dir():
        raise DataError(f"{root} is not a folder; name the folder that holds {BINARY.folder} or {BINARY.archive}")
    for layout in LAYOUTS:
        if (root / layout.folder).is_dir():
            return layout, root / layout.folder
    for layout in LAYOUTS:
        if any((root / (name + layout.suffix)).is_file() for name in (*TRAIN_BATCHES, TEST_BATCH)):
            return layout, root
    for layout in LAYOUTS:
        if (root / layout.archive).is_file():
            return layout, root / layout.archive
    return BINARY, download(BASE_URL + BINARY.archive, BINARY.sha256, root)


def _files_in_folder(folder: Path, layout: Layout, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    for name in names:
        path = folder / (name + layout.suffix)
        try:
            if path.exists() and not path.is_file():
                raise DataError(f"{path} is not a file")    # but a folder, or a device that never ends
            if size_problem := layout.size_problem(path.stat().st_size):
                raise DataError(f"{path} {size_problem}")
            yield name, path.read_bytes()
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}; CIFAR-10 is not complete without it") from error


def _files_in_archive(archive: Path, layout: Layout, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """The wanted batches out of an archive, in its order, read from the stream: nothing is unpacked to disk."""
    wanted = {f"{layout.folder}/{name}{layout.suffix}": name for name in names}
    try:
        with archive.open("rb") as file:
            _check_sum(file, archive, layout)
            file.seek(0)
            with tarfile.open(fileobj=file, mode="r:gz") as tar:
                for member in tar:
                    _check_member(member, archive)
                    name = wanted.pop(member.name, None)
                    if name is None:
                        continue
                    if size_problem := layout.size_problem(member.size):
                        raise DataError(f"{archive}: {member.name} {size_problem}")
                    content = tar.extractfile(member)
                    if content is None:
                        raise DataError(f"{archive}: {member.name} is not a file")
                    yield name, content.read()
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise DataError(f"{archive} cannot be read, or is damaged or cut short ({error})") from error
    if wanted:
        raise DataError(f"{archive} lacks {', '.join(sorted(wanted))}")


def _check_sum(file: BufferedReader, archive: Path, layout: Layout) -> None:
    found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != layout.sha256:
        raise DataError(
            f"{archive} is not the official archive: its SHA-256 is {found}, expected {layout.sha256}; delete it to "
            f"have it downloaded anew or, if you trust it, unpack it yourself into {archive.parent / layout.folder}"
        )


def _check_member(member: tarfile.TarInfo, archive: Path) -> None:
    """Refuse what no honest archive of data holds, even though nothing is ever unpacked."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        raise DataError(f"{archive} holds {member.name!r}, a path that leads out of its folder")
    if not (member.isfile() or member.isdir()):
        raise DataError(f"{archive} holds {member.name!r}, which is neither file nor folder but a link or device")
    if member.size > MAX_FILE_BYTES:
        raise DataError(f"{archive}: {member.name} has {member.size} bytes; at most {MAX_FILE_BYTES} are expected")


def _fill(
    images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64], data: bytes, layout: Layout, where: str
) -> None:
    """Decode one batch file into its rows of images (n, 3072) and labels (n,)."""
    if layout.pickled:
        pixels, numbers = read_pickled_batch(data, (ROWS_PER_BATCH, N_PIXELS), where)  # (n, 3072)
    else:
        records = np.frombuffer(data, np.uint8).reshape(ROWS_PER_BATCH, N_PIXELS + 1)  # (n, 3073)
        pixels, numbers = records[:, 1:], records[:, 0].tolist()
    for row, label in enumerate(numbers):
        if not 0 <= label < len(CLASS_NAMES):
            raise DataError(f"{where} has the label {label} in row {row}; labels go from 0 to 9")
    images[:], labels[:] = pixels, numbers
