"""Peak memory of whole runs: CIFAR-10 in memory, and files that are ten times larger than what the process may take.

    python benchmarks/memory.py [--cifar10 DIR] [--only CASE ...] [--quick] [--folder FOLDER] [--out FOLDER]

Every run is `fastmlp train --hidden 50 50 --schedule constant --epochs 1 --seed 0` in a process of its own, and its
peak is VmHWM, what the system counted as resident at most, with all libraries and whatever they map. The run on the
.npy file may also not allocate more than its limit (RLIMIT_DATA; Arrow, which reads Parquet, reserves more than it
uses). Files hold learnable bytes, sorted by class, and lie in the page cache as far as that has room. The last case
alternates one file of 60,000 examples kept in memory and read from disk; what counts is the ratio of the medians of an
epoch's seconds.
"""

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from measuring import Machine
from reporting import aligned

from fastmlp.backend import resolve
from fastmlp.errors import FastMLPError
from fastmlp.files import write_atomically

ROOT = Path(__file__).resolve().parents[1]
MB = 10**6
ROWS_AT_ONCE = 20_000      # of a file: a row group of Parquet
CLASSES = 10
TRAIN = ["train", "--hidden", "50", "50", "--schedule", "constant", "--epochs", "1", "--seed", "0", "--device", "cpu"]
CHILD = """
import sys
limit, *arguments = sys.argv[1:]
if int(limit):
    import resource
    resource.setrlimit(resource.RLIMIT_DATA, (int(limit), int(limit)))
from fastmlp.cli import main
code = main(arguments)
print(open("/proc/self/status").read())
sys.exit(code)
"""


@dataclass(frozen=True)
class Case:
    """A file, what the whole process may take, and what of that the data may (in bytes); 0 is no limit."""

    name: str
    suffix: str                 # of the file; empty for CIFAR-10's own
    rows: int
    columns: int
    bar: int = 0                # of the peak
    data_memory: int = 0
    enforced: bool = False

    @property
    def file_bytes(self):
        return self.rows * self.columns


CASES = {
    "cifar10": Case("CIFAR-10 in memory", "", 60_000, 3072, bar=400 * MB),
    "npy": Case(".npy, 10 times the limit", ".npy", 1_000_000, 3072, 300 * MB, 100 * MB, enforced=True),
    "parquet": Case(".parquet, 2 times the limit", ".parquet", 1_000_000, 800, 400 * MB, 100 * MB),
    "ratio": Case("disk beside memory", ".npy", 60_000, 3072),
}
BAR_OF_RATIO = 1.5
QUICK = {"cifar10": 1, "npy": 50, "parquet": 100, "ratio": 20}      # so many times fewer rows


