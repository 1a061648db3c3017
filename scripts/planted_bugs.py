"""Plants known bugs into the kernels of GPU and CPU, one at a time, and says which test catches each. No GPU is needed.

The bugs stand in `planted_bugs/*.toml`. Each is planted in a copy of the package, and the rungs that need no GPU run
there up to the first failure. A bug that says why it is `invisible` without a GPU is only listed. Exit status 1 if a
bug was not caught.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
TABLES = Path(__file__).with_suffix("")
TREE = TOP if (TOP / "fastmlp").is_dir() else Path(find_spec("fastmlp").origin).parents[1]     # or the installed one
KERNELS = Path("fastmlp", "kernels")
USUAL_TESTS = ("tests/gpu/test_fused_kernels.py", "tests/gpu/test_fences.py", "tests/gpu/test_cublas.py",
               "tests/gpu/test_training_on_stand_in.py")
PROCESSES = 2
SECONDS = 180           # for one bug: some hang
RUNG = re.compile(r"pytest\.mark\.(L\d)")
FAILURE = re.compile(r"^(?:FAILED|ERROR) (\S+?\.py)::(\w+)", re.MULTILINE)
CRASH = re.compile(r'(tests/\w+/test_\w+\.py)", line \d+ in (test_\w+)')      # as Python's fault handler writes it
NOT_CAUGHT = "NOT CAUGHT"


class PlantingError(Exception):
    """A bug cannot be planted, or says nothing where it is."""


@dataclass(frozen=True)
class Bug:
    """One bug of the tables: `old`, which occurs `count` times in the file, becomes `new`."""

    name: str
    file: str
    breaks: str
    old: str
    new: str
    count: int = 1
    tests: tuple[str, ...] = USUAL_TESTS
    invisible: str = ""         # why no rung below the real GPU can see it

    def occurrences(self, top: Path = TREE) -> int:
        return (top / KERNELS / self.file).read_text(encoding="utf-8").count(self.old)

    def plant(self, top: Path) -> None:
        """Change the file below `top`."""
        if self.occurrences(top) != self.count:
            raise PlantingError(f"{self.name}: its old text occurs {self.occurrences(top)} times in {self.file}, "
                                f"not {self.count}")
        path = top / KERNELS / self.file
        path.write_text(path.read_text(encoding="utf-8").replace(self.old, self.new), encoding="utf-8")


@dataclass(frozen=True)
class Verdict:
    """What became of a bug: the rung and the test that caught it."""

    bug: Bug
    rung: str
    test: str

    @property
    def caught(self) -> bool:
        return self.test != NOT_CAUGHT


def read_bugs() -> list[Bug]:
    """All bugs of all tables."""
    bugs = []
    for path in sorted(TABLES.glob("*.toml")):
        for name, entry in tomllib.loads(path.read_text(encoding="utf-8")).items():
            bugs.append(Bug(name, **{key: tuple(value) if key == "tests" else value for key, value in entry.items()}))
    return bugs


@contextmanager
def copy_of_the_package() -> Iterator[Path]:
    """A temporary folder with what the tests need."""
    with tempfile.TemporaryDirectory(prefix="planted-") as folder:
        top = Path(folder)
        for source in (TREE / "fastmlp", TOP / "tests"):
            shutil.copytree(source, top / source.name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(TOP / "pyproject.toml", top)
        yield top


def run_tests(top: Path, tests: Iterable[str]) -> subprocess.CompletedProcess[str] | None:
    """Run them up to the first failure; None if they hang."""
    path = os.pathsep.join(filter(None, (str(top), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-m", "pytest", "-x", "-rfE", "--tb=short", "-p", "no:cacheprovider", *tests]
    try:
        return subprocess.run(command, cwd=top, capture_output=True, text=True, timeout=SECONDS, check=False,
                              env={**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1",
                                   "XDG_CACHE_HOME": str(top / ".cache")})
    except subprocess.TimeoutExpired:
        return None


def try_bug(bug: Bug) -> Verdict:
    """Plant a bug in a copy and run the tests there.

    Raises
    ------
    PlantingError
        The bug does not compile, or the tests end without naming one that failed.
    """
    with copy_of_the_package() as top:
        bug.plant(top)
        done = run_tests(top, bug.tests)
        if done is None:
            return Verdict(bug, "", f"hung for {SECONDS} seconds")
        if done.returncode == 0:
            return Verdict(bug, "", NOT_CAUGHT)
        failed = FAILURE.search(done.stdout) or CRASH.search(done.stderr)
        if failed is None or re.search(r"could not be compiled|^E .*CompileError", done.stdout, re.MULTILINE):
            raise PlantingError(f"{bug.name} is no bug that a test could catch:\n{done.stdout[-2000:]}{done.stderr}")
        rung = RUNG.search((top / failed[1]).read_text(encoding="utf-8"))
        return Verdict(bug, rung[1] if rung else "", failed[2])


def check_unplanted(bugs: Sequence[Bug]) -> None:
    """Refuse to go on where the tests fail, or are skipped, without a bug."""
    with copy_of_the_package() as top:
        for tests in sorted({bug.tests for bug in bugs if not bug.invisible}):
            done = run_tests(top, tests)
            if done is None or done.returncode or " passed" not in done.stdout or " skipped" in done.stdout:
                words = "they hang" if done is None else done.stdout[-2000:] + done.stderr
                raise PlantingError(f"{' '.join(tests)} must pass, and skip nothing, before a bug is planted:\n{words}")


def as_markdown(verdicts: Sequence[Verdict], bugs: Sequence[Bug]) -> str:
    """The tables of docs/gpu.md."""
    rows = ["| bug | in | what it breaks | caught by |", "|---|---|---|---|"]
    rows += [f"| {one.bug.name} | `{one.bug.file}` | {one.bug.breaks} | {one.rung} `{one.test}` |" for one in verdicts]
    rows += ["", "Known to be invisible to them:", "", "| bug | in | what it breaks | why |", "|---|---|---|---|"]
    rows += [f"| {bug.name} | `{bug.file}` | {bug.breaks} | {bug.invisible} |" for bug in bugs if bug.invisible]
    return "\n".join(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these bugs, invisible ones too")
    parser.add_argument("--list", action="store_true", help="name the bugs and stop")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there")
    options = parser.parse_args(arguments)
    bugs = read_bugs()
    if options.list:
        for bug in bugs:
            print(f"{bug.name:<40} {bug.file:<22} {bug.breaks}{' (invisible here)' if bug.invisible else ''}")
        return 0
    if options.only:
        unknown = set(options.only) - {bug.name for bug in bugs}
        if unknown:
            parser.error(f"no bug is called {', '.join(sorted(unknown))}; see --list")
    chosen = [bug for bug in bugs if (bug.name in options.only if options.only else not bug.invisible)]
    verdicts, idle = [], []
    try:
        check_unplanted(chosen)
        print(f"Unplanted, the tests pass. {len(chosen)} bugs:", flush=True)
        with ThreadPoolExecutor(PROCESSES) as pool:
            for attempt in [pool.submit(try_bug, bug) for bug in chosen]:
                try:
                    verdict = attempt.result()
                except PlantingError as error:
                    idle.append(str(error))
                    continue
                verdicts.append(verdict)
                print(f"{verdict.bug.name:<40} {verdict.rung:<3} {verdict.test}", flush=True)
    except PlantingError as error:
        idle.append(str(error))
    if options.markdown:
        options.markdown.write_text(as_markdown(verdicts, bugs) + "\n", encoding="utf-8")
    missed = [verdict.bug.name for verdict in verdicts if not verdict.caught]
    print(f"{len(verdicts) - len(missed)} of {len(chosen)} bugs were caught")
    print(*(f"{NOT_CAUGHT}: {name}" for name in missed), *idle, sep="\n")
    return 1 if missed or idle else 0


if __name__ == "__main__":
    sys.exit(main())
