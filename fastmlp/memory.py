"""How much memory is free for this process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

#: Control groups of version 2 and 1, by the name that /proc/self/cgroup gives: where they are mounted, the files with
#: limit and use, and the line of memory.stat with that part of the use that the system gives up on demand.
GROUPS = {
    "": ("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    "memory": ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
ASSUMED = 4 << 30       # where the system does not tell


def free_memory(root: Path = Path("/")) -> int:
    """Bytes that this process may take without pushing anyone out; a container's limit counts like the machine's.

    Parameters
    ----------
    root : Path
        Where the system's files hang; another one for tests.

    Examples
    --------
    >>> free_memory() > 0
    True
    """
    return max(0, min([*_on_machine(root), *_in_groups(root)], default=ASSUMED))


def _on_machine(root: Path) -> Iterator[int]:
    available = _numbers(root / "proc/meminfo").get("MemAvailable:")
    if available is not None:
        yield 1024 * available
    elif "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):       # macOS: half of what is built in
        yield os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def _in_groups(root: Path) -> Iterator[int]:
    """What each group has left that this process is in, from its own to the outermost."""
    for line in _text(root / "proc/self/cgroup").splitlines():      # "0::/user.slice" or "9:memory:/docker/4f..."
        _, names, path = line.split(":", 2)
        if names not in GROUPS:
            continue
        mount, limit_file, use_file, reclaimable = GROUPS[names]
        inside = Path(path.lstrip("/"))
        for group in (inside, *inside.parents):
            folder = root / mount / group
            limit, use = _text(folder / limit_file).strip(), _text(folder / use_file).strip()
            if limit.isdecimal() and use.isdecimal():               # and not "max", or a group of another namespace
                yield int(limit) - int(use) + _numbers(folder / "memory.stat").get(reclaimable, 0)


def _numbers(path: Path) -> dict[str, int]:
    """First word and number of each line: "MemAvailable:   23740 kB"."""
    pairs = (line.split()[:2] for line in _text(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
