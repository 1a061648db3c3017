"""The one device that the stand-in plays: its memory, its streams, and what is counted on it.

Kernels run at once, in the order they are launched, unless the current stream is being captured: then they are written
down for a graph. New memory holds NaN (integers -1) and lies between canaries.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

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


@dataclass
class Counts:
    """What happened on the device since the last `Device.reset`.

    Attributes
    ----------
    launches : kernels that the host launched one by one, array functions included (one each)
    products : calls of cuBLAS
    recorded : kernels written down during a capture, not launched
    graph_launches : launches of graphs
    host_to_device, device_to_host : copies
    synchronisations : times the host waited, those of copies to the host left out
    allocations : new arrays, those during a capture included
    allocations_in_capture : new arrays during a capture
    """

    launches: int = 0
    products: int = 0
    recorded: int = 0
    graph_launches: int = 0
    host_to_device: int = 0
    device_to_host: int = 0
    synchronisations: int = 0
    allocations: int = 0
    allocations_in_capture: int = 0


class Memory:
    """A stretch of device memory between two canaries."""

    def __init__(self, n_bytes: int, item_bytes: int) -> None:
        whole = np.full(n_bytes + 2 * CANARY_BYTES, POISON, np.uint8)
        self.bytes = whole[CANARY_BYTES:CANARY_BYTES + n_bytes]
        self._before, self._behind = whole[:CANARY_BYTES], whole[-CANARY_BYTES:]
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
            device.check_memory(self.name, memory)


class Stream:
    """A CUDA stream; everything launched on it is done at once."""

    null: Stream

    def __init__(self, null: bool = False, non_blocking: bool = False, ptds: bool = False) -> None:
        self.ptr = 0 if null else id(self)
        self.recording: list[Task] | None = None
        self._outer: list[Stream] = []

    def __enter__(self) -> Stream:
        self._outer.append(device.stream)
        device.stream = self
        return self

    def __exit__(self, *error: object) -> None:
        device.stream = self._outer.pop()

    def use(self) -> Stream:
        device.stream = self
        return self

    def synchronize(self) -> None:
        device.wait("synchronize")

    @property
    def done(self) -> bool:
        device.refuse_in_capture("Stream.done")
        return True

    def record(self, event: Event | None = None) -> Event:
        return event or Event()

    def wait_event(self, event: Event) -> None:
        """Nothing: whatever the event stands for is done."""

    def is_capturing(self) -> bool:
        return self.recording is not None

    def begin_capture(self, mode: int | None = None) -> None:
        if self.ptr == 0:
            raise RuntimeError("cudaErrorStreamCaptureUnsupported: the default stream cannot be captured")
        if self.recording is not None:
            raise RuntimeError("cudaErrorIllegalState: the stream is being captured already")
        self.recording = []

    def end_capture(self) -> Graph:
        if self.recording is None:
            raise RuntimeError("cudaErrorIllegalState: the stream is not being captured")
        graph, self.recording = Graph(self.recording), None
        return graph


Stream.null = Stream(null=True)


class Event:
    """A moment in a stream."""

    def __init__(self, block: bool = False, disable_timing: bool = False, interprocess: bool = False) -> None:
        self.done = True

    def record(self, stream: Stream | None = None) -> None:
        """Nothing: there is no time on this device."""

    def synchronize(self) -> None:
        device.wait("Event.synchronize")


class Graph:
    """The kernels of a capture, to be launched together as often as wanted."""

    def __init__(self, tasks: list[Task]) -> None:
        self.tasks = tasks

    def launch(self, stream: Stream | None = None) -> None:
        device.refuse_in_capture("Graph.launch")
        device.counts.graph_launches += 1
        for task in self.tasks:
            task.run()

    def upload(self, stream: Stream | None = None) -> None:
        """Nothing: the graph is where it is launched."""


class Device:
    """See the module."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew: counts at zero, no memory, the default stream."""
        self.counts = Counts()
        self.stream = Stream.null
        self.allocation_in_capture_allowed = True
        self._memory: weakref.WeakSet[Memory] = weakref.WeakSet()

    @property
    def capturing(self) -> bool:
        return self.stream.recording is not None

    def allocate(self, n_bytes: int, item_bytes: int) -> Memory:
        """New memory for items of so many bytes, full of NaN."""
        self.counts.allocations += 1
        if self.capturing:
            if not self.allocation_in_capture_allowed:
                raise RuntimeError("an array was made during stream capture")
            self.counts.allocations_in_capture += 1
        memory = Memory(n_bytes, item_bytes)
        self._memory.add(memory)
        return memory

    def living_arrays(self) -> int:
        """How many stretches of memory are in use."""
        return len(self._memory)

    def check_memory(self, after: str, memory: Iterable[Memory] | None = None) -> None:
        """Look at the canaries of the given memory, or of all there is."""
        for stretch in list(self._memory) if memory is None else memory:
            stretch.check(after)

    def submit(self, name: str, work: Callable[[], None], memory: list[Memory], check: bool = False) -> None:
        """Run a kernel that uses this memory, or write it down if the stream is being captured.

        With `check`, for kernels that could write anywhere, the canaries around the memory are looked at afterwards.
        """
        task = Task(name, work, [weakref.ref(stretch) for stretch in memory], check)
        if self.stream.recording is None:
            self.counts.launches += 1
            task.run()
        else:
            self.counts.recorded += 1
            self.stream.recording.append(task)

    def wait(self, what: str) -> None:
        """The host waits for the device."""
        self.refuse_in_capture(what)
        self.counts.synchronisations += 1

    def refuse_in_capture(self, what: str) -> None:
        """For what makes a capture invalid."""
        if self.capturing:
            raise RuntimeError(f"the current stream is capturing, so {what} is not allowed")

    def refuse_library_in_capture(self, library: str) -> None:
        """For the libraries that CuPy does not let into a capture."""
        if self.capturing:
            raise NotImplementedError(f"calling {library} API during stream capture is currently unsupported")


device: Any = Device()