def main(arguments=None):
    args = parse(arguments)
    machine, rows = Machine([resolve("cpu")]), []
    print(*machine.backends, sep="\n", flush=True)
    for name in args.only:
        case, less = CASES[name], QUICK[name] if args.quick else 1
        case = replace(case, rows=case.rows // less, data_memory=case.data_memory // less)
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            new = measure(case, args, Path(folder))
        rows += new
        print(*table(new), "", sep="\n", flush=True)
        if args.out:
            write({"command": " ".join(sys.argv[1:] if arguments is None else arguments), **machine.facts(),
                   "rows": rows}, args.out)
    return 0 if all(row["within"] for row in rows) else 1


def measure(case, args, folder):
    """The rows of a case: one, or for the ratio one from disk and one from memory."""
    if case.suffix == "":
        data_dir, name = (args.cifar10, case.name) if args.cifar10 else (random_cifar10(case, folder),
                                                                       f"{case.name} (random bytes)")
        runs = [run(["--data", "cifar10", "--data-dir", str(data_dir)], case, folder)]
        return [row(replace(case, name=name), runs)]
    data = write_rows(case, folder)
    if case.bar:
        return [row(case, [run([*data, "--data-memory", str(case.data_memory)], case, folder)])]
    kept, left = [], []
    for _ in range(args.rounds):
        kept.append(run([*data, "--data-memory", "1GB"], case, folder))
        left.append(run([*data, "--data-memory", str(case.file_bytes // 2)], case, folder))
    ratio = statistics.median(one["seconds"] for one in left) / statistics.median(one["seconds"] for one in kept)
    return [row(replace(case, name="kept in memory"), kept), row(replace(case, name="read from disk"), left, ratio)]


def row(case, runs, ratio=None):
    """What is reported of one case."""
    peak = max(one["peak"] for one in runs)
    return {"case": case.name, "rows": case.rows, "columns": case.columns, "bytes": case.file_bytes, "bar": case.bar,
            "data_memory": case.data_memory, "enforced": case.enforced, "peak": peak, "ratio": ratio,
            "seconds": statistics.median(one["seconds"] for one in runs), "rounds": len(runs),
            "wall_seconds": statistics.median(one["wall"] for one in runs), "accuracy": runs[0]["accuracy"],
            "within": (not case.bar or peak <= case.bar) and (ratio is None or ratio <= BAR_OF_RATIO)}


def run(arguments, case, folder):
    """Train in another process: its peak in bytes, seconds an epoch and altogether, and test accuracy."""
    out, began = folder / "run", time.perf_counter()
    limit = str(case.bar if case.enforced else 0)
    child = subprocess.run([sys.executable, "-c", CHILD, limit, *TRAIN, *arguments, "--out", str(out)], cwd=ROOT,
                           capture_output=True, text=True, check=False)
    wall = time.perf_counter() - began
    if child.returncode:
        raise FastMLPError(f"{case.name}: {child.stderr.strip()[-500:]}")
    result = json.loads((out / "result.json").read_text(encoding="utf-8"))
    shutil.rmtree(out)
    return {"peak": 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", child.stdout)[1]), "wall": wall,
            "seconds": result["seconds_per_epoch"], "accuracy": result["test_accuracy"]}


def write_rows(case, folder):
    """Write a file and its labels; the options that name them."""
    room(folder, case.file_bytes * (3 if case.suffix == ".parquet" else 1))
    labels = np.arange(case.rows) * CLASSES // case.rows                                # sorted by class
    pieces = (learnable(labels[first:first + ROWS_AT_ONCE], case.columns, seed=first)
              for first in range(0, case.rows, ROWS_AT_ONCE))
    path = folder / f"X{case.suffix}"
    if case.suffix == ".npy":
        np.save(folder / "y.npy", labels)
        with path.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False,
                                                        "shape": (case.rows, case.columns)})
            for x in pieces:
                file.write(x.data)
        return ["--data", str(path), "--target", str(folder / "y.npy")]
    from pyarrow import int8, parquet, schema, table, uint8

    names = [f"x{k}" for k in range(case.columns)]
    form = schema([*((name, uint8()) for name in names), ("label", int8())])
    with parquet.ParquetWriter(path, form, use_dictionary=False, compression="none") as writer:
        for k, x in enumerate(pieces):
            part = labels[k * ROWS_AT_ONCE:(k + 1) * ROWS_AT_ONCE].astype(np.int8)
            writer.write_table(table([*np.ascontiguousarray(x.T), part], schema=form))
    return ["--data", str(path), "--target", "label"]


def learnable(labels, columns, seed):
    """Bytes (n, columns) around a centre for each class, with noise that hides it from single columns."""
    centres = np.random.default_rng(1).integers(0, 32, (CLASSES, columns), np.uint8)
    x = np.random.default_rng((2, seed)).integers(0, 224, (len(labels), columns), np.uint8)
    x += centres[labels]
    return x


def random_cifar10(case, folder):
    """Files of the official sizes."""
    room(folder, case.rows * (case.columns + 1))
    batches = folder / "cifar-10-batches-bin"
    batches.mkdir()
    for k, name in enumerate([*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]):
        labels = np.random.default_rng(k).integers(CLASSES, size=10_000)
        records = np.hstack([labels[:, None].astype(np.uint8), learnable(labels, case.columns, k)])
        (batches / f"{name}.bin").write_bytes(records.data)
    return folder


def room(folder, n_bytes):
    free = shutil.disk_usage(folder).free
    if free < n_bytes + 100 * MB:
        raise FastMLPError(f"{n_bytes / MB:,.0f} MB are needed in {folder} and {free / MB:,.0f} are free: name another "
                           f"--folder, or take --quick")


def table(rows):
    """Markdown: one line a run."""
    def megabytes(value):
        return f"{value / MB:,.0f}" if value else ""

    return aligned({
        "case": [row["case"] for row in rows],
        "examples": [f"{row['rows']:,} x {row['columns']}" for row in rows],
        "data, MB": [megabytes(row["bytes"]) for row in rows],
        "--data-memory, MB": [megabytes(row["data_memory"]) for row in rows],
        "may take, MB": [megabytes(row["bar"]) for row in rows],
        "peak, MB": [megabytes(row["peak"]) for row in rows],
        "s an epoch": [f"{row['seconds']:.2f}" for row in rows],
        "s in all": [f"{row['wall_seconds']:.1f}" for row in rows],
        "ratio": ["" if row["ratio"] is None else f"{row['ratio']:.2f}" for row in rows],
        "test accuracy": [f"{row['accuracy']:.3f}" for row in rows],
        "within": ["yes" if row["within"] else "NO" for row in rows],
    }, left=("case",))


def write(facts, folder):
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "memory.json", json.dumps(facts, indent=1) + "\n")
    packages = facts["machine"]["packages"]
    versions = ", ".join(f"{name} {packages[name]}" for name in ("numpy", "pandas", "pyarrow", "matplotlib"))
    lines = [f"# Peak memory of a run, {facts['date']}", "", f"`{facts['command']}`", "",
             "One epoch of 50-50 with batch norm; MB are 10^6 bytes. Files are sorted by class.", "",
             *(f"- {backend}" for backend in facts["backends"]), f"- Python {facts['machine']['python']}, {versions}",
             f"- commit {facts['machine']['git_commit'] or 'unknown'}",
             f"- {facts['cores']} cores, load average {facts['load_before']:.2f} before, "
             f"{facts['load_after']:.2f} after", "", *table(facts["rows"])]
    write_atomically(folder / "memory.md", "\n".join(lines) + "\n")


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cifar10", type=Path, metavar="DIR", help="where CIFAR-10 lies; without, random bytes")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, default=5, help="of the ratio")
    parser.add_argument("--quick", action="store_true", help="fewer rows: a trial, whose limits say little")
    parser.add_argument("--folder", type=Path, help="where the files are written: 5 GB of room (default: TMPDIR)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="for memory.json and memory.md")
    args = parser.parse_args(arguments)
    if args.rounds < 1:
        parser.error(f"--rounds {args.rounds}: at least 1")
    if not Path("/proc/self/status").exists():
        parser.error("the peak is read from /proc, which only Linux has")
    return args


if __name__ == "__main__":
    try:
        sys.exit(main())
    except FastMLPError as error:
        sys.exit(f"memory.py: {error}")
