"""Files of tensors and a JSON header, with a digest of both: safetensors, which hold nothing that could run.

The header is an entry of the file's own metadata, so any reader of safetensors can open it. It is the only one, and the
digest is part of it, because safetensors writes entries in a random order.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.errors import DataError
from fastmlp.files import write_atomically

HEADER, DIGEST = "fastmlp", "sha256"
KINDS = ("F32", "F64", "I64", "BOOL")       # that are written; for others, such as bfloat16, NumPy has no word


def write_tensors(path: Path, header: dict[str, Any], tensors: dict[str, npt.NDArray[Any]]) -> None:
    """Write a file, whole or not at all.

    Raises
    ------
    OutputError
        It cannot be written; what was there before still is.
    """
    from safetensors.numpy import save

    # safetensors writes an array's memory as it lies there.
    tensors = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    header = {**header, DIGEST: digest_of(header, tensors)}
    write_atomically(path, save(tensors, metadata={HEADER: json.dumps(header)}))


def read_tensors(path: Path, format: str, what: str,
                 error: type[DataError]) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """Header and tensors of a file of one `format`; safetensors checks sizes and offsets before it reads.

    Parameters
    ----------
    path : Path
        The file.
    format : str
        What the header's entry of that name must be.
    what : str
        What such a file is called.
    error : type
        Of what is raised.

    Raises
    ------
    DataError
        Of that type: the file is absent, damaged, or of another format.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise error(f"{path}: no such file")
    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {}).get(HEADER, "null"))
            names = list(file.keys())
            for name in names:
                kind = file.get_slice(name).get_dtype()
                if kind not in KINDS:
                    raise ValueError(f"{name!r} is of the type {kind}")
            tensors = {name: file.get_tensor(name) for name in names}
        written = header.pop(DIGEST, None) if isinstance(header, dict) else None
        digest = digest_of(header, tensors)     # here, as what is nested just deeply enough to be read may be too deep
    except (SafetensorError, OSError, ValueError, RecursionError) as cause:     # ValueError: JSON or text that is none
        raise error(f"{path}: not a whole safetensors file ({str(cause)[:200]})") from cause
    if not isinstance(header, dict) or header.get("format") != format:
        raise error(f"{path}: a safetensors file, but not a {what} written by fastmlp ({format})")
    if written != digest:
        raise error(f"{path}: damaged, its content is not what was written (SHA-256 differs)")
    return header, tensors


def digest_of(header: dict[str, Any], tensors: dict[str, npt.NDArray[Any]]) -> str:
    """What the header says beside itself: SHA-256 of all that the file holds, as JSON, names and memory."""
    digest = hashlib.sha256(json.dumps(header).encode())
    for name, array in sorted(tensors.items()):
        digest.update(f"\0{name} {array.dtype.str} {array.shape}\0".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
