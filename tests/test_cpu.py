"""Threads of the libraries that multiply matrices."""

import threading

import pytest

from fastmlp import backend, cpu
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
        assert threads() == outer
    assert threads() == before


def test_blas_threads_takes_effect_inside_the_with_block_only():
    before = cpu.blas_pools()
    cpu.blas_threads(1)  # made but not entered
    with pytest.raises(ConfigError, match="0 BLAS threads"), cpu.blas_threads(0):
        pass
    assert cpu.blas_pools() == before


def test_overlapping_limits_of_two_threads_leave_the_process_as_it_was():
    def threads():
        return {pool["num_threads"] for pool in cpu.blas_pools()}

    entered, go_on, seen = threading.Event(), threading.Event(), []

    def limit_to_three():
        with cpu.blas_threads(3):
            seen.append(threads())
            entered.set()
            go_on.wait(60)

    other = threading.Thread(target=limit_to_three)
    before = threads()
    with cpu.blas_threads(1):
        other.start()
        assert entered.wait(60)
    go_on.set()
    other.join(60)
    assert seen == [{1}]
    assert threads() == before
    third = threading.Thread(target=limit_to_three)   # nobody holds them any more
    third.start()
    third.join(60)
    assert seen == [{1}, {3}]
    assert threads() == before


@pytest.mark.parametrize(("variable", "expected"), [
    ("2", 2), ("3,1", 3), (" 1 ", 1), ("64", 8), ("", 8), ("0", 8), ("-1", 8), ("many", 8), (None, 8)])
def test_no_more_threads_than_cores_or_than_the_environment_asks_for_are_taken(monkeypatch, variable, expected):
    monkeypatch.setattr(cpu, "usable_cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if variable is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
    assert cpu.most_threads() == expected


def test_the_compiled_kernels_keep_to_the_environments_number_of_threads(monkeypatch):
    monkeypatch.setattr(cpu, "usable_cores", lambda: 8)
    for variable, words in (("1", "1 thread at most"), ("5", "5 threads at most")):
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
        backend._cpu_kernels.cache_clear()
        try:
            found = backend.resolve("cpu")
        finally:
            backend._cpu_kernels.cache_clear()
        assert words in found.description or not found.records
