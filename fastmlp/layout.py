"""Where each tensor of a population lies in the one flat parameter buffer.

    [ w0 | w1 | ... | b0 or gamma0, beta0 | ... ]       all weights first, then all vectors

The tensors of one kind of all members lie together. The first layer is special: all members read the same batch, so
its weights are kept side by side, (D, members * H), and K networks' first layers are one wide layer of one network
(one matrix product instead of K). Every other weight is (members, D, H), every vector (members, H).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

from fastmlp.errors import ConfigError
from fastmlp.kernels.activations import ACTIVATIONS

Array = Any

LOSSES = ("cross-entropy", "hinge")


@dataclass(frozen=True)
class NetworkSpec:
    """The shape of a network: everything that fixes its function but the parameters' values.

    Attributes
    ----------
    n_inputs : int
        Inputs D.
    hidden : tuple of int
        Widths of the hidden layers; none for the softmax classifier.
    n_classes : int
        Outputs C.
    batch_norm : bool, default True
        Batch norm before each hidden activation.
    activation : str, default "relu"
        A key of `kernels.activations.ACTIVATIONS`.
    loss : {"cross-entropy", "hinge"}, default "cross-entropy"
        What is minimised.

    Raises
    ------
    ConfigError
        One of them is none of these.

    Examples
    --------
    >>> NetworkSpec(3072, (50, 50), 10).n_parameters
    156810
    """

    n_inputs: int
    hidden: tuple[int, ...]
    n_classes: int
    batch_norm: bool = True
    activation: str = "relu"
    loss: str = "cross-entropy"

    def __post_init__(self) -> None:
        problems = [
            (not all(type(size) is int and 1 <= size < 2**31 for size in self.sizes), "layer sizes", self.sizes),
            (type(self.batch_norm) is not bool, "batch_norm", self.batch_norm),
            (self.activation not in ACTIVATIONS, "activation", self.activation),
            (self.loss not in LOSSES, "loss", self.loss),
        ]
        for wrong, name, value in problems:
            if wrong:
                raise ConfigError(f"{name} = {value!r} cannot be: sizes are whole numbers from 1 on, batch_norm is a "
                                  f"bool, activation one of {', '.join(ACTIVATIONS)}, loss one of {', '.join(LOSSES)}")

    @property
    def sizes(self) -> tuple[int, ...]:
        """Inputs, hidden widths, classes."""
        return (self.n_inputs, *self.hidden, self.n_classes)

    @property
    def n_layers(self) -> int:
        """Layers with weights: hidden ones and the output."""
        return len(self.hidden) + 1

    def normalized(self, layer: int) -> bool:
        """Whether this layer has a batch norm: every hidden layer or none, never the output."""
        return self.batch_norm and layer < len(self.hidden)

    @cached_property
    def n_parameters(self) -> int:
        """Trained numbers of one network."""
        return sum(tensor.size for tensor in self.tensors())

    def tensors(self) -> Iterator[Tensor]:
        """The trained tensors of one network in the order of the buffer.

        A layer with batch norm has no bias: the normalisation would subtract it again.
        """
        layers = list(pairwise(self.sizes))
        for k, (n_in, n_out) in enumerate(layers):
            yield Tensor(f"w{k}", k, (n_in, n_out))
        for k, (_, n_out) in enumerate(layers):
            for name in ("gamma", "beta") if self.normalized(k) else ("b",):
                yield Tensor(f"{name}{k}", k, (n_out,))


@dataclass(frozen=True)
class Tensor:
    """One named tensor of one network."""

    name: str
    layer: int
    shape: tuple[int, ...]

    @property
    def is_weight(self) -> bool:
        """Weights are penalised by l2; biases, gamma and beta are not."""
        return len(self.shape) == 2

    @property
    def size(self) -> int:
        """Numbers in it."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Block:
    """A stretch of the buffer that one update covers: its place, its shape, and where its members lie."""

    start: int
    stop: int
    shape: tuple[int, ...]
    is_weight: bool
    columns_per_member: int     # 0: members are the rows (or there is only one); else each has this many columns
    xp: Any

    def view(self, buffer: Array) -> Array:
        """The stretch of a flat buffer that this block stands for, without a copy."""
        return self.xp.reshape(buffer[self.start:self.stop], self.shape)

    def spread(self, values: Array) -> Array:
        """One number a member (M,), shaped to broadcast over the block."""
        if self.columns_per_member:
            return self.xp.repeat(values, self.columns_per_member)      # (M * H,)
        return self.xp.reshape(values, (-1, *(1 for _ in self.shape[1:])))

    def penalty(self, l2: Array) -> Array | None:
        """Coefficient of the weight in its penalty's gradient: d/dw of l2 w^2 is (2 l2) w; None without penalty."""
        return self.spread(2.0 * l2) if self.is_weight else None


class Layout:
    """Maps a flat buffer to named views, for `members` networks of one shape.

    Attributes
    ----------
    size : int
        Numbers in the buffer.
    blocks : tuple of Block
        What updates run over: two blocks for one network, one a tensor for a population.
    """

    def __init__(self, spec: NetworkSpec, members: int, xp: Any) -> None:
        self.spec, self.members, self.xp = spec, members, xp
        self._start: dict[str, int] = {}
        self._tensors = {tensor.name: tensor for tensor in spec.tensors()}
        place = 0
        for tensor in self._tensors.values():
            self._start[tensor.name] = place
            place += members * tensor.size
        self.size = place
        self.blocks = tuple(self._make_blocks())

    def _make_blocks(self) -> Iterator[Block]:
        if self.members == 1:
            end_of_weights = self._start["gamma0" if self.spec.normalized(0) else "b0"]
            yield Block(0, end_of_weights, (1, end_of_weights), True, 0, self.xp)
            yield Block(end_of_weights, self.size, (1, self.size - end_of_weights), False, 0, self.xp)
            return
        for name, tensor in self._tensors.items():
            start = self._start[name]
            wide = name == "w0"
            shape = ((tensor.shape[0], self.members * tensor.shape[1]) if wide else (self.members, tensor.size))
            yield Block(start, start + self.members * tensor.size, shape, tensor.is_weight,
                        tensor.shape[1] if wide else 0, self.xp)

    def computing_views(self, buffer: Array) -> dict[str, Array]:
        """Views shaped as the operations want them: (1, D, M H) and (1, M H) in the first layer, (M, ...) beyond."""
        views = {}
        for name, tensor in self._tensors.items():
            flat = buffer[self._start[name]:self._start[name] + self.members * tensor.size]
            if tensor.layer == 0:
                shape = (1, *tensor.shape[:-1], self.members * tensor.shape[-1])
            else:
                shape = (self.members, *tensor.shape)
            views[name] = self.xp.reshape(flat, shape)
        return views

    def member_views(self, buffer: Array) -> dict[str, Array]:
        """Views shaped as people think of them: (members, D, H) and (members, H) for every tensor, without a copy."""
        views = self.computing_views(buffer)
        for name, view in views.items():
            if name == "w0":
                views[name] = members_first(view, self.members, self.xp)
            elif self._tensors[name].layer == 0:
                views[name] = self.xp.reshape(view, (self.members, -1))
        return views


def members_first(wide: Array, members: int, xp: Any) -> Array:
    """See a wide array (1, N, members * H) as (members, N, H), without a copy."""
    _, n, columns = wide.shape
    return xp.moveaxis(xp.reshape(wide, (n, members, columns // members)), 1, 0)
