"""Threads of the libraries that multiply matrices."""

import pytest

from fastmlp import cpu
from fastmlp.errors import ConfigError


def test_blas_threads_limits_all_libraries_and_restores_them():
    pytest.importorskip("scipy.linalg")  # brings a second BLAS with its own threads

    def threads():
        return [pool["num_threads"] for pool in cpu.blas_pools()]

    before = threads()
    with cpu.blas_threads(2):
        outer = threads()
        with cpu.blas_threads(1):
            assert set(threads()) == {1}
        assert threads() == outer
        with cpu.blas_threads(None):
            assert threads() == outer
    with pytest.raises(KeyError), cpu.blas_threads(1):
        raise KeyError
    assert threads() == before


def test_blas_threads_takes_effect_inside_the_with_block_only():
    before = cpu.blas_pools()
    cpu.blas_threads(1)  # made but not entered
    with pytest.raises(ConfigError, match="0 BLAS threads"), cpu.blas_threads(0):
        pass
    assert cpu.blas_pools() == before


GIB = 1 << 30


@pytest.mark.parametrize(("files", "expected"), [
    ({}, None),
    ({"proc/meminfo": "MemTotal: 9 kB\nMemAvailable:    4096 kB\n"}, 4096 * 1024),
    ({"proc/meminfo": "MemAvailable: 8388608 kB\n", "proc/self/cgroup": "0::/\n",
      "sys/fs/cgroup/memory.max": "4294967296", "sys/fs/cgroup/memory.current": "1073741824\n"}, 3 * GIB),
    ({"proc/meminfo": "MemAvailable: 1048576 kB\n", "sys/fs/cgroup/memory.max": f"{4 * GIB}",
      "sys/fs/cgroup/memory.current": "0"}, GIB),
    ({"proc/meminfo": "MemAvailable: 8388608 kB\n", "proc/self/cgroup": "0::/user/shell\n",
      "sys/fs/cgroup/user/shell/memory.max": "max", "sys/fs/cgroup/user/shell/memory.current": "5",
      "sys/fs/cgroup/user/memory.max": f"{2 * GIB}", "sys/fs/cgroup/user/memory.current": f"{GIB}",
      "sys/fs/cgroup/user/memory.stat": f"anon 1\ninactive_file {GIB // 2}\n"}, 3 * GIB // 2),
    ({"proc/meminfo": "MemAvailable: 8388608 kB\n", "proc/self/cgroup": "3:cpu,cpuacct:/a\n4:memory:/b\n",
      "sys/fs/cgroup/memory/b/memory.limit_in_bytes": f"{3 * GIB}",
      "sys/fs/cgroup/memory/b/memory.usage_in_bytes": f"{GIB}",
      "sys/fs/cgroup/memory/b/memory.stat": f"inactive_file 1\ntotal_inactive_file {GIB}\n"}, 3 * GIB),
    ({"proc/meminfo": "MemAvailable: 8388608 kB\n", "sys/fs/cgroup/memory.max": "5",
      "sys/fs/cgroup/memory.current": "7"}, 0),
], ids=["nowhere", "no groups", "version 2", "the system has less", "a group around it", "version 1", "none left"])
def test_available_memory_heeds_the_system_and_the_control_groups_around_the_process(tmp_path, files, expected):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cpu.available_bytes(tmp_path) == expected


def test_this_machine_has_memory_left_or_does_not_tell():
    assert cpu.available_bytes() is None or cpu.available_bytes() > 1 << 20
