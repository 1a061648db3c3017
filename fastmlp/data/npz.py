"""Read arrays from an .npz file, without pickle and without trusting the sizes it declares."""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from fastmlp.data.dataset import ExampleSet
from fastmlp.data.validate import as_numbers
from fastmlp.errors import DataError

# An array of more than 1 GiB that takes less than 1/500 of that on disk is no data but a bomb; zeros take 1/1000.
MAX_UNSUSPECTED_BYTES = 1 << 30
MAX_EXPANSION = 500


def read_npz(path: Path) -> tuple[ExampleSet, ExampleSet | None]:
    """Read X, y and, where they are there, X_test, y_test.

    Parameters
    ----------
    path : Path
        X is (n, D), or images (n, height, width) or (n, channels, height, width), which become rows; y is (n,) and may
        be absent.

    Returns
    -------
    examples : ExampleSet
        From X and y.
    test : ExampleSet or None
        From X_test and y_test.

    Raises
    ------
    DataError
        For a file that cannot be read or is damaged, arrays that are missing, not numeric, of unsuitable shapes, made
        of Python objects, or much larger than the file can honestly hold.

    Examples
    --------
    >>> np.savez("points.npz", X=np.eye(3), y=np.arange(3))  # doctest: +SKIP
    >>> read_npz(Path("points.npz"))[0].x.shape  # doctest: +SKIP
    (3, 3)
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            arrays = {
                name: _read_array(archive, members[name], f"{path}: {name}")
                for name in ("X", "y", "X_test", "y_test")
                if name in members
            }
    except DataError:
        raise
    # NotImplementedError and RuntimeError: compression or encryption that zipfile cannot undo
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{path} cannot be read as an .npz file: {error}") from error
    if "X" not in arrays:
        found = ", ".join(members) or "nothing"
        raise DataError(f"{path} has no array X; it holds {found}. Save X (and y) by np.savez(path, X=X, y=y)")
    if "y_test" in arrays and "X_test" not in arrays:
        raise DataError(f"{path} has y_test but no X_test")
    examples = _examples(path, arrays["X"], arrays.get("y"), "X")
    if "X_test" not in arrays:
        return examples, None
    test = _examples(path, arrays["X_test"], arrays.get("y_test"), "X_test")
    if test.x.shape[1] != examples.x.shape[1]:
        raise DataError(f"{path}: X_test has {test.x.shape[1]} columns but X has {examples.x.shape[1]}")
    return examples, test


def _read_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, where: str) -> npt.NDArray[Any]:
    """Read one array after making sure that its header, its member and the file agree on how large it is."""
    if info.file_size > max(MAX_UNSUSPECTED_BYTES, MAX_EXPANSION * info.compress_size):
        raise DataError(
            f"{where} claims {info.file_size} bytes out of {info.compress_size}; no honest array shrinks so far"
        )
    with archive.open(info) as member:
        shape, dtype = _read_header(member, where)
        n_bytes = info.file_size - member.tell()
    if dtype.hasobject:
        raise DataError(f"{where} holds Python objects, which for safety are not read; save numbers or text")
    if math.prod(shape) * dtype.itemsize != n_bytes:
        raise DataError(f"{where} claims the shape {shape} of {dtype} but has {n_bytes} bytes")
    with archive.open(info) as member:
        array: npt.NDArray[Any] = np.lib.format.read_array(member, allow_pickle=False)
    return array


def _read_header(member: IO[bytes], where: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(member)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(member)
    elif version == (2, 0):
        shape, _, dtype = np.lib.format.read_array_header_2_0(member)
    else:  # 3.0 is for records with fields, which have no place here
        raise DataError(f"{where} is of the .npy version {version}, which only structured arrays need")
    return shape, dtype


def _examples(path: Path, x: npt.NDArray[Any], y: npt.NDArray[Any] | None, name: str) -> ExampleSet:
    if x.ndim not in (2, 3, 4):
        raise DataError(
            f"{path}: {name} has the shape {x.shape}; it must be (n, D), (n, height, width) or "
            "(n, channels, height, width)"
        )
    if y is not None and y.shape != x.shape[:1]:
        raise DataError(f"{path}: {name} has {len(x)} rows, but the shape of its labels is {y.shape}, not ({len(x)},)")
    rows = as_numbers(x, f"{path}: {name}").reshape(len(x), math.prod(x.shape[1:]))  # (n, D)
    return ExampleSet(rows, y, _image_shape(x.shape))


def _image_shape(shape: tuple[int, ...]) -> tuple[int, int, int] | None:
    """(channels, height, width) where the shape says so; four axes do if the first after the rows can be colours."""
    if len(shape) == 3:
        return 1, shape[1], shape[2]
    if len(shape) == 4 and shape[1] in (1, 3):
        return shape[1], shape[2], shape[3]
    return None
