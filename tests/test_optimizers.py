"""Optimizers beside their formulas on bare arrays, tensor by tensor and member by member."""

import numpy as np
import pytest
from tolerances import assert_close

from fastmlp.layout import NetworkSpec
from fastmlp.network import Network
from fastmlp.optimizers import SGD, Adam, restore, snapshot


def bare_sgd(p, g, lr, weight_decay, state, step, momentum, nesterov):
    g = g + weight_decay * p
    state["v"] = momentum * state.get("v", 0.0) + g
    return p - lr * (g + momentum * state["v"] if nesterov else state["v"])


def bare_adam(p, g, lr, weight_decay, state, step, decoupled):
    if decoupled:
        p = p * (1.0 - lr * weight_decay)
    else:
        g = g + weight_decay * p
    state["m"] = 0.8 * state.get("m", 0.0) + 0.2 * g
    state["v"] = 0.95 * state.get("v", 0.0) + 0.05 * g * g
    return p - lr * (state["m"] / (1 - 0.8**step)) / (np.sqrt(state["v"] / (1 - 0.95**step)) + 1e-6)


OPTIMIZERS = {
    "sgd": (lambda: SGD(), lambda *a: bare_sgd(*a, 0.0, False)),
    "momentum": (lambda: SGD(momentum=0.9), lambda *a: bare_sgd(*a, 0.9, False)),
    "nesterov": (lambda: SGD(momentum=0.7, nesterov=True), lambda *a: bare_sgd(*a, 0.7, True)),
    "adamw": (lambda: Adam(0.8, 0.95, 1e-6), lambda *a: bare_adam(*a, True)),
    "adam": (lambda: Adam(0.8, 0.95, 1e-6, decoupled=False), lambda *a: bare_adam(*a, False)),
}


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_five_updates_equal_the_formula(cpu, name, members, batch_norm):
    make, bare = OPTIMIZERS[name]
    optimizer, rng = make(), np.random.default_rng(0)
    l2 = np.array([0.3, 0.0, 0.05])[:members]
    network = Network(NetworkSpec(4, (3, 5), 2, batch_norm), cpu, members=members, dtype="float64", l2=l2)
    network.parameters[...] = rng.normal(size=network.layout.size)
    expected = {name: view.copy() for name, view in network.views().items()}
    states = {(name, k): {} for name in expected for k in range(members)}
    optimizer.prepare(network)
    for step in range(1, 6):
        gradients = rng.normal(size=network.layout.size)
        network.gradients[...] = gradients
        lr = rng.uniform(0.0, 0.2, members)
        for tensor, view in network.layout.member_views(gradients).items():
            decay = 2.0 * l2 if tensor.startswith("w") else np.zeros(members)
            for k in range(members):
                expected[tensor][k] = bare(expected[tensor][k], view[k], lr[k], decay[k], states[tensor, k], step)
        optimizer.update(network, lr, optimizer.constants(1)[0])
        optimizer.step += 1
    for tensor, view in network.views().items():
        assert_close(view, expected[tensor], 1e-13, tensor)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_rate_of_zero_moves_nothing(cpu, name):
    network = Network(NetworkSpec(4, (3,), 2), cpu, l2=0.1)
    network.initialize([0])
    network.gradients[...] = 1.0
    before = network.parameters.copy()
    optimizer = OPTIMIZERS[name][0]()
    optimizer.prepare(network)
    optimizer.update(network, np.zeros(1, np.float32), optimizer.constants(1)[0].astype(np.float32))
    assert np.array_equal(network.parameters, before)


def test_state_is_made_only_where_it_is_needed(cpu):
    network = Network(NetworkSpec(4, (3,), 2), cpu)
    for name, keys in (("sgd", set()), ("momentum", {"velocity"}), ("adamw", {"first", "second"})):
        optimizer = OPTIMIZERS[name][0]()
        optimizer.prepare(network)
        assert set(optimizer.state) == keys
        assert all(value.shape == network.parameters.shape for value in optimizer.state.values())


def test_constants_of_many_updates_are_those_of_one_after_the_other():
    together, single = Adam(0.8, 0.95), Adam(0.8, 0.95)
    expected = together.constants(4)
    for row in expected:
        assert_close(single.constants(1)[0], row, 1e-15)
        single.step += 1


@pytest.mark.parametrize("name", ["momentum", "adamw"])
def test_going_back_to_a_snapshot_keeps_the_arrays_that_recorded_steps_know(cpu, name):
    network = Network(NetworkSpec(4, (3,), 2), cpu)
    optimizer = OPTIMIZERS[name][0]()
    optimizer.prepare(network)
    saved, arrays = snapshot(optimizer), dict(optimizer.state)
    for array in arrays.values():
        array += 1.0
    optimizer.step = 7
    restore(optimizer, saved)
    assert optimizer.step == 0
    for key, array in optimizer.state.items():
        assert array is arrays[key]
        assert not array.any()
