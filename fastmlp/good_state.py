"""The states that a training goes back to when something goes wrong: as a whole, or those of some members.

There are two. What was kept last, at the beginning of an epoch, is whole, but the update before it may have thrown the
parameters out of range: that is seen in the next step's loss only. So the one kept before it is let go of only after
that loss, and until then counts as the last good one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fastmlp.network import BATCH_NORM_EPS, Network
from fastmlp.optimizers import Optimizer, restore, snapshot

Array = Any


@dataclass(frozen=True)
class Moment:
    """When in a training it is: what changes in it besides arrays.

    Attributes
    ----------
    step, epoch : int
        Updates made, epochs begun.
    generators : tuple of mapping
        The states of all random generators, as `Trainer.generators` lists them.
    """

    step: int
    epoch: int
    generators: tuple[Mapping[str, Any], ...]


@dataclass
class Kept:
    """A copy of all that training changes: parameters, running statistics, what the optimizer remembers, and when."""

    parameters: Array
    running: Array
    has_running: bool
    optimizer: Optimizer
    remembered: dict[str, Any]      # see `optimizers.snapshot`
    moment: Moment


class GoodState:
    """What was kept last, and what is known to be good.

    Parameters
    ----------
    network : Network
        Whose state it is.
    optimizer : Optimizer
        Prepared for that network.
    moment : Moment
        Now.

    Attributes
    ----------
    good : Kept
        The last state whose loss is known to be finite; in the beginning the first.

    Examples
    --------
    >>> from fastmlp.backend import resolve
    >>> from fastmlp.layout import NetworkSpec
    >>> from fastmlp.optimizers import SGD
    >>> network = Network(NetworkSpec(4, (3,), 2), resolve("cpu"), members=2)
    >>> good = GoodState(network, SGD(), Moment(0, 0, ()))
    >>> network.parameters += 1.0
    >>> good.restore_members([1])
    >>> network.views()["w1"].sum(axis=(1, 2)).tolist()
    [6.0, 0.0]
    """

    def __init__(self, network: Network, optimizer: Optimizer, moment: Moment) -> None:
        self._network = network
        self.good = self._copy(optimizer, moment)
        self._last = self.good
        self._spare: Kept | None = self.good            # the first to be kept is the first that is good

    def _copy(self, optimizer: Optimizer, moment: Moment) -> Kept:
        network = self._network
        return Kept(network.parameters + 0.0, network.running + 0.0, network.has_running, optimizer,
                    snapshot(optimizer), moment)

    def begun(self) -> None:
        """What is good has been read from a file: the next to be kept is not to take its place."""
        self._spare = None

    def keep(self, optimizer: Optimizer, moment: Moment) -> None:
        """Keep the state as it is now; the optimizer may be another one than before."""
        network, kept = self._network, self._spare
        if kept is None:
            kept = self._copy(optimizer, moment)
        else:
            kept.parameters[...], kept.running[...] = network.parameters, network.running
            kept.remembered = snapshot(optimizer, kept.remembered["state"])
        kept.has_running, kept.optimizer, kept.moment = network.has_running, optimizer, moment
        self._last, self._spare = kept, None if kept is self.good else kept

    def confirm(self, fallen: Iterable[int] = ()) -> None:
        """What was kept last is good from now on, as its loss has turned out to be; of the fallen members it was not.

        In their place are their parts of the one before.
        """
        if self._last is self.good:
            return
        for member in fallen:
            for now, then in zip(_buffers(self._last), _buffers(self.good), strict=True):
                self._copy_member(member, now, then)
            self._copy_running(member, self._last.running, self.good)
        self.good, self._spare = self._last, self.good

    def undo(self) -> Kept:
        """Go back to what was kept last; its optimizer and moment are those to go on with."""
        return self._go_back(self._last)

    def restore(self) -> Kept:
        """Go back to the last good state; its optimizer and moment are those to go on with."""
        return self._go_back(self.good)

    def _go_back(self, kept: Kept) -> Kept:
        network = self._network
        network.parameters[...], network.running[...] = kept.parameters, kept.running
        network.has_running = kept.has_running
        restore(kept.optimizer, kept.remembered)
        return kept

    def restore_members(self, members: Iterable[int]) -> None:
        """Put these members' parts of the last good state back, and leave all others as they are.

        How many steps the optimizer has made is common to all and stays.
        """
        good, network = self.good, self._network
        for member in members:
            for now, then in zip((network.parameters, *good.optimizer.state.values()), _buffers(good), strict=True):
                self._copy_member(member, now, then)
            self._copy_running(member, network.running, good)

    def _copy_member(self, member: int, now: Array, then: Array) -> None:
        """One member's part of a flat buffer like the parameters."""
        old = self._network.layout.member_views(then)
        for name, view in self._network.layout.member_views(now).items():
            view[member:member + 1, ...] = old[name][member:member + 1, ...]

    def _copy_running(self, member: int, running: Array, kept: Kept) -> None:
        """Where there were no running statistics yet, those that stand in for them: the others have theirs now."""
        network, xp = self._network, self._network.backend.xp
        for now, then in zip(network.moments(running), network.moments(kept.running), strict=True):
            for array, old, absent in zip(now, then, (0.0, 1.0 - BATCH_NORM_EPS), strict=True):
                part = xp.reshape(array, (network.members, -1))[member:member + 1, ...]     # (1, H)
                if kept.has_running:
                    part[...] = xp.reshape(old, (network.members, -1))[member:member + 1, ...]
                else:
                    part[...] = absent


def _buffers(kept: Kept) -> tuple[Array, ...]:
    """The flat buffers of a state that are laid out like the parameters."""
    return kept.parameters, *kept.remembered["state"].values()
