"""Arguments for every operation of the contract, for tests that treat all makers alike.

An argument is an input, an output (whose old content must not matter), an update (read and written) or destroyed.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastmlp.kernels import reference
from fastmlp.kernels.activations import ACTIVATIONS

#: members, examples, inputs, units, classes: one of everything, odd ones, several members, a realistic batch
SIZES = [(1, 2, 1, 1, 2), (1, 7, 5, 3, 4), (3, 5, 4, 7, 3), (4, 2, 9, 1, 5), (1, 100, 64, 50, 10), (2, 33, 17, 30, 10)]


@dataclass
class Case:
    operation: str
    arguments: dict[str, Any]
    keywords: dict[str, Any] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    updates: tuple[str, ...] = ()
    destroyed: tuple[str, ...] = ()
    label: str = ""

    def call(self, function, dtype="float64", strided=False, poison=np.nan, **extra):
        """Run the operation on fresh arrays: what was written, by name. Inputs must come out as they went in."""
        fresh = {name: _fresh(value, dtype, strided) for name, value in self.arguments.items()}
        for name in self.outputs:
            if fresh[name] is not None:
                fresh[name][...] = poison
        with np.errstate(invalid="ignore"):     # of makers that read poison; the comparison finds them
            result = function(*fresh.values(), **self.keywords, **extra)
        assert result is None, "operations write into their outputs"
        for name, value in self.arguments.items():
            if isinstance(value, np.ndarray) and name not in (*self.outputs, *self.updates, *self.destroyed):
                assert np.array_equal(fresh[name], _fresh(value, dtype, strided)), f"{name} is an input and was changed"
        return {name: fresh[name] for name in (*self.outputs, *self.updates) if fresh[name] is not None}


def _fresh(value, dtype, strided):
    """A copy in the wanted dtype; with `strided`, (M, N, H) as the view that a wide first layer gives."""
    if not isinstance(value, np.ndarray):
        return value
    copy = value.astype(dtype) if value.dtype == np.float64 else value.copy()
    if strided and copy.ndim == 3:
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(copy, 0, 1)), 1, 0)
    return copy


def cases(sizes, seed=0):
    """Every operation in every variant, in float64."""
    rng = np.random.default_rng(seed)
    m, n, d, h, c = sizes
    normal = rng.standard_normal

    data, rows = normal((2 * n, d)), rng.integers(2 * n, size=n)
    as_bytes = rng.integers(256, size=(2 * n, d), dtype=np.uint8)
    scale = {"mean": normal(d), "inv_std": rng.uniform(0.5, 2.0, d)}
    none = {"mean": None, "inv_std": None}
    for label, source, statistics in (("ready", data, none), ("float", data, scale), ("bytes", as_bytes, scale),
                                      ("raw bytes", as_bytes, none)):
        yield Case("gather", {"data": source, "rows": rows, **statistics, "x": np.zeros((n, d))}, outputs=("x",),
                   label=label)

    x, w, b, y = normal((m, n, d)), normal((m, d, h)), normal((m, h)), normal((m, n, h))
    for label, bias in (("bias", b), ("no bias", None)):
        yield Case("linear", {"x": x, "w": w, "b": bias, "y": y}, outputs=("y",), label=label)
        for with_gx, gx in (("gx", np.zeros_like(x)), ("no gx", None)):
            yield Case("linear_backward", {"gy": y, "x": x, "w": w, "gw": np.zeros_like(w),
                                           "gb": None if bias is None else np.zeros_like(b), "gx": gx},
                       outputs=("gw", "gb", "gx"), label=f"{label}, {with_gx}")

    weights = rng.uniform(0.0, 1.0, n)
    weights /= weights.sum()
    s, gy, gamma, beta = 2.0 * normal((m, n, h)) + 1.0, normal((m, n, h)), rng.uniform(0.5, 1.5, (m, h)), normal((m, h))
    for kind in ACTIVATIONS:
        yield Case("activation", {"x": s, "y": y}, {"kind": kind}, outputs=("y",), label=kind)
        yield Case("activation_backward", {"gy": gy, "x": s, "y": ACTIVATIONS[kind].value(s, np),
                                           "gx": np.zeros_like(s)}, {"kind": kind}, outputs=("gx",), label=kind)
        for label, share in (("equal weights", np.full(n, 1.0 / n)), ("weights", weights)):
            forward = Case("batch_norm_activation",
                           {"x": s, "weights": share, "gamma": gamma, "beta": beta, "mean": b, "var": b, "inv_std": b,
                            "y": y},
                           {"kind": kind, "eps": 1e-5}, outputs=("mean", "var", "inv_std", "y"),
                           label=f"{kind}, {label}")
            yield forward
            done = forward.call(reference.batch_norm_activation, xp=np)
            yield Case("batch_norm_activation_backward",
                       {"gy": gy, "x": s, "y": done["y"], "weights": share, "gamma": gamma, "beta": beta,
                        "mean": done["mean"], "inv_std": done["inv_std"], "gx": np.zeros_like(s), "ggamma": b,
                        "gbeta": b},
                       {"kind": kind}, outputs=("gx", "ggamma", "gbeta"), label=f"{kind}, {label}")

    logits, labels = 3.0 * normal((m, n, c)), rng.integers(c, size=n)
    for operation in ("cross_entropy", "hinge"):
        yield Case(operation, {"logits": logits, "targets": np.eye(c)[labels], "weights": weights, "loss": np.zeros(m),
                               "glogits": np.zeros_like(logits)}, outputs=("loss", "glogits"))
    for label, counts in (("equal", np.ones(n)), ("weights", weights)):
        yield Case("count_correct", {"logits": logits, "labels": labels, "counts": counts, "correct": np.zeros(m)},
                   outputs=("correct",), label=label)

    for decay in (0.9, 0.0):
        yield Case("moving_average", {"new": normal(m * h), "decay": decay, "running": normal(m * h)},
                   updates=("running",), label=f"decay {decay}")

    wide = rng.uniform(0.0, 0.1, m * h)
    for shape, lr, penalty in (((m, h), rng.uniform(0, 0.1, (m, 1)), rng.uniform(0, 0.1, (m, 1))),
                               ((d, m * h), wide, 2.0 * wide), ((m, h), rng.uniform(0, 0.1, (m, 1)), None)):
        label = f"{shape}, {'no ' if penalty is None else ''}penalty"
        common = {"gradients": normal(shape), "lr": lr, "penalty": penalty}
        for momentum, nesterov in ((0.0, False), (0.9, False), (0.9, True)):
            velocity = normal(shape) if momentum else None
            yield Case("sgd", {**common, "velocity": velocity, "parameters": normal(shape)},
                       {"momentum": momentum, "nesterov": nesterov}, updates=("velocity", "parameters"),
                       destroyed=("gradients",), label=f"{label}, momentum {momentum}, nesterov {nesterov}")
        for step, decoupled in ((1, True), (7, False)):
            yield Case("adam", {**common, "first": normal(shape), "second": normal(shape) ** 2,
                                "parameters": normal(shape)},
                       {"step": step, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "decoupled": decoupled},
                       updates=("first", "second", "parameters"), destroyed=("gradients",),
                       label=f"{label}, step {step}, decoupled {decoupled}")
