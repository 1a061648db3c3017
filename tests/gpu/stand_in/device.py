"""The one device that the stand-in plays: its memory, its streams, and what is counted on it.

Kernels run at once, in the order they are launched, unless the current stream is being captured: then they are written
down for a graph.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from .memory import Memory, OutOfMemoryError, Task, check_canaries

MEMORY_BYTES = 2**33        # without a limit


@dataclass
class Counts:
    """What happened on the device since the last `Device.reset`.

    Attributes
    ----------
    launches : kernels that the host launched one by one, array functions included (one each)
    products : calls of cuBLAS that computed at once; they are among the launches
    recorded : kernels written down during a capture, not launched
    graph_launches : launches of graphs
    replayed : kernels in the graphs that were launched
    host_to_device, device_to_host : copies
    synchronisations : times the host waited, those of copies to the host left out
    allocations : new arrays, those during a capture included
    allocations_in_capture : new arrays during a capture, where that is allowed
    """

    launches: int = 0
    products: int = 0
    recorded: int = 0
    graph_launches: int = 0
    replayed: int = 0
    host_to_device: int = 0
    device_to_host: int = 0
    synchronisations: int = 0
    allocations: int = 0
    allocations_in_capture: int = 0


class Stream:
    """A CUDA stream; everything launched on it is done at once."""

    null: Stream

    def __init__(self, null: bool = False, non_blocking: bool = False, ptds: bool = False) -> None:
        self.ptr = 0 if null else id(self)
        self.recording: list[Task] | None = None
        self.capture_is_invalid = False
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
        if self.capture_is_invalid:
            raise RuntimeError("the stream was capturing, but an error has invalidated the capture sequence")
        return self.recording is not None

    def begin_capture(self, mode: int | None = None) -> None:
        if self.ptr == 0:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        if self.recording is not None:
            raise RuntimeError("cudaErrorIllegalState: the stream is being captured already")
        self.recording = []

    def end_capture(self) -> Graph:
        """What was written down, though an exception ended it early, unless the device itself refused something."""
        if self.recording is None:
            raise RuntimeError("cudaErrorIllegalState: the stream is not being captured")
        tasks, self.recording = self.recording, None
        if self.capture_is_invalid:
            self.capture_is_invalid = False
            raise RuntimeError("cudaErrorStreamCaptureInvalidated: operation failed due to a previous error during "
                               "capture")
        return Graph(tasks)


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
        device.refuse_in_capture("Graph.launch", stream)
        device.counts.graph_launches += 1
        device.counts.replayed += len(self.tasks)
        for task in self.tasks:
            task.run()

    def upload(self, stream: Stream | None = None) -> None:
        """Nothing: the graph is where it is launched."""


class Device:
    """See the module."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew: counts at zero, no memory and no limit to it, the default stream."""
        self.counts = Counts()
        self.stream = Stream.null
        self.allocation_in_capture_allowed = False
        self.memory_limit: int | None = None
        self.fault: Exception | None = None         # of a library, which could only return a number
        self._memory: weakref.WeakSet[Memory] = weakref.WeakSet()

    @property
    def capturing(self) -> bool:
        return self.stream.recording is not None

    def allocate(self, n_bytes: int, item_bytes: int) -> Memory:
        """New memory for items of so many bytes, full of NaN."""
        if self.capturing and not self.allocation_in_capture_allowed:
            raise RuntimeError("an array was made during stream capture")
        if self.memory_limit is not None and self.used_bytes() + n_bytes > self.memory_limit:
            gc.collect()        # as CuPy does
            if self.used_bytes() + n_bytes > self.memory_limit:
                raise OutOfMemoryError(n_bytes, self.used_bytes(), self.memory_limit)
        self.counts.allocations += 1
        self.counts.allocations_in_capture += self.capturing
        memory = Memory(n_bytes, item_bytes)
        self._memory.add(memory)
        return memory

    def used_bytes(self) -> int:
        """The size of all arrays together."""
        return sum(memory.bytes.size for memory in self._memory)

    def memory_info(self) -> tuple[int, int]:
        """Free and whole memory in bytes, as `memGetInfo` gives them."""
        whole = MEMORY_BYTES if self.memory_limit is None else self.memory_limit
        return max(0, whole - self.used_bytes()), whole

    def memory_at(self, address: int, n_bytes: int) -> Memory | None:
        """The memory that these bytes are in, if they are all in one."""
        return next((memory for memory in self._memory if memory.holds(address, n_bytes)), None)

    def living_arrays(self) -> int:
        """How many stretches of memory are in use."""
        return len(self._memory)

    def check_memory(self, after: str, memory: Iterable[Memory] | None = None) -> None:
        """Look at the canaries of the given memory, or of all there is."""
        check_canaries(after, list(self._memory) if memory is None else memory)

    def raise_fault(self) -> None:
        """Raise what a library could not say, once."""
        fault, self.fault = self.fault, None
        if fault is not None:
            raise fault

    def submit(self, name: str, work: Callable[[], None], memory: list[Memory], check: bool = False) -> None:
        """Run a kernel that uses this memory, or write it down if the stream is being captured.

        With `check`, for kernels that could write anywhere, the canaries around the memory are looked at afterwards.
        """
        if self.stream.capture_is_invalid:
            raise RuntimeError("cudaErrorStreamCaptureInvalidated: operation failed due to a previous error during "
                               "capture")
        task = Task(name, work, [weakref.ref(stretch) for stretch in memory], check)
        if self.stream.recording is None:
            self.counts.launches += 1
            task.run()
        else:
            self.counts.recorded += 1
            self.stream.recording.append(task)

    def wait(self, what: str) -> None:
        """The host waits for the device; in a capture it is CUDA that refuses this, not CuPy."""
        self.stream.capture_is_invalid = self.capturing
        self.refuse_in_capture(what)
        self.counts.synchronisations += 1

    def refuse_in_capture(self, what: str, stream: Stream | None = None) -> None:
        """For what a stream, the current one by default, cannot do while it is captured."""
        if (stream or self.stream).recording is not None:
            raise RuntimeError(f"the current stream is capturing, so {what} is not allowed")

    def refuse_library_in_capture(self, library: str) -> None:
        """For the libraries that CuPy does not let into a capture."""
        if self.capturing:
            raise NotImplementedError(f"calling {library} API during stream capture is currently unsupported")


device: Any = Device()
