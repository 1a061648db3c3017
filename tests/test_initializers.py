"""Initial weights: their spread, and that they depend on nothing but the seed and the sizes."""

import numpy as np
import pytest

from fastmlp.errors import ConfigError
from fastmlp.initializers import draw_weights, standard_deviation
from fastmlp.layout import NetworkSpec
from fastmlp.network import Network


@pytest.mark.parametrize(("kind", "expected"), [("he", np.sqrt(2 / 400)), ("xavier", 1 / 20), ("normal", 0.03)])
def test_weights_have_the_standard_deviation_that_was_asked_for(kind, expected):
    assert standard_deviation(kind, 400, 0.03) == pytest.approx(expected)
    first, second = draw_weights(1, (400, 300, 50), kind, 0.03)
    assert first.std() == pytest.approx(expected, rel=0.01)
    assert abs(first.mean()) < 5 * expected / np.sqrt(first.size)
    assert second.std() == pytest.approx(standard_deviation(kind, 300, 0.03), rel=0.03)


def test_an_unknown_kind_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"'xaver'.*xavier"):
        standard_deviation("xaver", 3, 0.1)


def test_different_seeds_draw_different_weights_and_the_same_seed_the_same():
    one, two, three = (draw_weights(seed, (5, 4, 3), "he", 0.01) for seed in (1, 2, 1))
    for a, b, c in zip(one, two, three, strict=True):
        assert not np.any(a == b)
        assert np.array_equal(a, c)


def test_the_seeds_numbers_are_fixed_for_ever():
    w = draw_weights(0, (2, 2), "normal", 1.0)[0]
    assert np.array_equal(w, np.random.default_rng((0, 1)).standard_normal((2, 2)))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("members", [1, 3])
def test_initial_weights_do_not_depend_on_members_dtype_or_batch_norm(cpu, members, dtype):
    expected = draw_weights(7, (6, 5, 4, 3), "he", 0.01)
    for batch_norm in (True, False):
        network = Network(NetworkSpec(6, (5, 4), 3, batch_norm), cpu, members=members, dtype=dtype)
        network.initialize([7, 8, 9][:members][::-1])       # seed 7 is the last member
        for layer, w in enumerate(expected):
            assert np.array_equal(network.views()[f"w{layer}"][-1], w.astype(dtype))


def test_initial_weights_do_not_depend_on_the_batch_size(make_trainer):
    assert np.array_equal(make_trainer(batch_size=7).network.parameters, make_trainer(batch_size=60).network.parameters)
