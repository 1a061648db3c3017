"""fastmlp on each backend, plain NumPy, and the matrix products alone.

A contender is made by a function without arguments and is itself one: a call trains `problem.steps` steps of an epoch
in a new order, waits until they are done, and returns their losses (steps, members) if it computes any. One that trains
fewer members than the case has, because they take as long each, has an attribute `scale` for its time.
"""

from functools import partial

import numpy as np
from plain_numpy import PlainNetwork, ProductsOnly, StackedProductsOnly
from problem import CLASSES

from fastmlp.layout import NetworkSpec
from fastmlp.network import Network
from fastmlp.optimizers import SGD
from fastmlp.trainer import Trainer

#: What fastmlp is called on each backend.
CUPY, COMPILED, NUMPY = "fastmlp CuPy", "fastmlp", "fastmlp, NumPy's kernels"


def makers(case, problem, backends, peers):
    """What makes the contenders of a case, by name; cheap ones first, since time may run out.

    The first is the one that the others are compared with. `backends` are by the names above.
    """
    found = {}
    for name, backend in backends.items():
        if name == CUPY:
            found[f"{CUPY} recorded"] = partial(fastmlp, case, problem, backend, record=True)
            found[name] = partial(fastmlp, case, problem, backend, record=False)
            if case.section != "populations":
                found["products alone, CuPy"] = partial(products_alone, case, problem, backend)
        else:
            found[name] = partial(fastmlp, case, problem, backend)
    on_cpu = next((backend for backend in backends.values() if backend.name == "cpu"), None)
    if on_cpu and case.section == "networks":
        found["plain NumPy"] = partial(plain_numpy, case, problem)
    if on_cpu:
        floor = "stacked products alone, NumPy" if case.section == "populations" else "products alone, NumPy"
        found[floor] = partial(products_alone, case, problem, on_cpu)
    return found | (peers_of(case, problem, "gpu" if CUPY in backends else "cpu") if peers else {})


def peers_of(case, problem, device):
    """What makes the other libraries' contenders; those that are slow to make come last."""
    import peers_jax
    import peers_sklearn
    import peers_torch

    from_torch = peers_torch.makers(case, problem, device)
    slow_to_make = {name: from_torch.pop(name) for name in list(from_torch) if "compiled" in name}
    return (peers_sklearn.makers(case, problem, device) | from_torch | peers_jax.makers(case, problem, device)
            | slow_to_make)


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
    if case.section == "populations":
        products = StackedProductsOnly(problem.sizes(case), problem.batch, case.members)
    else:
        products = ProductsOnly(problem.sizes(case), problem.batch, backend.asarray, backend.xp.matmul)

    def run():
        for _ in range(problem.steps):
            products.step()
        backend.synchronize()

    return run
