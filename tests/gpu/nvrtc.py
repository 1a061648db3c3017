"""CUDA's compiler without a GPU: NVRTC, the one that CuPy uses, called by ctypes; nvcc where NVRTC is not there.

`resources` says what a kernel asks of a multiprocessor. It is kept on disk, beside the emulator's compiled kernels.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from emulator.compiled import cache_folder

#: CuPy 14's own options, and the request for what is read below.
OPTIONS = ("-std=c++17", "-ftz=true", "--device-as-default-execution-space", "--ptxas-options=-v")
NVCC_OPTIONS = ("-std=c++17", "-ftz=true", "-Xptxas", "-v")
NOT_THERE = "neither NVRTC (pip install 'nvidia-cuda-nvrtc==13.0.*') nor nvcc is there"


class CompileError(Exception):
    """The source was refused; the message is the compiler's."""


@dataclass(frozen=True)
class Resources:
    """What one kernel takes: bytes a thread on the stack and spilled, registers a thread, shared bytes a block."""

    stack: int
    spilled: int
    registers: int
    shared: int


def _folders() -> Iterator[Path]:
    """Where an NVRTC may lie: the wheel, as pip puts it into a name space of its own; CUDA's usual places."""
    spec = importlib.util.find_spec("nvidia")
    for base in spec.submodule_search_locations or () if spec else ():
        yield from sorted(Path(base).glob("*/lib"), reverse=True)
    for base in (os.environ.get("CUDA_PATH"), "/usr/local/cuda"):
        if base:
            yield from (Path(base, "lib64"), Path(base, "lib"))


@functools.cache
def _library() -> ctypes.CDLL | None:
    """NVRTC, loaded; its other half has to be there before it, since no search path leads to a wheel's folder."""
    for folder in _folders():
        found, other_half = sorted(folder.glob("libnvrtc.so.*")), sorted(folder.glob("libnvrtc-builtins.so.*"))
        if found and other_half:
            ctypes.CDLL(str(other_half[-1]), mode=ctypes.RTLD_GLOBAL)
            return ctypes.CDLL(str(found[-1]))
    return None


@functools.cache
def compiler() -> str | None:
    """Which compiler there is, with its version; None without one."""
    library = _library()
    if library is not None:
        major, minor = ctypes.c_int(), ctypes.c_int()
        library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
        return f"NVRTC {major.value}.{minor.value}, {Path(library._name).stat().st_size} bytes"
    if shutil.which("nvcc") is None:
        return None
    return subprocess.run(["nvcc", "--version"], capture_output=True, text=True, check=True).stdout


def is_nvcc() -> bool:
    """Whether nvcc has to stand in for NVRTC."""
    return _library() is None


def _compile_by_nvrtc(library: ctypes.CDLL, source: str, options: list[str]) -> str:
    """The log of a compilation down to machine code."""
    def log() -> str:
        size = ctypes.c_size_t()
        library.nvrtcGetProgramLogSize(handle, ctypes.byref(size))
        text = ctypes.create_string_buffer(size.value)
        library.nvrtcGetProgramLog(handle, text)
        return text.value.decode()

    handle: Any = ctypes.c_void_p()
    library.nvrtcGetErrorString.restype = ctypes.c_char_p
    refused = library.nvrtcCreateProgram(ctypes.byref(handle), source.encode(), b"kernels.cu", 0, None, None)
    if refused:
        raise CompileError(library.nvrtcGetErrorString(refused).decode())
    try:
        refused = library.nvrtcCompileProgram(
            handle, len(options), (ctypes.c_char_p * len(options))(*(option.encode() for option in options)))
        size = ctypes.c_size_t()
        if refused or library.nvrtcGetCUBINSize(handle, ctypes.byref(size)) or not size.value:
            raise CompileError(log() or library.nvrtcGetErrorString(refused).decode())
        return log()
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(handle))


def _compile_by_nvcc(source: str, options: list[str]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernels.cu")
        path.write_text(source, encoding="utf-8")
        done = subprocess.run(["nvcc", "-cubin", *options, "-o", str(path.with_suffix(".cubin")), str(path)],
                              capture_output=True, text=True, check=False)
    if done.returncode:
        raise CompileError(done.stderr)
    return done.stderr


def parse(log: str) -> dict[str, Resources]:
    """The kernels' resources, by name, in the words of the compiler."""
    found = {}
    for part in re.split(r"Compiling entry function ", log)[1:]:
        name = re.match(r"'(\w+)'", part)
        frame = re.search(rf"Function properties for {name[1] if name else ''}\n.*?(\d+) bytes stack frame, "
                          r"(\d+) bytes spill stores, (\d+) bytes spill loads", part)
        registers = re.search(r"Used (\d+) registers", part)
        if not (name and frame and registers):
            raise CompileError(f"the compiler's log is not understood: {part}")
        shared = re.search(r"(\d+) bytes smem", part)
        found[name[1]] = Resources(int(frame[1]), int(frame[2]) + int(frame[3]), int(registers[1]),
                                   int(shared[1]) if shared else 0)
    return found


def resources(source: str, generation: int) -> dict[str, Resources]:
    """What the kernels of a source take on a generation of GPUs, from the cache where it is there already.

    Raises
    ------
    CompileError
        The source was refused.
    """
    if compiler() is None:
        raise CompileError(NOT_THERE)
    library = _library()
    options = [*(OPTIONS if library is not None else NVCC_OPTIONS), f"-arch=sm_{generation}"]
    key = hashlib.sha256("\n".join([str(compiler()), *options, source]).encode()).hexdigest()[:32]
    kept = cache_folder() / f"{key}-resources.json"
    if not kept.exists():
        log = _compile_by_nvcc(source, options) if library is None else _compile_by_nvrtc(library, source, options)
        draft = kept.with_name(f"{uuid.uuid4().hex}-resources.json")    # renamed: others see it whole or not at all
        draft.write_text(json.dumps({name: asdict(taken) for name, taken in parse(log).items()}), encoding="utf-8")
        draft.replace(kept)
    return {name: Resources(**taken) for name, taken in json.loads(kept.read_text(encoding="utf-8")).items()}
