"""The same training in PyTorch, where it is installed, as a good user of it would write it.

Float32 without TF32; the data lie on the device, standardised; the penalty is weight decay on the weights alone; batch
norm keeps running statistics; the losses of all steps are kept. One fused kernel updates the parameters.
"""

from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
from plain_numpy import ProductsOnly
from problem import CLASSES

from fastmlp.cpu import blas_pools

# Members of a population that are trained one by one and stand for all, for at least so many steps: a new order, which
# each of them draws, must not weigh more than it does in an epoch.
ONE_BY_ONE, STEPS_OF_ONE = 2, 100


def makers(case, problem, device):
    """What makes the contenders of a case, by name; see `contenders.makers`."""
    made = partial(_make, case, problem, "cuda" if device == "gpu" else "cpu")
    if case.section == "populations":
        return {"PyTorch vmap": partial(made, _Population, _CallByCall),
                "PyTorch one by one": partial(made, _Some, partial(_OneByOne, _CallByCall))} if device == "cpu" else {
            "PyTorch vmap, CUDA graph": partial(made, _Population, _Recorded),
            "PyTorch one by one, CUDA graph": partial(made, _Some, partial(_OneByOne, _Recorded))}
    found = {"PyTorch eager": partial(made, _OneNetwork, _CallByCall),
             "PyTorch compiled": partial(made, _CompiledNetwork, _CallByCall),
             "products alone, PyTorch": partial(made, _Products, lambda products: products)}
    if device == "gpu":
        found |= {"PyTorch CUDA graph": partial(made, _OneNetwork, _Recorded),
                  "PyTorch compiled, CUDA graph": partial(made, _CompiledNetwork, _Recorded),
                  "products alone, PyTorch CUDA graph": partial(made, _Products, _RecordedProducts)}
    return found


def _make(case, problem, device, training, runner):
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("PyTorch sees no GPU")
    torch.set_float32_matmul_precision("highest")       # no TF32
    torch.set_num_threads(max((pool["num_threads"] for pool in blas_pools()), default=1))       # as many as NumPy has
    torch.manual_seed(0)
    return runner(training(case, problem, device))


class _Training:
    """The data, the optimizer, and what a step does; `backward` is up to the kind of network."""

    def __init__(self, problem, device, parameters):
        import torch

        self.problem, self.device = problem, device
        self.data = problem.kept(f"torch {device}", lambda: torch.from_numpy(problem.standardised).to(device))
        self.targets = torch.from_numpy(problem.labels).to(device)
        groups = [{"params": [p for p in parameters if p.ndim == parameters[0].ndim], "weight_decay": 2 * problem.l2},
                  {"params": [p for p in parameters if p.ndim < parameters[0].ndim], "weight_decay": 0.0}]
        self.optimizer = torch.optim.SGD(groups, lr=0.0, fused=True)
        self.steps_before = 0

    def set_rate(self, rate):
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def next_rates(self):
        """The rates of the epoch that begins: float32 (steps,)."""
        first = self.steps_before
        self.steps_before += self.problem.steps
        return self.problem.rate(np.arange(first, self.steps_before)).astype(np.float32)

    def step(self, rows):
        """One update at the rate that is set; gives the loss of the batch, (members,) or ()."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.backward(rows)
        self.optimizer.step()
        return loss


class _OneNetwork(_Training):
    """A `Sequential` of `Linear`, `BatchNorm1d` and `ReLU`. Like fastmlp it has no bias before batch norm."""

    def __init__(self, case, problem, device, member=0):
        import torch

        layers = []
        for n_in, n_out in pairwise(problem.sizes(case)[:-1]):
            layers.append(torch.nn.Linear(n_in, n_out, bias=not case.batch_norm))
            layers += [torch.nn.BatchNorm1d(n_out)] * case.batch_norm + [torch.nn.ReLU()]
        network = torch.nn.Sequential(*layers, torch.nn.Linear(problem.sizes(case)[-2], CLASSES))
        linear = [layer for layer in network if isinstance(layer, torch.nn.Linear)]
        with torch.no_grad():
            for layer, w in zip(linear, problem.weights(case)[member], strict=True):
                layer.weight.copy_(torch.from_numpy(w.T))
                if layer.bias is not None:
                    layer.bias.zero_()
        self.network = network.to(device)
        super().__init__(problem, device, list(network.parameters()))

    def loss(self, rows):
        import torch

        return torch.nn.functional.cross_entropy(self.network(self.data[rows]), self.targets[rows])

    def backward(self, rows):
        loss = self.loss(rows)
        loss.backward()
        return loss.detach()


class _CompiledNetwork(_OneNetwork):
    """Forward and backward compiled; the update is one kernel already."""

    def __init__(self, case, problem, device):
        import torch

        super().__init__(case, problem, device)
        torch.compiler.reset()      # beyond some eight networks compiled at one place PyTorch would go back to eager
        self.loss = torch.compile(super().loss, dynamic=False)


class _Population(_Training):
    """`vmap` over the gradient of one member; batch norm by hand, since the layer's updates in place defy `vmap`."""

    def __init__(self, case, problem, device):
        import torch

        by_member = problem.weights(case)
        tensors = []
        for layer in range(len(case.hidden) + 1):
            tensors.append(torch.from_numpy(np.stack([weights[layer] for weights in by_member])))
            shape = tensors[-1].shape[::2]
            tensors += [torch.zeros(shape)] + [torch.ones(shape)] * (layer < len(case.hidden))   # bias or beta, gamma
        self.parameters = [tensor.to(device) for tensor in tensors]
        self.running = [fill(case.members, width, device=device)
                        for width in case.hidden for fill in (torch.zeros, torch.ones)]     # means and variances
        self.gradients = torch.func.vmap(torch.func.grad_and_value(self._loss, has_aux=True), in_dims=(0, None, None))
        super().__init__(problem, device, self.parameters)

    def _loss(self, parameters, x, y):
        """Of one member, and the statistics of its batch norms."""
        import torch

        statistics = []
        for layer in range(0, len(parameters) - 2, 3):
            w, beta, gamma = parameters[layer:layer + 3]
            x = x @ w
            mean, var = x.mean(0), x.var(0, correction=0)
            statistics += [mean, var]
            x = torch.relu(gamma * ((x - mean) * torch.rsqrt(var + 1e-5)) + beta)
        return torch.nn.functional.cross_entropy(x @ parameters[-2] + parameters[-1], y), statistics

    def backward(self, rows):
        import torch

        gradients, (losses, statistics) = self.gradients(self.parameters, self.data[rows], self.targets[rows])
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        torch._foreach_lerp_(self.running, statistics, 0.1)
        return losses


