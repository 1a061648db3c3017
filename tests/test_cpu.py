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
