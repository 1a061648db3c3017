"""From the CUDA source of a kernel to a loaded shared library, by way of g++ and a cache on disk."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

HERE = Path(__file__).parent
SCHEDULER = HERE / "scheduler.cpp"
FLAGS = [
    "-std=c++17",                   # what CuPy asks of NVRTC
    "-O1", "-fPIC", "-fvisibility=hidden", "-w",
    "-ffp-contract=fast",           # a GPU, too, multiplies and adds in one, where the processor can
    "-fno-strict-aliasing",         # CUDA sources read floats as float4
    "-U_FORTIFY_SOURCE",            # it would take a jump between fibers for a broken stack
]


class CompileError(Exception):
    """The source was refused; the message is the compiler's."""


def compiler() -> str | None:
    """The C++ compiler's path, or None where there is none; elsewhere than on Linux g++ is often another one."""
    return shutil.which("g++") if sys.platform == "linux" else None


@functools.cache
def cache_folder() -> Path:
    """Where compiled kernels are kept: $FASTMLP_TEST_CACHE, or this user's folder among the temporary ones."""
    chosen = os.environ.get("FASTMLP_TEST_CACHE")
    if chosen:
        folder = Path(chosen)
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    folder = Path(tempfile.gettempdir(), f"fastmlp-test-cache-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():     # somebody else's, whose libraries must not be loaded
        return Path(tempfile.mkdtemp(prefix="fastmlp-test-cache-"))
    return folder


@functools.cache
def _environment() -> str:
    """All that the outcome depends on, next to the source: the compiler and the emulator's own files."""
    version = subprocess.run([str(compiler()), "--version"], capture_output=True, text=True, check=True).stdout
    own = [path.read_text(encoding="utf-8") for path in sorted(HERE.glob("*.?pp"))]
    return "\n".join([version, *FLAGS, *own])


def _make(name: str, text: str, extra: list[str]) -> Path:
    """The file that g++ makes of a C++ text, from the cache where it is there already.

    It is written under another name and then renamed, so that other processes see it whole or not at all.
    """
    key = hashlib.sha256("\n".join([_environment(), *extra, text]).encode()).hexdigest()[:32]
    target = cache_folder() / f"{key}-{name}"
    if not target.exists():
        draft = target.with_name(f"{uuid.uuid4().hex}-{name}")
        source = draft.with_suffix(".cpp")
        source.write_text(text, encoding="utf-8")
        command = [str(compiler()), *FLAGS, f"-I{HERE}", str(source), *extra, "-o", str(draft)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        source.unlink()
        if done.returncode:
            raise CompileError(done.stderr)
        draft.replace(target)
    return target


@functools.cache
def _scheduler() -> Path:
    """The scheduler, compiled once for all kernels."""
    return _make("scheduler.o", SCHEDULER.read_text(encoding="utf-8"), ["-O2", "-c"])


def for_the_cpu(source: str, kernel: str) -> str:
    """The C++ text for a CUDA source: what macros cannot do is done to the text, line by line where it stood."""
    includes = "".join(re.findall(r"^[ \t]*#[ \t]*include.*\n", source, re.MULTILINE))
    source = re.sub(r"^[ \t]*#[ \t]*include.*$", "", source, flags=re.MULTILINE)
    # extern "C" would make every kernel of the file public, so that none could be left out of the library.
    source = re.sub(r'extern\s+"C"\s*\{', "namespace {", source)
    source = re.sub(r'extern\s+"C"', "", source)
    source = re.sub(r"extern\s+__shared__\s+(?:__align__\s*\(\s*\w+\s*\)\s*)?([\w\s]+?)\s*\b(\w+)\s*\[\s*\]\s*;",
                    r"\1* const \2 = (\1*)on_cpu::dynamic_shared;", source)
    return (f'#include "cuda_on_cpu.hpp"\n{includes}namespace {{\n#line 1 "{kernel}.cu"\n{source}\n}}\n'
            f"ON_CPU_EXPORT({kernel})\n")


@functools.cache
def shared_library(name: str, text: str) -> Path:
    """The library that g++ makes of an ordinary C++ text; it exports what is marked visible."""
    if compiler() is None:
        raise CompileError("g++ is needed for the libraries of the stand-in and is not there")
    return _make(name, text, ["-O2", "-shared"])


@functools.cache
def load(source: str, kernel: str, options: tuple[str, ...] = ()) -> ctypes.CDLL:
    """The library with one kernel of a source, compiled at the first request.

    Of the options only definitions (-D...) matter here; the others are for a GPU's compiler.
    """
    if compiler() is None:
        raise CompileError("g++ is needed to run CUDA kernels on the CPU and is not there")
    definitions = [option for option in options if option.startswith("-D")]
    path = _make(f"{kernel}.so", for_the_cpu(source, kernel), [*definitions, "-shared", str(_scheduler())])
    library = ctypes.CDLL(str(path))
    library.on_cpu_error.restype = ctypes.c_char_p
    return library