def _Some(case, problem, device):       # noqa: N802  it stands beside _Population
    """The first members of a population as networks of their own, and how much more work all have."""
    few = replace(case, members=min(case.members, ONE_BY_ONE))
    longer = problem.with_steps(max(problem.steps, STEPS_OF_ONE))
    networks = [_OneNetwork(few, longer, device, member) for member in range(few.members)]
    return networks, case.members / few.members * problem.steps / longer.steps


class _CallByCall:
    """An epoch as PyTorch's tutorials write it."""

    def __init__(self, training):
        self.training = training

    def __call__(self):
        import torch

        training, problem = self.training, self.training.problem
        order = torch.randperm(problem.n, device=training.device)
        rates = training.next_rates().tolist()
        losses = []
        for rate, rows in zip(rates, order.split(problem.batch), strict=False):      # as many steps as there are rates
            training.set_rate(rate)
            losses.append(training.step(rows))
        return torch.stack(losses).cpu().numpy().reshape(problem.steps, -1)         # waits until they are there


class _OneByOne:
    """A few networks trained one after the other, which stand for all: they take as long each."""

    def __init__(self, runner, some):
        trainings, self.scale = some
        self.runs = [runner(training) for training in trainings]

    def __call__(self):
        return np.concatenate([run() for run in self.runs], axis=1)


class _Recorded:
    """A step in a CUDA graph, which finds its rows and its rate by a counter on the device; one more for a smaller
    last batch."""

    def __init__(self, training):
        import torch

        self.training, problem, device = training, training.problem, training.device
        n_whole = min(problem.steps, problem.n // problem.batch)
        self.whole = torch.zeros((n_whole, problem.batch), dtype=torch.long, device=device)
        self.rest = torch.zeros(problem.n % problem.batch if problem.steps > n_whole else 0, dtype=torch.long,
                                device=device)
        self.rates = torch.zeros(problem.steps, device=device)          # at rate 0 warming up leaves the parameters
        self.rate = torch.zeros((), device=device)                      # the fused update reads it there
        training.set_rate(self.rate)
        self.k = torch.zeros(1, dtype=torch.long, device=device)
        self.losses = None
        self.whole_graph = self._record(lambda: self.whole.index_select(0, self.k)[0])
        self.rest_graph = self._record(lambda: self.rest) if len(self.rest) else None

    def _step(self, rows):
        self.rate.copy_(self.rates.index_select(0, self.k)[0])
        loss = self.training.step(rows())
        if self.losses is None:
            self.losses = loss.new_zeros((self.training.problem.steps, loss.numel()))
        self.losses.index_copy_(0, self.k, loss.reshape(1, -1))
        self.k.add_(1)

    def _record(self, rows):
        def begin():
            self.k.zero_()
            self._step(rows)

        return _graph(begin, lambda: self._step(rows))

    def __call__(self):
        import torch

        problem = self.training.problem
        order = torch.randperm(problem.n, device=self.training.device)
        self.whole.copy_(order[:self.whole.numel()].reshape(self.whole.shape))
        self.rest.copy_(order[problem.n - len(self.rest):])
        self.rates.copy_(torch.from_numpy(self.training.next_rates()))
        self.k.zero_()
        for _ in range(len(self.whole)):
            self.whole_graph.replay()
        if self.rest_graph is not None:
            self.rest_graph.replay()
        return self.losses.cpu().numpy()


def _graph(warm_up, work):
    """What `work` launches as a CUDA graph, after libraries and compilers have started in `warm_up`."""
    import torch

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            warm_up()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):    # other libraries' threads may do as they like
        work()
    return graph


class _Products:
    """The matrix products of a step and nothing else."""

    def __init__(self, case, problem, device):
        import torch

        self.steps, self.device = problem.steps, device
        self.products = ProductsOnly(problem.sizes(case), problem.batch, lambda host: torch.from_numpy(host).to(device),
                                     torch.matmul)
        self.step = self.products.step

    def __call__(self):
        import torch

        for _ in range(self.steps):
            self.step()
        if self.device == "cuda":
            torch.cuda.synchronize()


def _RecordedProducts(training):    # noqa: N802  it stands beside _Recorded
    training.step = _graph(training.products.step, training.products.step).replay
    return training
