"""Optimizers: how gradients move parameters. They own no parameters, only their own state, in flat arrays.

`update(network, lr, constants)` reads `network.gradients` and writes `network.parameters`. What changes from step to
step comes as arguments, in arrays: the learning rate, one number a member, and what else an optimizer computes from the
step's number (`constants`). So an update is the same work every time and can be recorded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fastmlp.network import Network

Array = Any


class Optimizer(Protocol):
    """What a training needs of an optimizer."""

    state: dict[str, Array]
    step: int       # updates made so far

    def prepare(self, network: Network) -> None:
        """Make the state's arrays, if they are not there."""

    def constants(self, n: int) -> npt.NDArray[np.float64]:
        """What each of the next n updates needs next to its rates: (n, any)."""

    def update(self, network: Network, lr: Array, constants: Array) -> None:
        """Move the network's parameters by its gradients at the rates `lr` (M,), with its row of `constants`."""


def snapshot(optimizer: Optimizer, into: dict[str, Array] | None = None) -> dict[str, Any]:
    """A copy of all that an optimizer remembers, for `restore`; in the arrays of an older one, where they fit."""
    copies = {}
    for name, array in optimizer.state.items():
        if into is not None and name in into:
            copies[name] = into[name]
            copies[name][...] = array
        else:
            copies[name] = array + 0.0
    return {**vars(optimizer), "state": copies}


def restore(optimizer: Optimizer, saved: dict[str, Any]) -> None:
    """Bring an optimizer back to its `snapshot`; its arrays stay the same ones, as recorded steps know them."""
    for name, array in saved["state"].items():
        optimizer.state[name][...] = array
    vars(optimizer).update({name: value for name, value in saved.items() if name != "state"})


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
        `velocity`, where there is momentum: a flat array like the network's parameters.
    step : int
        Updates made so far.
    """

    momentum: float = 0.0
    nesterov: bool = False
    state: dict[str, Array] = field(default_factory=dict)
    step: int = 0

    def prepare(self, network: Network) -> None:
        """Make the velocity, where there is momentum."""
        if self.momentum and not self.state:
            self.state["velocity"] = network.zeros_like_parameters()

    def constants(self, n: int) -> npt.NDArray[np.float64]:
        """None: (n, 0)."""
        return np.empty((n, 0))

    def update(self, network: Network, lr: Array, constants: Array) -> None:    # noqa: ARG002 - nothing is in them
        """Move the network's parameters by its gradients at the rates `lr` (M,)."""
        network.kernels.sgd(
            network.gradients, lr, network.l2, self.state.get("velocity"), network.parameters,
            blocks=network.layout.blocks, momentum=self.momentum, nesterov=self.nesterov,
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

    def prepare(self, network: Network) -> None:
        """Make the moments."""
        if not self.state:
            self.state = {name: network.zeros_like_parameters() for name in ("first", "second")}

    def constants(self, n: int) -> npt.NDArray[np.float64]:
        """Corrections of the moments' start at zero, 1 - beta^t with t from 1 on: (n, 2)."""
        t = np.arange(self.step + 1, self.step + n + 1, dtype=np.float64)[:, None]      # (n, 1)
        return 1.0 - np.array([self.beta1, self.beta2]) ** t

    def update(self, network: Network, lr: Array, constants: Array) -> None:
        """Move the network's parameters by its gradients at the rates `lr` (M,) with the step's corrections (2,)."""
        network.kernels.adam(
            network.gradients, lr, network.l2, constants, self.state["first"], self.state["second"],
            network.parameters, blocks=network.layout.blocks, beta1=self.beta1, beta2=self.beta2, eps=self.eps,
            decoupled=self.decoupled,
        )
