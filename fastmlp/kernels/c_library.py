"""The C sources in `c/`: compiled for this processor by the machine's C compiler, once, and loaded.

The result is kept in the user's cache folder under a name made from the sources, the compiler and the processor, so a
later process loads it in a millisecond.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from fastmlp.cache import cache_folder, of_trusted_owner, others_write, unshared
from fastmlp.cpu import cpu_flags, cpu_model
from fastmlp.errors import DeviceError

SOURCES = ("common.h", "pool.c", "activations.h", "batch.c", "matmul.c", "layers.c", "losses.c", "update.c")
FLAGS = ("-x", "c", "-std=gnu11", "-O2", "-ftree-vectorize", "-fPIC", "-shared", "-pthread",
         # Nobody looks at exceptions; a product and a sum may be rounded together; NaN and infinity keep their meaning.
         "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast")
#: The first that a compiler knows. With -O2 gcc would vectorise too little; -O3 takes it three times as long.
FOR_THIS_PROCESSOR = (("-march=native", "-fvect-cost-model=dynamic"), ("-march=native",), ("-mcpu=native",), ())
DEFINES = {"float32": (), "float64": ("-DDOUBLE=1",)}
LONGEST_COMPILATION = 120       # seconds


def compiler() -> tuple[str, ...] | None:
    """The command of a C compiler: $CC, or the first of cc, gcc and clang, or the package ziglang; None without any."""
    if os.environ.get("CC", "").strip():
        return tuple(os.environ["CC"].split())
    for name in ("cc", "gcc", "clang"):
        path = shutil.which(name)
        if path is not None:
            return (path,)
    # -P: a folder "ziglang" in the current folder is not the package.
    return (sys.executable, "-P", "-m", "ziglang", "cc") if importlib.util.find_spec("ziglang") else None


def source() -> str:
    """All sources as the one file that is compiled."""
    return "\n".join(files("fastmlp.kernels").joinpath("c", name).read_text(encoding="utf-8") for name in SOURCES)


@functools.cache
def load(dtype: str) -> ctypes.CDLL:
    """The compiled operations for float32 or float64.

    Raises
    ------
    DeviceError
        There is no compiler, or it failed, or the result could not be kept or loaded; the sentence says which.
    """
    command = compiler()
    if command is None:
        raise DeviceError("no C compiler was found (cc, gcc, clang; or pip install 'fastmlp[fast]')")
    text = source()
    facts = [text, *command, _identity(command[0]), *FLAGS, *DEFINES[dtype],
             platform.platform(), cpu_model(), cpu_flags()]
    name = f"{dtype}-{hashlib.sha256(chr(0).join(facts).encode()).hexdigest()[:20]}.so"
    try:
        return _load_from(cache_folder(), name, command, text, dtype)
    except (OSError, RuntimeError):     # no home, not writable, not ours alone, or nothing may be loaded from there
        try:
            with tempfile.TemporaryDirectory(prefix="fastmlp-") as folder:
                return _load_from(Path(folder), name, command, text, dtype)
        except OSError as error:
            raise DeviceError(f"the compiled kernels can be loaded neither from the user's cache folder nor from that "
                              f"for temporary files ({error})") from error


def _identity(program: str) -> str:
    """The file behind a command and when it was made: another one after an update."""
    path = Path(shutil.which(program) or program).resolve()
    return f"{path} {path.stat().st_mtime_ns}" if path.exists() else program


def _load_from(folder: Path, name: str, command: tuple[str, ...], text: str, dtype: str) -> ctypes.CDLL:
    """The library of this name in the folder, compiled first if it is not there or somebody else could have made it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = unshared(folder) / name
    if not path.is_file() or not of_trusted_owner(path.stat()) or others_write(path.stat()):
        _compile(command, text, dtype, path)
    return ctypes.CDLL(str(path))


def _compile(command: tuple[str, ...], text: str, dtype: str, path: Path) -> None:
    """Compile the sources into a library at this path."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / "kernels.so"
        for native in FOR_THIS_PROCESSOR:
            arguments = [*command, *FLAGS, *DEFINES[dtype], *native, "-", "-o", str(made), "-lm"]
            try:
                done = subprocess.run(arguments, input=text, capture_output=True, text=True, check=False,
                                      timeout=LONGEST_COMPILATION)
            except (OSError, subprocess.TimeoutExpired) as error:
                raise DeviceError(f"the C compiler {command[0]} cannot be used ({error})") from error
            if done.returncode == 0:
                made.chmod(0o700)
                made.replace(path)          # whole or not at all, whatever other processes do
                return
        words = " / ".join(line.strip() for line in done.stderr.splitlines() if "error" in line)
        words = words or done.stderr.strip() or f"it ended with status {done.returncode}"
        raise DeviceError(f"the C compiler {' '.join(command)} could not compile the kernels: {words[:300]}")
