"""Try thousands of damaged files on every reader: `python -m fuzz.mutations --count 10000`.

Each reader runs in a process of its own with a limit of memory, so that a crash, a hang or a huge allocation is seen,
too. The same seed damages the same files in the same way.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

from fuzz.corpus import READERS, Reader
from fuzz.verdict import UNCAUGHT, Verdict, judge, prepare

EXTRA_MEMORY = 2 << 30      # bytes of address space; the files have a few kB
LONGEST_SECONDS = 10.0      # for one file
NUMBERS = (0, 1, -1, 2, 127, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**62, 2**63 - 1, 2**64 - 1)
WORDS = (b"=1+1", b"+cmd", b"@x", b"-2+3", b"\0", b"\n", b"\r", b",", b'"', b"NaN", b"nan", b"inf", b"-1e999", b"null",
         b"true", b"[[", b"]]", b"{", b"}", b"..", b"../../up", b"/etc/passwd", b"|O", b"<U9", b"<f2", b"<M8[s]",
         b"O8", b"(0,)", b"1e9", b"99999999999999999999", b"\xff\xfe", b"\xf0\x9f\x92\xa5", b"\x1b[31m", b"1979-05-27",
         b"PK\x05\x06", b"\x1f\x8b", b"cos\nsystem\n", b"__import__", b"\xe2\x80\xae", b"10" * 40)

Random = random.Random


def place(data: bytearray, rng: Random) -> int:
    """A position; half the time near the beginning or the end, where headers are."""
    edge = min(len(data), 200)
    return rng.choice([rng.randrange(len(data) + 1), rng.randrange(edge + 1), len(data) - rng.randrange(edge + 1)])


def cut(data: bytearray, rng: Random) -> None:
    """Shorten it."""
    del data[place(data, rng):]


def flip(data: bytearray, rng: Random) -> None:
    """Turn over some bits."""
    for _ in range(rng.choice([1, 1, 2, 8])):
        if data:
            data[min(place(data, rng), len(data) - 1)] ^= 1 << rng.randrange(8)


def overwrite(data: bytearray, rng: Random) -> None:
    """Put a number of another size, in either byte order, over what is there."""
    width, at = rng.choice([1, 2, 4, 8]), place(data, rng)
    number = (rng.choice(NUMBERS) + rng.choice([0, 0, 1, -1])) % (1 << 8 * width)
    data[at:at + width] = number.to_bytes(width, rng.choice(["little", "big"]))


def digits(data: bytearray, rng: Random) -> None:
    """Exchange a number that is written out for another."""
    starts = [i for i, byte in enumerate(data[:5000]) if 48 <= byte <= 57]
    if starts:
        at = end = rng.choice(starts)
        while end < len(data) and 48 <= data[end] <= 57:
            end += 1
        data[at:end] = str(rng.choice([*NUMBERS, 10**30, 0.5, -0.0, 1e308])).encode()


def insert(data: bytearray, rng: Random) -> None:
    """Insert a word that means something somewhere, or noise."""
    at = place(data, rng)
    data[at:at] = rng.choice([rng.choice(WORDS), rng.randbytes(rng.randrange(1, 20))])


def replace(data: bytearray, rng: Random) -> None:
    """Put a word over what is there."""
    at, word = place(data, rng), rng.choice(WORDS)
    data[at:at + len(word)] = word


def remove(data: bytearray, rng: Random) -> None:
    """Take out a piece."""
    at = place(data, rng)
    del data[at:at + rng.choice([1, 2, 8, 100])]


def repeat(data: bytearray, rng: Random) -> None:
    """Write a piece twice, or many times."""
    at = place(data, rng)
    piece = data[at:at + rng.choice([1, 8, 64, 512])]
    data[at:at] = piece * rng.choice([1, 1, 50])


def move(data: bytearray, rng: Random) -> None:
    """Exchange two pieces."""
    a, b = sorted((place(data, rng), place(data, rng)))
    length = min(rng.choice([1, 4, 64]), b - a)
    data[a:a + length], data[b:b + length] = data[b:b + length], data[a:a + length]


MUTATORS: tuple[Callable[[bytearray, Random], None], ...] = (
    cut, flip, flip, overwrite, overwrite, digits, digits, insert, replace, remove, repeat, move)


def mutation(reader: Reader, number: int, seed: int = 0) -> bytes:
    """The reader's damaged file of that number."""
    rng = Random(f"{reader.name} {seed} {number}")
    data = bytearray(rng.choice(reader.samples()))
    for _ in range(rng.choice([1, 1, 2, 4])):
        rng.choice(MUTATORS)(data, rng)
    return bytes(data)


def work(name: str, numbers: range, seed: int, pipe: Connection) -> None:
    """In a process of its own: judge one damaged file after the other and tell of each before and after."""
    reader = next(reader for reader in READERS if reader.name == name)
    with tempfile.TemporaryDirectory() as folder:
        prepare(reader, Path(folder))
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + EXTRA_MEMORY, size + EXTRA_MEMORY))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for number in numbers:
            pipe.send(number)
            verdict = judge(reader, mutation(reader, number, seed), Path(folder))
            pipe.send((verdict, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))


def results(reader: Reader, count: int, seed: int) -> Iterator[tuple[int, Verdict, float, int]]:
    """Number, verdict, seconds and growth of the process in kB, file by file; whatever ends a process is a verdict."""
    context, number = multiprocessing.get_context("spawn"), 0
    while number < count:
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=work, args=(reader.name, range(number, count), seed, there), daemon=True)
        process.start()
        there.close()
        try:
            here.recv()
        except EOFError:
            raise SystemExit(f"{reader.name}: its process could not begin") from None
        while True:
            began = time.monotonic()
            try:
                if not here.poll(LONGEST_SECONDS):
                    process.kill()
                    yield number, Verdict(UNCAUGHT, "it hangs"), LONGEST_SECONDS, 0
                    break
                verdict, kilobytes = here.recv()
                yield number, verdict, time.monotonic() - began, kilobytes
                if number + 1 == count:
                    break
                here.recv()
                number += 1
            except EOFError:
                process.join()
                yield number, Verdict(UNCAUGHT, f"the process ended with {process.exitcode}"), 0.0, 0
                break
        process.join()
        number += 1


def main() -> int:
    """Print a table with a row for each reader; 1 if there is anything uncaught."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="damaged files, of all readers together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reader", nargs="+", default=[""], help="only readers whose name holds one of these")
    parser.add_argument("--show", action="store_true", help="print every refusal")
    options = parser.parse_args()
    readers = [reader for reader in READERS if any(word in reader.name for word in options.reader)]
    each, failures = -(-options.count // len(readers)), 0
    print(f"{'reader':28}{'tried':>7}{'read':>7}{'refused':>9}{'uncaught':>10}{'slowest s':>11}{'grew MB':>9}")
    for reader in readers:
        outcomes, slowest, grown = Counter[str](), 0.0, 0
        for number, verdict, seconds, kilobytes in results(reader, each, options.seed):
            outcomes[verdict.outcome] += 1
            slowest, grown = max(slowest, seconds), max(grown, kilobytes)
            if verdict.outcome == UNCAUGHT or options.show:
                print(f"  {reader.name}, number {number}: {verdict.words[:400]}")
        failures += outcomes[UNCAUGHT]
        print(f"{reader.name:28}{outcomes.total():7}{outcomes['read']:7}{outcomes['refused']:9}"
              f"{outcomes[UNCAUGHT]:10}{slowest:11.2f}{grown / 1024:9.1f}", flush=True)
    print(f"{each * len(readers)} damaged files, {failures} uncaught")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
