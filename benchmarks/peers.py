"""The same training in PyTorch and JAX: functions that train one epoch, where the library is installed.

Float32 without TF32, batch 100, gradient descent with the penalty as weight decay on the weights alone, a fresh order
every epoch, triangular rate. The data lie where the training runs, standardised, as a good user of each would have
them.
"""

from itertools import pairwise

import numpy as np


def rate(step, lr_min=1e-5, lr_max=1e-1, step_size=2250):
    phase = step % (2 * step_size) / step_size
    return lr_min + (lr_max - lr_min) * (1 - abs(1 - phase))


def torch_contenders(x, labels, hidden, batch_norm, l2, batch, device):
    """Eager, compiled and, on a GPU, one step in a CUDA graph."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    data = torch.from_numpy(x).to(device)
    targets = torch.from_numpy(labels).to(device)
    n = len(data)

    def make():
        torch.manual_seed(0)
        layers, width = [], x.shape[1]
        for size in hidden:
            layers.append(torch.nn.Linear(width, size, bias=not batch_norm))
            layers += [torch.nn.BatchNorm1d(size)] * batch_norm + [torch.nn.ReLU()]
            width = size
        network = torch.nn.Sequential(*layers, torch.nn.Linear(width, 10)).to(device)
        weights = [p for p in network.parameters() if p.ndim == 2]
        others = [p for p in network.parameters() if p.ndim != 2]
        groups = [{"params": weights, "weight_decay": 2 * l2}, {"params": others, "weight_decay": 0.0}]
        return network, groups

    def finish():
        if device != "cpu":
            torch.cuda.synchronize()

    def eager(compiled):
        network, groups = make()
        optimizer = torch.optim.SGD(groups, lr=0.1)
        forward = torch.compile(network) if compiled else network
        step = 0

        def epoch():
            nonlocal step
            order = torch.randperm(n, device=device)
            for start in range(0, n - batch + 1, batch):
                rows = order[start:start + batch]
                for group in optimizer.param_groups:
                    group["lr"] = rate(step)
                optimizer.zero_grad(set_to_none=True)
                torch.nn.functional.cross_entropy(forward(data[rows]), targets[rows]).backward()
                optimizer.step()
                step += 1
            finish()

        return epoch

    def graph():
        network, groups = make()
        optimizer = torch.optim.SGD(groups, lr=torch.tensor(0.1, device=device), foreach=True)
        rows = torch.zeros(batch, dtype=torch.long, device=device)

        def one_step():
            optimizer.zero_grad(set_to_none=True)
            torch.nn.functional.cross_entropy(network(data[rows]), targets[rows]).backward()
            optimizer.step()

        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                one_step()
        torch.cuda.current_stream().wait_stream(side)
        recorded = torch.cuda.CUDAGraph()
        with torch.cuda.graph(recorded):
            one_step()
        step = 0

        def epoch():
            nonlocal step
            order = torch.randperm(n, device=device)
            for start in range(0, n - batch + 1, batch):
                rows.copy_(order[start:start + batch])
                for group in optimizer.param_groups:
                    group["lr"].fill_(rate(step))
                recorded.replay()
                step += 1
            finish()

        return epoch

    yield "PyTorch eager", eager(False)
    yield "PyTorch compiled", eager(True)
    if device != "cpu":
        yield "PyTorch CUDA graph", graph()


def jax_contenders(x, labels, hidden, batch_norm, l2, batch, _device):
    """A whole epoch in one `lax.scan`, on JAX's default device."""
    import jax
    import jax.numpy as jnp

    rng = np.random.default_rng(0)
    sizes = (x.shape[1], *hidden, 10)
    parameters = [
        {"w": jnp.asarray((rng.standard_normal((i, o)) * np.sqrt(2 / i)).astype(np.float32)), "b": jnp.zeros(o),
         "gamma": jnp.ones(o)}
        for i, o in pairwise(sizes)
    ]
    n = len(x) // batch * batch
    data, targets = jnp.asarray(x), jnp.asarray(labels)

    def loss(parameters, x, y):
        for p in parameters[:-1]:
            x = x @ p["w"]
            if batch_norm:
                x = p["gamma"] * (x - x.mean(0)) * jax.lax.rsqrt(x.var(0) + 1e-5)
            x = jax.nn.relu(x + p["b"])
        log_p = jax.nn.log_softmax(x @ parameters[-1]["w"] + parameters[-1]["b"])
        return -log_p[jnp.arange(batch), y].mean() + l2 * sum((p["w"] ** 2).sum() for p in parameters)

    @jax.jit
    def train(parameters, step, key, data, targets):
        order = jax.random.permutation(key, len(data))[:n].reshape(-1, batch)

        def one_step(state, rows):
            parameters, step = state
            gradients = jax.grad(loss)(parameters, data[rows], targets[rows])
            lr = rate(step)
            return (jax.tree.map(lambda p, g: p - lr * g, parameters, gradients), step + 1), None

        return jax.lax.scan(one_step, (parameters, step), order)[0]

    state = [parameters, jnp.asarray(0), jax.random.PRNGKey(0)]

    def epoch():
        state[2], key = jax.random.split(state[2])
        state[0], state[1] = jax.block_until_ready(train(state[0], state[1], key, data, targets))

    yield "JAX scan", epoch
