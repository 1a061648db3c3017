"""Trainings in processes of their own, which tests kill, and starve of disk space. They fork from a warm server."""

import contextlib
import ctypes
import multiprocessing
import os
import resource
import signal
import sys
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["fastmlp.cli", "fastmlp.run", "fastmlp.population_run", "fastmlp.resuming",
                                "fastmlp.plots", "fastmlp.population_plots", "sklearn.datasets", "matplotlib.figure",
                                "matplotlib.backends.backend_agg", "children"])


def start(arguments, before=None, *given):
    """A process that runs `fastmlp ARGUMENTS` after `before(*given)`; its output goes to `output` in the --out folder's
    place, see `output_of`."""
    process = CONTEXT.Process(target=_main, args=([str(word) for word in arguments], before, given), daemon=True)
    process.start()
    return process


def output_file(arguments):
    """Where a training's output goes: beside its folder."""
    words = [str(word) for word in arguments]
    folder = words[words.index("--resume" if "--resume" in words else "--out") + 1]
    return Path(f"{folder}.output")


def run(arguments, before=None, *given):
    """Run it to its end: exit code and output."""
    process = start(arguments, before, *given)
    process.join(60)
    assert process.exitcode is not None, "it did not end"
    return process.exitcode, output_file(arguments).read_text()


def _main(arguments, before, given):
    from matplotlib.figure import Figure

    from fastmlp.cli import main

    Figure.savefig = lambda self, file, **_: file.write(b"drawn")       # drawing takes longer than all the rest
    with output_file(arguments).open("w") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        os.dup2(file.fileno(), 2)
        if before is not None:
            before(*given)
        code = main(arguments)
    sys.stderr.flush()
    os._exit(code)


def kill_itself():
    os.kill(os.getpid(), signal.SIGKILL)


def die_at(moment, checkpoint):
    """Be killed while the n-th checkpoint is written: with half of its content, before or after its rename, ..."""
    fsync, replace, seen = os.fsync, Path.replace, [0]

    def is_meant(path):
        return path.name.startswith("checkpoint")

    def dying_replace(self, target):
        if is_meant(Path(target)):
            seen[0] += 1
            if seen[0] == checkpoint:
                if moment == "half of it":
                    os.truncate(self, self.stat().st_size // 2)
                if moment in ("half of it", "before the rename"):
                    kill_itself()
                replace(self, target)
                kill_itself()
        return replace(self, target)

    def dying_fsync(descriptor):
        if seen[0] == checkpoint - 1 and moment == "before it is on disk" and "checkpoint" in _names_written():
            kill_itself()
        fsync(descriptor)

    def _names_written():
        frame = sys._getframe(2)
        return str(frame.f_locals.get("path", ""))

    Path.replace, os.fsync = dying_replace, dying_fsync


def no_larger_file_than(size):
    """As on a full disk, writing fails."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def heed_permissions():
    """To the superuser no folder is read-only, unless it gives up that power."""
    if os.getuid() == 0:
        header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.capget(header, data) == 0
        data[0] &= ~(1 << 1 | 1 << 2)       # what is in effect, less CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
        assert libc.capset(header, data) == 0
