"""Device memory: stretches of host memory between canaries, full of NaN (integers -1) when they are new."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

ALIGNMENT = 512     # CuPy's
CANARY_BYTES = 32 * 1024
POISON = 0xFF       # as bytes of a float or double: NaN
# What lies beside an array, by its item's size: as a float of that size it is a signalling NaN, which the slightest
# arithmetic turns into a quiet one, so that `x[i] += 1` beyond the end changes it as well as `x[i] = 1`.
CANARIES = {
    size: np.full(CANARY_BYTES // size, pattern, f"u{size}").tobytes()
    for size, pattern in ((1, 0x5A), (2, 0x7DA1), (4, 0x7FA15A5A), (8, 0x7FF45A5A5A5A5A5A))
}


class OutsideWriteError(RuntimeError):
    """Something wrote outside an array; on a GPU that would be silent."""


class OutOfMemoryError(MemoryError):
    """`cupy.cuda.memory.OutOfMemoryError`."""

    def __init__(self, size: int, total: int, limit: int = 0) -> None:
        set_to = f", limit set to: {limit:,} bytes" if limit else ""
        super().__init__(f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes{set_to}).")


class Memory:
    """A stretch of device memory between two canaries."""

    def __init__(self, n_bytes: int, item_bytes: int) -> None:
        whole = np.full(n_bytes + 2 * CANARY_BYTES + ALIGNMENT, POISON, np.uint8)
        start = CANARY_BYTES + -whole.ctypes.data % ALIGNMENT
        self.bytes = whole[start:start + n_bytes]
        self.address = whole.ctypes.data + start
        self._before = whole[start - CANARY_BYTES:start]
        self._behind = whole[start + n_bytes:start + n_bytes + CANARY_BYTES]
        self._canary = CANARIES[item_bytes]
        self._set_canaries()

    def _set_canaries(self) -> None:
        for place in (self._before, self._behind):
            place[...] = np.frombuffer(self._canary, np.uint8)

    def check(self, after: str) -> None:
        """Refuse to go on if a canary has changed."""
        for place, where in ((self._before, "before"), (self._behind, "behind")):
            if place.tobytes() != self._canary:
                self._set_canaries()        # reported once
                raise OutsideWriteError(f"{after}: wrote {where} an array of {self.bytes.size} bytes")

    def holds(self, address: int, n_bytes: int) -> bool:
        """Whether these bytes are all inside."""
        return self.address <= address and address + n_bytes <= self.address + self.bytes.size


@dataclass
class Task:
    """A kernel with its arguments: what it does, and the memory it uses, which must be there whenever it runs."""

    name: str
    work: Callable[[], None]
    memory: list[weakref.ref[Memory]]
    check: bool

    def run(self) -> None:
        memory = [stretch for reference in self.memory if (stretch := reference()) is not None]
        if len(memory) < len(self.memory):
            raise RuntimeError(f"the graph's kernel {self.name} uses an array that is gone: on a GPU its memory would "
                               "belong to another by now")
        self.work()
        if self.check:
            check_canaries(self.name, memory)


def check_canaries(after: str, memory: Iterable[Memory]) -> None:
    """Refuse to go on if anything wrote beside this memory."""
    for stretch in memory:
        stretch.check(after)
