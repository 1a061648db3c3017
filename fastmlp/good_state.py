"""The state that a training goes back to when something goes wrong: as a whole, or that of some members."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastmlp.network import BATCH_NORM_EPS, Network
from fastmlp.optimizers import Optimizer, restore, snapshot

Array = Any


class GoodState:
    """A copy of all that training changes: parameters, running statistics, and what the optimizer remembers.

    Parameters
    ----------
    network : Network
        Whose state it is.
    optimizer : Optimizer
        Prepared for that network.

    Examples
    --------
    >>> from fastmlp.backend import resolve
    >>> from fastmlp.layout import NetworkSpec
    >>> from fastmlp.optimizers import SGD
    >>> network = Network(NetworkSpec(4, (3,), 2), resolve("cpu"), members=2)
    >>> good = GoodState(network, SGD())
    >>> network.parameters += 1.0
    >>> good.restore_members([1])
    >>> network.views()["w1"].sum(axis=(1, 2)).tolist()
    [6.0, 0.0]
    """

    def __init__(self, network: Network, optimizer: Optimizer) -> None:
        self._network, self._optimizer = network, optimizer
        self._parameters, self._running = network.parameters + 0.0, network.running + 0.0
        self._has_running = network.has_running
        self._saved = snapshot(optimizer)

    def keep(self, optimizer: Optimizer) -> None:
        """Remember the state as it is now; the optimizer may be another one than before."""
        network = self._network
        self._parameters[...], self._running[...] = network.parameters, network.running
        self._has_running = network.has_running
        self._optimizer, self._saved = optimizer, snapshot(optimizer, self._saved["state"])

    def restore(self) -> Optimizer:
        """Go back to what was last remembered; the optimizer it was remembered with is the one to go on with."""
        network = self._network
        network.parameters[...], network.running[...] = self._parameters, self._running
        network.has_running = self._has_running
        restore(self._optimizer, self._saved)
        return self._optimizer

    def restore_members(self, members: Iterable[int]) -> None:
        """Put these members' parts of the state back, and leave all others as they are.

        How many steps the optimizer has made is common to all and stays.
        """
        network, states = self._network, self._saved["state"]
        pairs = [(network.parameters, self._parameters),
                 *((array, states[name]) for name, array in self._optimizer.state.items())]
        for member in members:
            for now, then in pairs:
                old = network.layout.member_views(then)
                for name, view in network.layout.member_views(now).items():
                    view[member:member + 1, ...] = old[name][member:member + 1, ...]
            self._restore_running(member)

    def _restore_running(self, member: int) -> None:
        """Where there were no running statistics yet, those that stand in for them: the others have theirs now."""
        network, xp = self._network, self._network.backend.xp
        for now, then in zip(network.moments(network.running), network.moments(self._running), strict=True):
            for array, old, absent in zip(now, then, (0.0, 1.0 - BATCH_NORM_EPS), strict=True):
                part = xp.reshape(array, (network.members, -1))[member:member + 1, ...]     # (1, H)
                if self._has_running:
                    part[...] = xp.reshape(old, (network.members, -1))[member:member + 1, ...]
                else:
                    part[...] = absent
