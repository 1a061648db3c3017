"""Fifty steps beside PyTorch in float64, from the same weights on the same batches at the same rates."""

import numpy as np
import pytest
from tolerances import PARITY, assert_close

from fastmlp import schedules
from fastmlp.network import BATCH_NORM_EPS
from fastmlp.optimizers import SGD, Adam
from fastmlp.seeds import Stream, generator

torch = pytest.importorskip("torch")

L2 = 0.005
OPTIMIZERS = {
    "sgd": (lambda: SGD(), lambda groups: torch.optim.SGD(groups, lr=0.0), 0.2),
    "momentum": (lambda: SGD(momentum=0.9), lambda groups: torch.optim.SGD(groups, lr=0.0, momentum=0.9), 0.05),
    "nesterov": (lambda: SGD(momentum=0.9, nesterov=True),
                 lambda groups: torch.optim.SGD(groups, lr=0.0, momentum=0.9, nesterov=True), 0.05),
    "adamw": (lambda: Adam(), lambda groups: torch.optim.AdamW(groups, lr=0.0), 0.02),
    "adam": (lambda: Adam(decoupled=False), lambda groups: torch.optim.Adam(groups, lr=0.0), 0.02),
}


def torch_network(spec):
    layers = []
    for k, (n_in, n_out) in enumerate(zip(spec.sizes[:-1], spec.sizes[1:], strict=True)):
        layers.append(torch.nn.Linear(n_in, n_out, bias=not spec.normalized(k), dtype=torch.float64))
        if spec.normalized(k):
            layers.append(torch.nn.BatchNorm1d(n_out, eps=BATCH_NORM_EPS, dtype=torch.float64))
        if k < len(spec.hidden):
            layers.append(torch.nn.ReLU())
    return torch.nn.Sequential(*layers)


def torch_parameters(spec, model):
    """PyTorch's parameters under our names, transposed where we are."""
    linear = [m for m in model if isinstance(m, torch.nn.Linear)]
    norms = [m for m in model if isinstance(m, torch.nn.BatchNorm1d)]
    parameters = {}
    for k, layer in enumerate(linear):
        parameters[f"w{k}"] = layer.weight.T
        if spec.normalized(k):
            parameters[f"gamma{k}"], parameters[f"beta{k}"] = norms[k].weight, norms[k].bias
        else:
            parameters[f"b{k}"] = layer.bias
    return parameters


@pytest.mark.parametrize("batch_norm", [True, False], ids=["batch-norm", "plain"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_fifty_steps_move_every_parameter_as_pytorch_does(make_trainer, make_examples, name, batch_norm):
    ours, theirs, lr_max = OPTIMIZERS[name]

    def schedule(step):
        return schedules.cyclical(step, lr_min=1e-4, lr_max=lr_max, step_size=12)

    trainer = make_trainer((8, 6), batch_norm=batch_norm, l2=L2, optimizer=ours(), schedule=schedule, batch_size=10,
                           seed=3, examples=make_examples(n=100, d=12))
    network, spec, examples = trainer.network, trainer.network.spec, trainer.examples
    model = torch_network(spec)
    with torch.no_grad():
        for tensor, value in torch_parameters(spec, model).items():
            value.copy_(torch.from_numpy(network.views()[tensor][0].copy()))
    weights = [m.weight for m in model if isinstance(m, torch.nn.Linear)]
    others = [p for p in model.parameters() if not any(p is w for w in weights)]
    optimizer = theirs([{"params": weights, "weight_decay": 2 * L2}, {"params": others, "weight_decay": 0.0}])
    x, labels = torch.from_numpy(examples.data), torch.from_numpy(examples.labels)
    orders, losses = generator(3, Stream.ORDER), []
    for step in range(50):
        if step % 10 == 0:
            order = orders.permutation(100)
        rows = order[step % 10 * 10:(step % 10 + 1) * 10]
        for group in optimizer.param_groups:
            group["lr"] = float(schedule(step))
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x[rows]), labels[rows])
        loss.backward()
        optimizer.step()
        losses.append([loss.item()])
    got = np.concatenate([trainer.run_epoch().losses for _ in range(5)])
    assert_close(got, losses, PARITY, "losses")
    assert losses[-1][0] < losses[0][0]
    for tensor, value in torch_parameters(spec, model).items():
        assert_close(network.views()[tensor][0], value.detach().numpy(), PARITY, tensor)
