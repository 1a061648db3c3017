"""Read arrays from an .npz file, without pickle and without trusting the sizes it declares."""

from __future__ import annotations

import math
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.data.dataset import ExampleSet
from fastmlp.data.npy import check_image_axes, check_size, image_shape, read_header
from fastmlp.data.validate import as_numbers, check_expansion, check_text
from fastmlp.errors import DataError
from fastmlp.memory import free_memory

NAMES = ("X", "y", "X_test", "y_test")
# What NumPy writes. The others of a zip file's methods can ask for gigabytes before they meet the first byte.
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


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
            wanted = {name: members[name] for name in NAMES if name in members}
            n_bytes, free = sum(info.file_size for info in wanted.values()), free_memory()
            check_expansion(n_bytes, path.stat().st_size, str(path))
            if n_bytes > free:
                raise DataError(f"{path} takes {n_bytes:,} bytes of memory, and {free:,} are free: save X and y as "
                                f".npy files, which can stay on disk")
            arrays = {name: _read_array(archive, info, f"{path}: {name}") for name, info in wanted.items()}
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
    if info.compress_type not in COMPRESSIONS:
        raise DataError(f"{where} is compressed in another way than numpy.savez_compressed does: save it by that")
    with archive.open(info) as member:
        header = read_header(member, where)
        check_size(header, info.file_size - member.tell(), where)
    with archive.open(info) as member, warnings.catch_warnings():
        warnings.simplefilter("ignore")         # that Python 2 wrote it, that its type has an old name
        array: npt.NDArray[Any] = np.lib.format.read_array(member, allow_pickle=False)
    return array


def _examples(path: Path, x: npt.NDArray[Any], y: npt.NDArray[Any] | None, name: str) -> ExampleSet:
    check_image_axes(x.shape, f"{path}: {name}")
    if y is not None and y.shape != x.shape[:1]:
        raise DataError(f"{path}: {name} has {len(x)} rows, but the shape of its labels is {y.shape}, not ({len(x)},)")
    if y is not None:
        check_text(y, str(path))
    rows = as_numbers(x, f"{path}: {name}").reshape(len(x), math.prod(x.shape[1:]))  # (n, D)
    return ExampleSet(rows, y, image_shape(x.shape))
