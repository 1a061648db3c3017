"""What is free: on the machine, and in the container's groups."""

import pytest

from fastmlp.memory import ASSUMED, free_memory


@pytest.fixture
def system(tmp_path):
    """A root folder with the files given by path."""
    def system(**files):
        for path, text in {"proc/meminfo": "MemTotal: 9000 kB\nMemAvailable:    5000 kB\n", **files}.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text)
        return tmp_path
    return system


def test_without_groups_it_is_what_the_machine_has(system):
    assert free_memory(system()) == 5000 * 1024


@pytest.mark.parametrize(("limit", "free"), [("3000000", 3000000 - 1000000 + 400000), ("max", 5120000),
                                             ("9000000", 5120000), ("500000", 0)])
def test_a_groups_limit_counts_and_files_that_it_only_keeps_do_not(system, limit, free):
    group = "sys/fs/cgroup/a/b"
    root = system(**{"proc/self/cgroup": "0::/a/b\n", f"{group}/memory.max": limit + "\n",
                     f"{group}/memory.current": "1000000\n",
                     f"{group}/memory.stat": "anon 5\ninactive_file 400000\nactive_file 7\n"})
    assert free_memory(root) == free


def test_an_outer_groups_limit_counts_too(system):
    root = system(**{"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "max\n",
                     "sys/fs/cgroup/a/b/memory.current": "10\n", "sys/fs/cgroup/a/memory.max": "2000\n",
                     "sys/fs/cgroup/a/memory.current": "500\n"})
    assert free_memory(root) == 1500


@pytest.mark.parametrize("path", ["/docker/4f", "/"])
def test_groups_of_the_first_version_count_also_under_another_name_inside_a_container(system, path):
    folder = "sys/fs/cgroup/memory"
    root = system(**{"proc/self/cgroup": f"10:cpu,cpuacct:{path}\n9:memory:{path}\n1:name=systemd:{path}\n",
                     f"{folder}/memory.limit_in_bytes": "70000", f"{folder}/memory.usage_in_bytes": "30000",
                     f"{folder}/memory.stat": "inactive_file 5\ntotal_inactive_file 2000\n"})
    assert free_memory(root) == 42000


def test_without_any_of_these_files_there_is_still_an_answer(tmp_path, monkeypatch):
    assert free_memory(tmp_path) > 0
    monkeypatch.setattr("fastmlp.memory.os.sysconf_names", {})
    assert free_memory(tmp_path) == ASSUMED
