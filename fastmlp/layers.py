"""What the operations of a layer work on: views of its parameters, and what it computes for a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Array = Any


@dataclass
class Layer:
    """The views of one layer that the operations work on; M is 1 in the first layer (members side by side)."""

    w: Array                        # (M, D, H)
    b: Array | None                 # (M, H), None under batch norm
    gamma: Array | None             # (M, H), None without batch norm
    beta: Array | None
    gw: Array
    gb: Array | None
    ggamma: Array | None
    gbeta: Array | None


@dataclass
class Activity:
    """What one layer computes for one batch, kept for the way back."""

    x: Array                        # (M, N, D) input: a view of y of the layer below, or of what is left of it
    s: Array                        # (M, N, H) w x + b
    y: Array                        # (M, N, H) activation(batch norm(s)); s itself in the output layer
    dropped: Array | None           # (M, N, H) what dropout leaves of y for the next layer; None without it
    gs: Array                       # gradients with respect to the two
    gy: Array
    gx: Array | None                # (M, N, D) where to write the gradient for the layer below
    mean: Array | None              # (M, H) statistics of the batch
    var: Array | None
    inv_std: Array | None
