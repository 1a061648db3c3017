"""The same training in JAX, where it is installed: a whole epoch in one `lax.scan`, populations by `vmap`.

Float32 products without TF32; the data lie on the device, standardised, and are arguments rather than constants of the
compiled epoch; the old state's memory is given to the new one. Batch norm keeps running statistics, the penalty acts on
the weights alone, and the losses of all steps come back.
"""

import os
from functools import partial

import numpy as np

KEPT = 0.9      # of the running statistics, each step


def makers(case, problem, device):
    """What makes the contenders of a case, by name; see `contenders.makers`."""
    name = "JAX vmap of the scan" if case.section == "populations" else "JAX scan"
    return {name: partial(_make, case, problem, device)}


def _loss(parameters, x, y):
    """Of one network, and the statistics (mean, variance) of its batch norms."""
    import jax
    import jax.numpy as jnp

    statistics = []
    for p in parameters[:-1]:
        x = x @ p["w"]
        if "gamma" in p:
            mean, var = x.mean(0), x.var(0)
            statistics.append((mean, var))
            x = p["gamma"] * ((x - mean) * jax.lax.rsqrt(var + 1e-5))
        x = jax.nn.relu(x + p["b"])
    log_p = jax.nn.log_softmax(x @ parameters[-1]["w"] + parameters[-1]["b"])
    return -jnp.take_along_axis(log_p, y[:, None], axis=1).mean(), statistics


def _make(case, problem, device):
    # JAX would take three quarters of the GPU's memory for itself at its start.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax

    jax.config.update("jax_default_matmul_precision", "float32")
    place = jax.devices(device)[0]
    data, targets = problem.kept(f"jax {device}", lambda: (
        jax.device_put(problem.standardised, place), jax.device_put(problem.labels.astype(np.int32), place)))
    n, batch, steps, decay = problem.n, problem.batch, problem.steps, 2 * problem.l2
    n_whole = min(steps, n // batch)
    gradients_of = jax.value_and_grad(_loss, has_aux=True)
    if case.section == "populations":
        gradients_of = jax.vmap(gradients_of, in_axes=(0, None, None))

    def step(state, rows_and_rate, data, targets):
        parameters, running = state
        rows, rate = rows_and_rate
        (loss, statistics), gradients = gradients_of(parameters, data[rows], targets[rows])
        parameters = [{name: p[name] - rate * (g[name] + decay * p[name] if name == "w" else g[name]) for name in p}
                      for p, g in zip(parameters, gradients, strict=True)]
        running = jax.tree.map(lambda old, new: KEPT * old + (1 - KEPT) * new, running, statistics)
        return (parameters, running), loss

    @partial(jax.jit, donate_argnums=0)
    def epoch(state, key, rates, data, targets):
        order = jax.random.permutation(key, n)
        one_step = partial(step, data=data, targets=targets)
        state, losses = jax.lax.scan(one_step, state,
                                     (order[:n_whole * batch].reshape(n_whole, batch), rates[:n_whole]))
        if steps > n_whole:         # the smaller last batch
            state, loss = one_step(state, (order[n_whole * batch:], rates[-1]))
            losses = jax.numpy.concatenate([losses, loss[None]])
        return state, losses

    state, key, first = jax.device_put(_initial(case, problem), place), jax.device_put(jax.random.key(0), place), 0

    def run():
        nonlocal state, key, first
        rates = problem.rate(np.arange(first, first + steps)).astype(np.float32)
        key, now = jax.random.split(key)
        state, losses = epoch(state, now, rates, data, targets)
        first += steps
        jax.block_until_ready(state)
        return np.asarray(losses).reshape(steps, -1)

    return run


def _initial(case, problem):
    """Parameters and running statistics on the host, with the members in front where there is a population."""
    by_member = problem.weights(case)
    parameters, running = [], []
    for layer, width in enumerate((*case.hidden, by_member[0][-1].shape[1])):
        weights = [member[layer] for member in by_member]
        population = case.section == "populations"
        shape = (case.members, width) if population else (width,)
        p = {"w": np.stack(weights) if population else weights[0], "b": np.zeros(shape, np.float32)}
        if case.batch_norm and layer < len(case.hidden):
            p["gamma"] = np.ones(shape, np.float32)
            running.append((np.zeros(shape, np.float32), np.ones(shape, np.float32)))
        parameters.append(p)
    return parameters, running
