"""Fuzz the readers with atheris, guided by coverage: `python -m fuzz.readers --seconds 60`.

Every reader has its share of the time, in a process of its own, beginning with the corpus's samples. Whatever is
neither read nor refused in one sentence ends that process and is kept in `--keep`; so is what hangs or takes too much
memory. `pip install 'atheris>=3'` first; its wheels are for Linux and Python 3.11 to 3.13.
"""

from __future__ import annotations

import argparse
import itertools
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fuzz.corpus import Reader

MOST_MEGABYTES = 2048       # of a process
LONGEST_SECONDS = 10        # for one file
#: What atheris traces; the libraries' C, C++ and Rust it cannot.
TRACED = ["fastmlp", "pickletools", "tarfile", "tomllib", "zipfile"]


def fuzz_one(name: str, arguments: list[str]) -> None:
    """Fuzz one reader in this process, which libFuzzer ends."""
    import atheris

    with atheris.instrument_imports(include=TRACED, enable_loader_override=False):
        from fuzz.corpus import READERS
        from fuzz.verdict import UNCAUGHT, judge, prepare
    reader = next(reader for reader in READERS if reader.name == name)
    folder = Path(tempfile.mkdtemp(dir=arguments.pop()))
    prepare(reader, folder)

    def test(content: bytes) -> None:
        verdict = judge(reader, content, folder)
        if verdict.outcome == UNCAUGHT:
            raise AssertionError(f"{reader.name}: {verdict.words}")

    atheris.Setup([sys.argv[0], *arguments], test)
    atheris.Fuzz()


def fuzz_all(seconds: int, wanted: list[str], keep: Path, seed: int) -> int:
    """Fuzz the readers, as many at once as there are cores; how many of them did something wrong."""
    from fastmlp.cpu import usable_cores
    from fuzz.corpus import READERS

    readers = [reader for reader in READERS if any(word in reader.name for word in wanted)]
    keep.mkdir(parents=True, exist_ok=True)
    each = max(1, seconds // max(1, len(readers)))
    total = failures = 0
    print(f"{'reader':28}{'executions':>12}{'per second':>12}{'coverage':>10}  found", flush=True)
    with ThreadPoolExecutor(usable_cores()) as pool:
        # Without control characters or slashes, as libFuzzer puts it before the names of what it keeps.
        prefixes = [keep / re.sub(r"\W+", "-", reader.name) for reader in readers]
        seeds = range(seed, seed + len(readers))
        ended = pool.map(fuzz_in_a_process, readers, prefixes, seeds, itertools.repeat(each))
        for reader, prefix, done in zip(readers, prefixes, ended, strict=True):
            figures = re.findall(r"stat::number_of_executed_units:\s*(\d+)", done.stderr) or ["0"]
            rates = re.findall(r"exec/s: (\d+)", done.stderr) or ["0"]
            coverage = re.findall(r"cov: (\d+)", done.stderr) or ["0"]
            total += int(figures[-1])
            failures += done.returncode != 0
            found = "nothing" if done.returncode == 0 else f"see {prefix}-*"
            print(f"{reader.name:28}{figures[-1]:>12}{rates[-1]:>12}{coverage[-1]:>10}  {found}", flush=True)
            if done.returncode:
                for line in (done.stdout + done.stderr).splitlines():
                    if "error" in line.lower():
                        print(f"    {line:.300}", flush=True)
    print(f"{total} executions, {failures} readers with something uncaught")
    return failures


def fuzz_in_a_process(reader: Reader, prefix: Path, seed: int, seconds: int) -> subprocess.CompletedProcess[str]:
    """Fuzz one reader, beginning with its samples; what is found is kept in files whose names begin with the prefix."""
    with tempfile.TemporaryDirectory() as folder:
        samples = Path(folder) / "samples"
        samples.mkdir()
        for place, sample in enumerate(reader.samples()):
            (samples / str(place)).write_bytes(sample)
        length = 2 * max(len(sample) for sample in reader.samples())
        command = [
            sys.executable, "-m", "fuzz.readers", "--one", reader.name, str(samples), f"-seed={seed}",
            f"-max_total_time={seconds}", f"-rss_limit_mb={MOST_MEGABYTES}", f"-timeout={LONGEST_SECONDS}",
            f"-artifact_prefix={prefix}-", f"-max_len={length}", "-print_final_stats=1", folder]
        return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)


def main() -> int:
    """Exit code 1 if anything was found, 2 without atheris."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help="of a processor, all readers together")
    parser.add_argument("--reader", nargs="+", default=[""], help="only readers whose name holds one of these")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"), help="folder for what went wrong")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--one", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = parser.parse_args()
    try:
        import atheris  # noqa: F401
    except ImportError:
        print("fuzz.readers needs atheris, which is not installed: pip install 'atheris>=3'", file=sys.stderr)
        return 2
    if options.one:
        fuzz_one(options.one[0], options.one[1:])
        return 0
    return 1 if fuzz_all(options.seconds, options.reader, options.keep, options.seed) else 0


if __name__ == "__main__":
    sys.exit(main())
