"""Optimizers: how gradients move parameters. They own no parameters, only their own state, in flat arrays.

`update(network, lr)` reads `network.gradients` and writes `network.parameters`, block by block (see `layout.Block`);
the learning rate comes as an argument, one number a member.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from fastmlp.network import Network

Array = Any


class Optimizer(Protocol):
    """What a training needs of an optimizer."""

    state: dict[str, Array]

    def update(self, network: Network, lr: Array) -> None:
        """Move the network's parameters by its gradients at the rates `lr` (M,)."""


def snapshot(optimizer: Optimizer) -> dict[str, Any]:
    """A copy of all that an optimizer remembers, for `restore`."""
    return {**vars(optimizer), "state": {name: array + 0.0 for name, array in optimizer.state.items()}}


def restore(optimizer: Optimizer, saved: dict[str, Any]) -> None:
    """Bring an optimizer back to its `snapshot`."""
    vars(optimizer).update(saved, state={name: array + 0.0 for name, array in saved["state"].items()})


@dataclass
class SGD:
    """Mini-batch gradient descent, with momentum (classical or Nesterov's) where it is above 0.

    Attributes
    ----------
    momentum : float, default 0
        Fraction of the velocity that is kept each step.
    nesterov : bool, default False
        Look ahead along the velocity.
    state : dict
        `velocity`, a flat array like the network's parameters; made at the first update with momentum.
    """

    momentum: float = 0.0
    nesterov: bool = False
    state: dict[str, Array] = field(default_factory=dict)

    def update(self, network: Network, lr: Array) -> None:
        """Move the network's parameters by its gradients at the rates `lr` (M,)."""
        if self.momentum and not self.state:
            self.state["velocity"] = network.zeros_like_parameters()
        velocity = self.state.get("velocity")
        for block in network.layout.blocks:
            network.kernels.sgd(
                block.view(network.gradients), block.spread(lr), block.penalty(network.l2),
                None if velocity is None else block.view(velocity), block.view(network.parameters),
                momentum=self.momentum, nesterov=self.nesterov,
            )


@dataclass
class Adam:
    """Adam, or AdamW where `decoupled`: then l2 shrinks the weights directly instead of passing through the moments.

    Attributes
    ----------
    beta1, beta2 : float, defaults 0.9 and 0.999
        Decay of the first and second moments.
    eps : float, default 1e-8
        Added to the root of the second moment.
    decoupled : bool, default True
        AdamW rather than Adam.
    state : dict
        `first` and `second`, the moments, flat arrays like the network's parameters.
    step : int
        Updates made so far, for the correction of the moments' start at zero.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    decoupled: bool = True
    state: dict[str, Array] = field(default_factory=dict)
    step: int = 0

    def update(self, network: Network, lr: Array) -> None:
        """Move the network's parameters by its gradients at the rates `lr` (M,)."""
        if not self.state:
            self.state = {name: network.zeros_like_parameters() for name in ("first", "second")}
        self.step += 1
        for block in network.layout.blocks:
            network.kernels.adam(
                block.view(network.gradients), block.spread(lr), block.penalty(network.l2),
                block.view(self.state["first"]), block.view(self.state["second"]), block.view(network.parameters),
                step=self.step, beta1=self.beta1, beta2=self.beta2, eps=self.eps, decoupled=self.decoupled,
            )
