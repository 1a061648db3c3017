"""Arguments for every operation of the contract, for tests that treat all makers alike.

An argument is an input, an output (whose old content must not matter), an update (read and written) or destroyed.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastmlp.kernels import bind, reference
from fastmlp.kernels.activations import ACTIVATIONS
from fastmlp.layout import Layout, NetworkSpec, members_first

#: As an argument: the view (M, N, H) of another argument, such as `x` of the layer's `y` below.
MEMBERS_OF = "members of "

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

    @property
    def is_tiny(self) -> bool:
        """A batch of two examples."""
        return "weights" in self.arguments and self.arguments["weights"].shape == (2,)

    def fresh_arguments(self, make, xp=np) -> dict[str, Any]:
        """The arguments by name: arrays as `make` gives them, and views of those."""
        fresh = {name: make(value) if isinstance(value, np.ndarray) else value
                 for name, value in self.arguments.items()}
        for name, value in self.arguments.items():
            if isinstance(value, str):
                below, members = fresh[value.removeprefix(MEMBERS_OF)], fresh["w"].shape[0]
                fresh[name] = below if below.shape[0] == members else members_first(below, members, xp)
        return fresh

    def call(self, function, dtype="float64", strided=False, poison=np.nan, **extra):
        """Run the operation on fresh arrays: what was written, by name. Inputs must come out as they went in."""
        fresh = self.fresh_arguments(lambda value: _fresh(value, dtype, strided))
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


def on_device(backend, operation):
    """The same call with arrays on the device, and what it wrote brought back; views of arguments stay views."""
    def call(*arguments, **keywords):
        arrays = [a for a in arguments if isinstance(a, np.ndarray)]
        sent = {id(a): backend.asarray(a) for a in arrays if a.base is None}
        for view in arrays:
            if id(view) not in sent:
                whole = next(a for a in arrays if a.base is None and np.shares_memory(a, view))
                sent[id(view)] = members_first(sent[id(whole)], view.shape[0], backend.xp)
        operation(*(sent.get(id(a), a) for a in arguments), **keywords)
        for a in arrays:
            if a.base is None:
                a[...] = backend.to_host(sent[id(a)])
    return call


def own_error(case, dtype):
    """By how much the reference in this dtype is off itself: {output: error}, as `assert_close` counts it."""
    by_reference = getattr(bind(np), case.operation)
    expected, rounded = case.call(by_reference), case.call(by_reference, dtype)
    return {name: np.max(np.abs(rounded[name] - value) / (1.0 + np.abs(value))) for name, value in expected.items()}


def _fresh(value, dtype, strided):
    """A copy in the wanted dtype; with `strided`, (M, N, H) as the view that a wide first layer gives."""
    copy = value.astype(dtype) if value.dtype == np.float64 else value.copy()
    if strided and copy.ndim == 3:
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(copy, 0, 1)), 1, 0)
    return copy


def image_shape_of(d):
    """Some (channels, height, width) of d numbers."""
    channels = 3 if d % 3 == 0 else 1
    height = max(k for k in range(1, d + 1) if d // channels % k == 0 and k * k <= d // channels)
    return channels, height, d // channels // height


def any_moves(image_shape, n):
    """Moves (3, n) of images of this shape, as far as something but the edge is left."""
    rng, (_, height, width) = np.random.default_rng(n), image_shape
    return np.stack([rng.integers(2, size=n), rng.integers(1 - height, height, size=n),
                     rng.integers(1 - width, width, size=n)])


def cases(sizes, seed=0):
    """Every operation in every variant, in float64."""
    rng = np.random.default_rng(seed)
    m, n, d, h, c = sizes
    normal = rng.standard_normal

    data, rows = normal((2 * n, d)), rng.integers(2 * n, size=n)
    as_bytes = rng.integers(256, size=(2 * n, d), dtype=np.uint8)
    scale = {"mean": normal(d), "inv_std": rng.uniform(0.5, 2.0, d)}
    none = {"mean": None, "inv_std": None}
    labels, classes = rng.integers(c, size=2 * n), np.arange(c)
    for label, source, statistics in (("ready", data, none), ("float", data, scale), ("bytes", as_bytes, scale),
                                      ("raw bytes", as_bytes, none)):
        yield Case("gather", {"data": source, "labels": labels, "classes": classes, "rows": rows, **statistics,
                              "x": np.zeros((n, d)), "targets": np.zeros((n, c))}, outputs=("x", "targets"),
                   label=label)
        shape = image_shape_of(d)
        yield Case("gather_moved", {"data": source, "labels": labels, "classes": classes, "rows": rows,
                                    "moves": any_moves(shape, n), **statistics, "x": np.zeros((n, d)),
                                    "targets": np.zeros((n, c))}, {"image_shape": shape}, outputs=("x", "targets"),
                   label=label)
    for label, least in (("weights", 0.0), ("all zero", 1.0)):
        sample_weight = np.where(rng.uniform(size=2 * n) < least, 0.0, rng.uniform(0.1, 2.0, 2 * n))
        yield Case("batch_weights", {"sample_weight": sample_weight, "rows": rows, "weights": np.zeros(n)},
                   outputs=("weights",), label=label)

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

    for rate in (0.2, 0.75):
        yield Case("dropout", {"x": s, "keys": np.arange(m, dtype=np.uint32) * 2_000_000_011 + 3, "y": y},
                   {"rate": rate}, outputs=("y",), label=f"rate {rate}")

    logits, labels = 3.0 * normal((m, n, c)), rng.integers(c, size=n)
    for operation, keywords in (("cross_entropy", {}), ("cross_entropy", {"smoothing": 0.1}), ("hinge", {})):
        yield Case(operation, {"logits": logits, "targets": np.eye(c)[labels], "weights": weights, "loss": np.zeros(m),
                               "glogits": np.zeros_like(logits)}, keywords, outputs=("loss", "glogits"),
                   label=f"smoothing {keywords.get('smoothing', 0.0)}")
    for label, counts in (("equal", np.ones(n)), ("weights", weights)):
        yield Case("count_correct", {"logits": logits, "labels": labels, "counts": counts, "correct": np.zeros(m)},
                   outputs=("correct",), label=label)

    for decay in (0.9, 0.0):
        yield Case("moving_average", {"new": normal(m * h), "decay": decay, "running": normal(m * h)},
                   updates=("running",), label=f"decay {decay}")

    layout = Layout(NetworkSpec(d, (h,), c), m, np)
    common = {"gradients": normal(layout.size), "lr": rng.uniform(0, 0.1, m), "l2": rng.uniform(0, 0.1, m)}
    for momentum, nesterov in ((0.0, False), (0.9, False), (0.9, True)):
        velocity = normal(layout.size) if momentum else None
        yield Case("sgd", {**common, "velocity": velocity, "parameters": normal(layout.size)},
                   {"blocks": layout.blocks, "momentum": momentum, "nesterov": nesterov},
                   updates=("velocity", "parameters"), destroyed=("gradients",),
                   label=f"momentum {momentum}, nesterov {nesterov}")
    for step, decoupled in ((1, True), (7, False)):
        corrections = 1.0 - np.array([0.9, 0.999]) ** step
        yield Case("adam", {**common, "corrections": corrections, "first": normal(layout.size),
                            "second": normal(layout.size) ** 2, "parameters": normal(layout.size)},
                   {"blocks": layout.blocks, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "decoupled": decoupled},
                   updates=("first", "second", "parameters"), destroyed=("gradients",),
                   label=f"step {step}, decoupled {decoupled}")


def chain_cases(sizes, seed=0):
    """Every chain in every variant: below a layer of `units` wide ones (all members side by side) or one a member."""
    rng = np.random.default_rng(seed)
    m, n, d, h, _ = sizes
    normal = rng.standard_normal
    weights = rng.uniform(0.1, 1.0, n)
    weights /= weights.sum()
    x, w, b, y = normal((m, n, d)), normal((m, d, h)), normal((m, h)), np.zeros((m, n, h))
    unit = {"mean": b, "var": b, "inv_std": b}
    for kind in ACTIVATIONS:
        yield Case("linear_activation", {"x": x, "w": w, "b": b, "s": y, "y": y}, {"kind": kind}, outputs=("s", "y"),
                   label=kind)
        yield Case("linear_batch_norm_activation",
                   {"x": x, "w": w, "s": y, "weights": weights, "gamma": rng.uniform(0.5, 1.5, (m, h)),
                    "beta": normal((m, h)), **unit, "y": y}, {"kind": kind, "eps": 1e-5},
                   outputs=("s", "mean", "var", "inv_std", "y"), label=kind)
        for side_by_side in (False, True):
            shape, units = ((1, n, m * d), (1, m * d)) if side_by_side else ((m, n, d), (m, d))
            s, gamma, beta = normal(shape) + 1.0, rng.uniform(0.5, 1.5, units), normal(units)
            mean, var, inv_std, below = np.zeros(units), np.zeros(units), np.zeros(units), np.zeros(shape)
            gy = normal((m, n, h))
            for bias in (True, False):
                label = f"{kind}, {'bias' if bias else 'no bias'}{', members side by side' if side_by_side else ''}"
                gb = np.zeros((m, h)) if bias else None
                reference.activation(s, below, kind=kind, xp=np)
                through = {"gy": gy, "x": MEMBERS_OF + "y_below", "w": w, "gw": np.zeros((m, d, h)), "gb": gb,
                           "gx": MEMBERS_OF + "gy_below", "s_below": s, "y_below": below.copy(),
                           "gy_below": np.full(shape, np.nan)}
                yield Case("linear_backward_activation_backward", {**through, "gs_below": np.zeros(shape)},
                           {"kind": kind}, outputs=("gw", "gb", "gs_below"), destroyed=("gy_below",), label=label)
                reference.batch_norm_activation(s, weights, gamma, beta, mean, var, inv_std, below, kind=kind, eps=1e-5,
                                                xp=np)
                yield Case("linear_backward_batch_norm_activation_backward",
                           {**through, "y_below": below.copy(), "weights": weights, "gamma": gamma, "beta": beta,
                            "mean": mean, "inv_std": inv_std, "gs_below": np.zeros(shape), "ggamma": beta,
                            "gbeta": beta}, {"kind": kind}, outputs=("gw", "gb", "gs_below", "ggamma", "gbeta"),
                           destroyed=("gy_below",), label=label)
