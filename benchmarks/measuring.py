"""Measuring contenders in turns, and what is known of the machine meanwhile."""

import gc
import importlib.metadata
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from fastmlp import doctor

PEERS = ("torch", "jax", "jaxlib")
SECONDS_BETWEEN = 0.05      # the threads of a CPU library spin that long before they leave the cores to the next one's


class Clock:
    """How much of a time budget is left; all the time in the world without one."""

    def __init__(self, budget=None):
        self.end = float("inf") if budget is None else time.perf_counter() + budget

    def share(self, parts_left):
        """When the next of so many parts, which get as much time each, should end."""
        now = time.perf_counter()
        return now + (self.end - now) / parts_left


class Results:
    """What was measured, what failed, and what the time did not suffice for."""

    def __init__(self):
        self.rows, self.failed, self.skipped = [], [], []

    def fail(self, case, contender, error):
        text = f"{type(error).__name__}: {' '.join(str(error).split())}"
        self.failed.append({"section": case.section, "case": case.name, "contender": contender, "error": text[:300]})

    def leave_out(self, contender, error):
        """One that fails in every case, for the same reason."""
        self.failed.append({"section": "all", "case": "all cases", "contender": contender, "error": str(error)[:300]})

    def skip(self, case, contender):
        self.skipped.append({"section": case.section, "case": case.name, "contender": contender,
                             "why": "the time budget was spent"})


def measure(case, makers, rounds, deadline, results):
    """Seconds of every round of every contender, by name. Before the first round each of them runs three times.

    The first run compiles, the second records what comes again; the third tells how long a round takes, so that no
    contender is begun whose rounds would not be over by the deadline. Rounds that do not fit any more are left out, but
    for the first. Times are multiplied by a contender's `scale`, if it has one.
    """
    contenders, needed = {}, 0.0
    for name, make in makers.items():
        if time.perf_counter() + needed >= deadline:
            results.skip(case, name)
            continue
        try:
            contenders[name] = make()
            contenders[name]()
            contenders[name]()
            needed += rounds * _seconds(contenders[name])
        except Exception as error:      # noqa: BLE001  whatever it is, the others go on
            results.fail(case, name, error)
            contenders.pop(name, None)
            _free_memory()
    seconds = {name: [] for name in contenders}
    for k in range(rounds):
        if k > 0 and time.perf_counter() >= deadline:
            break
        for name in list(contenders)[::1 if k % 2 == 0 else -1]:        # to and fro
            try:
                seconds[name].append(_seconds(contenders[name]) * getattr(contenders[name], "scale", 1.0))
            except Exception as error:  # noqa: BLE001  likewise
                results.fail(case, name, error)
                del contenders[name]
    contenders.clear()
    _free_memory()
    return {name: times for name, times in seconds.items() if times}


def _seconds(run):
    time.sleep(SECONDS_BETWEEN)
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def _free_memory():
    """Give back what the libraries that are in use keep for later."""
    gc.collect()
    if "cupy" in sys.modules:
        sys.modules["cupy"].get_default_memory_pool().free_all_blocks()
    if "torch" in sys.modules and sys.modules["torch"].cuda.is_available():
        sys.modules["torch"].cuda.empty_cache()


def in_microseconds(seconds, parts):
    """Median and spread of so many parts each, as {"median", "min", "max"}."""
    scaled = sorted(1e6 * value / parts for value in seconds)
    return {"median": statistics.median(scaled), "min": scaled[0], "max": scaled[-1]}


class Machine:
    """The facts of a measurement: who computed, with which versions, and how busy the machine was with other things."""

    def __init__(self, backends):
        self.load_before = os.getloadavg()[0]
        self.date = time.strftime("%Y-%m-%d %H:%M")
        self.backends = [backend.description for backend in backends]
        self.doctor = doctor.report(gpu=any(backend.name == "gpu" for backend in backends),
                                    folder=Path(__file__).parent)

    def facts(self):
        load, cores = os.getloadavg()[0], self.doctor["cores"]
        # Afterwards our own threads, which may be as many as there are cores, are in it too.
        busy = self.load_before > cores / 2 or load > 1.25 * cores
        return {"date": self.date, "backends": self.backends, "driver": driver(), "peers": versions(PEERS),
                "load_before": self.load_before, "load_after": load, "cores": cores, "busy": busy,
                "machine": self.doctor}


def versions(packages):
    """The installed version of each, or "not installed"."""
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def driver():
    """The version of the NVIDIA driver, or "unknown"."""
    try:
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        lines = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.splitlines()
        return lines[0].strip() if lines else "unknown"
    except (OSError, subprocess.SubprocessError):
        pass
    try:
        # "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Release Build ..."
        words = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8").split()
        return next((word for word in words if word[0].isdigit() and word.count(".") >= 1), "unknown")
    except OSError:
        return "unknown"
