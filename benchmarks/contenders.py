"""fastmlp on each backend, plain NumPy, and the matrix products alone.

A contender is made by a function without arguments and is itself one: a call trains `problem.steps` steps of an epoch
in a new order, waits until they are done, and returns their losses (steps, members) if it computes any.
"""

import numpy as np
from plain_numpy import PlainNetwork, ProductsOnly
from problem import CLASSES

from fastmlp.layout import NetworkSpec
from fastmlp.network import Network
from fastmlp.optimizers import SGD
from fastmlp.trainer import Trainer


def makers(case, problem, backends, peers):
    """What makes the contenders of a case, by name; cheap ones first, since time may run out.

    The first is the one that the others are compared with.
    """
    found = {}
    device = "gpu" if any(backend.name == "gpu" for backend in backends) else "cpu"
    for backend in sorted(backends, key=lambda backend: backend.name, reverse=True):     # the GPU first
        if backend.name == "gpu":
            found["fastmlp CuPy recorded"] = lambda backend=backend: fastmlp(case, problem, backend, record=True)
            found["fastmlp CuPy"] = lambda backend=backend: fastmlp(case, problem, backend, record=False)
        else:
            found["fastmlp NumPy"] = lambda backend=backend: fastmlp(case, problem, backend)
            if case.section == "networks":
                found["plain NumPy"] = lambda: plain_numpy(case, problem)
        if case.section != "populations":
            library = {"gpu": "CuPy", "cpu": "NumPy"}[backend.name]
            found[f"products alone, {library}"] = lambda backend=backend: products_alone(case, problem, backend)
    if peers:
        import peers_jax
        import peers_torch
        from_torch = peers_torch.makers(case, problem, device)
        slow_to_make = {name: from_torch.pop(name) for name in list(from_torch) if "compiled" in name}
        found |= from_torch | peers_jax.makers(case, problem, device) | slow_to_make
    return found


def fastmlp(case, problem, backend, **record):
    spec = NetworkSpec(problem.inputs, case.hidden, CLASSES, case.batch_norm)
    network = Network(spec, backend, members=case.members, l2=problem.l2)
    network.initialize(list(range(case.members)))
    trainer = Trainer(network, problem.examples(backend), SGD(), problem.rate, batch_size=problem.batch,
                      **record)
    return lambda: trainer.run_epoch(problem.steps).losses


def plain_numpy(case, problem):
    network = PlainNetwork(problem.weights(case)[0], case.batch_norm)
    data, one_hot = problem.standardised, np.eye(CLASSES, dtype=np.float32)[problem.labels]
    rng, first = np.random.default_rng(0), 0

    def run():
        nonlocal first
        order, rates = rng.permutation(problem.n), problem.rate(np.arange(first, first + problem.steps))
        for k in range(problem.steps):
            rows = order[k * problem.batch:(k + 1) * problem.batch]
            network.step(data[rows], one_hot[rows], np.float32(rates[k]), np.float32(problem.l2))
        first += problem.steps

    return run


def products_alone(case, problem, backend):
    products = ProductsOnly(problem.sizes(case), problem.batch, backend.asarray, backend.xp.matmul)

    def run():
        for _ in range(problem.steps):
            products.step()
        backend.synchronize()

    return run
