"""The numbers of trained networks by name, on the host: taken out of a population, and put together to another one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.backend import Backend
from fastmlp.layout import NetworkSpec
from fastmlp.network import BATCH_NORM_EPS, Network

Tensors = dict[str, npt.NDArray[Any]]


def tensors_of(network: Network) -> Tensors:
    """Copies of all parameters by their names in `Network.views`, and of running statistics where there are any.

    Returns
    -------
    dict
        `w0` (M, D, H), `b0` or `gamma0`, `beta0` (M, H), `w1`, ...; `running_mean<k>`, `running_var<k>` (M, H).

    Examples
    --------
    >>> from fastmlp.backend import resolve
    >>> sorted(tensors_of(Network(NetworkSpec(4, (3,), 2), resolve("cpu"), members=5)))
    ['b1', 'beta0', 'gamma0', 'w0', 'w1']
    """
    read, xp = network.backend.to_host, network.backend.xp
    tensors = {name: np.array(read(view), order="C") for name, view in network.views().items()}
    if network.has_running:
        for k, moments in enumerate(network.moments(network.running)):
            for name, array in zip(("running_mean", "running_var"), moments, strict=True):
                tensors[f"{name}{k}"] = np.array(read(xp.reshape(array, (network.members, -1))))
    return tensors


def make_network(spec: NetworkSpec, backend: Backend, tensors: Tensors, *, dtype: str = "float32",
                 l2: npt.ArrayLike = 0.0) -> Network:
    """A network of as many members as the tensors have; what `tensors_of` says, the other way round."""
    members = len(tensors["w0"])
    network = Network(spec, backend, members=members, dtype=dtype, l2=l2)
    for name, view in network.views().items():
        view[...] = backend.asarray(tensors[name])
    if "running_mean0" in tensors:
        for k, moments in enumerate(network.moments(network.running)):
            for name, array in zip(("running_mean", "running_var"), moments, strict=True):
                backend.xp.reshape(array, (members, -1))[...] = backend.asarray(tensors[f"{name}{k}"])
        network.has_running = True
    return network


def chosen(tensors: Tensors, members: Sequence[int]) -> Tensors:
    """The tensors of some of the members, in this order."""
    return {name: array[list(members)] for name, array in tensors.items()}


def joined(parts: Sequence[Tensors]) -> Tensors:
    """The members of several populations of one shape as those of one.

    Where some have running statistics and others, which made no step, have none, these get what stands in for them.
    """
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: np.concatenate([part[name] if name in part else _stand_in(name, part) for part in parts])
            for name in names}


def _stand_in(name: str, part: Tensors) -> npt.NDArray[Any]:
    layer = name.removeprefix("running_mean").removeprefix("running_var")
    return np.full_like(part[f"gamma{layer}"], 1.0 - BATCH_NORM_EPS if "var" in name else 0.0)      # (M, H)
