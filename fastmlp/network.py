"""A population of networks of one shape: their parameters, forward and backward. One network is a population of one."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.backend import Backend
from fastmlp.dropout import Masks
from fastmlp.errors import ConfigError
from fastmlp.initializers import draw_weights
from fastmlp.layers import Activity, Layer
from fastmlp.layout import Layout, NetworkSpec, members_first

Array = Any

BATCH_NORM_EPS = 1e-5   # added to the variance, as in PyTorch; also what keeps a constant unit finite


class Network:
    """`members` networks of one shape, computed together.

    Parameters
    ----------
    spec : NetworkSpec
        The shape they share.
    backend : Backend
        Where they live.
    members : int, default 1
        How many.
    dtype : {"float32", "float64"}, default "float32"
        Of parameters and computation.
    l2 : float or sequence of float, default 0.0
        The penalty's factor, one for all or one a member: cost = loss + l2 * sum of squared weights.

    Attributes
    ----------
    parameters, gradients : array (layout.size,)
        One flat buffer each; `views` and `layout` name its parts.
    running : array (2 S,)
        Batch norm's running means, then variances, of all S normalised units.

    Examples
    --------
    >>> from fastmlp.backend import resolve
    >>> network = Network(NetworkSpec(4, (3,), 2), resolve("cpu"))
    >>> network.initialize([0])
    >>> network.views()["w0"].shape
    (1, 4, 3)
    """

    def __init__(self, spec: NetworkSpec, backend: Backend, *, members: int = 1, dtype: str = "float32",
                 l2: float | npt.ArrayLike = 0.0) -> None:
        if dtype not in ("float32", "float64"):
            raise ConfigError(f"dtype = {dtype!r} cannot be trained in: choose float32 or float64")
        with np.errstate(over="ignore"):    # looked at below
            penalties = np.broadcast_to(np.asarray(l2, np.float64), (members,)).astype(dtype)
        if not (np.isfinite(penalties).all() and (penalties >= 0).all()):
            raise ConfigError(f"l2 = {l2!r} must be finite and not negative")
        xp = backend.xp
        self.spec, self.backend, self.members = spec, backend, members
        self.kernels = backend.kernels
        self.dtype = np.dtype(dtype)
        self.layout = Layout(spec, members, xp)
        self.parameters = self.empty((self.layout.size,))
        self.gradients = self.empty((self.layout.size,))
        self.l2 = backend.asarray(penalties)                                                            # (M,)
        n_normalised = members * sum(spec.hidden) if spec.batch_norm else 0
        self.running = self.empty((2 * n_normalised,))
        self.statistics = self.empty((2 * n_normalised,))       # of the batch at hand, laid out like `running`
        self.has_running = False                                # the first batch initialises the running statistics
        self.layers = self._make_layers()
        self._activities: dict[tuple[int, bool], list[Activity]] = {}

    def empty(self, shape: tuple[int, ...]) -> Array:
        """A new array of the network's dtype on its device."""
        return self.backend.zeros(shape, self.dtype)

    def zeros_like_parameters(self) -> Array:
        """A flat buffer of zeros for an optimizer's state."""
        return self.empty((self.layout.size,))

    def _make_layers(self) -> list[Layer]:
        values = self.layout.computing_views(self.parameters)
        slopes = self.layout.computing_views(self.gradients)
        return [
            Layer(values[f"w{k}"], values.get(f"b{k}"), values.get(f"gamma{k}"), values.get(f"beta{k}"),
                  slopes[f"w{k}"], slopes.get(f"b{k}"), slopes.get(f"gamma{k}"), slopes.get(f"beta{k}"))
            for k in range(self.spec.n_layers)
        ]

    def views(self) -> dict[str, Array]:
        """Parameters by name, members first: `w0` (M, D, H), `b0` or `gamma0`, `beta0` (M, H), `w1`, ..."""
        return self.layout.member_views(self.parameters)

    def initialize(self, seeds: list[int], init: list[str] | str = "he", init_std: list[float] | float = 0.01) -> None:
        """Draw new weights: member k from `seeds[k]`, as `initializers.draw_weights` says; forget running statistics.

        Parameters
        ----------
        seeds : list of int, one a member
        init : str or list of str, default "he"
            `he`, `xavier` or `normal`; one for all or one a member.
        init_std : float or list of float, default 0.01
            Standard deviation for `normal`.
        """
        inits = [init] * self.members if isinstance(init, str) else init
        stds = np.broadcast_to(np.asarray(init_std, np.float64), (self.members,)).tolist()
        values = np.zeros(self.layout.size, np.float64)
        views = Layout(self.spec, self.members, np).member_views(values)
        for k, (seed, kind, std) in enumerate(zip(seeds, inits, stds, strict=True)):
            for layer, w in enumerate(draw_weights(seed, self.spec.sizes, kind, std)):
                views[f"w{layer}"][k] = w
        for name, view in views.items():
            if name.startswith("gamma"):
                view[...] = 1.0
        self.parameters[...] = self.backend.asarray(values.astype(self.dtype))
        self.has_running = False

    def member(self, k: int) -> Network:
        """Member k as a network of its own, with copies of its parameters and running statistics.

        Examples
        --------
        >>> from fastmlp.backend import resolve
        >>> population = Network(NetworkSpec(4, (3,), 2), resolve("cpu"), members=5)
        >>> population.initialize(list(range(5)))
        >>> population.member(2).members
        1
        """
        single = Network(self.spec, self.backend, dtype=self.dtype.name, l2=float(self.backend.to_host(self.l2)[k]))
        ours = self.views()
        for name, view in single.views().items():
            view[...] = ours[name][k:k + 1, ...]
        for mine, theirs in zip(self.moments(self.running), single.moments(single.running), strict=True):
            for all_members, one in zip(mine, theirs, strict=True):
                one[...] = self.backend.xp.reshape(all_members, (self.members, -1))[k:k + 1, ...]
        single.has_running = self.has_running
        return single

    def moments(self, buffer: Array) -> list[tuple[Array, Array]]:
        """Views of `running` or `statistics` by normalised layer: means and variances, (M, H) as in `Layer`."""
        half, place, views = buffer.shape[0] // 2, 0, []
        for layer in self.layers:
            if layer.gamma is not None:
                shape = layer.gamma.shape
                end = place + shape[0] * shape[1]
                means, variances = buffer[place:end], buffer[half + place:half + end]
                views.append((self.backend.xp.reshape(means, shape), self.backend.xp.reshape(variances, shape)))
                place = end
        return views

    # ------------------------------------------------------------------------------------------------ one batch

    def reserve(self, n: int, dropping: bool = False) -> list[Activity]:
        """The buffers for batches of n examples; those of the two sizes that were last used are kept."""
        activities = self._activities.pop((n, dropping), None)
        if activities is None:
            while len(self._activities) >= 2:                           # full batches and the smaller last one
                self._activities.pop(next(iter(self._activities)))
            activities = self._make_activities(n, dropping)
        self._activities[n, dropping] = activities                      # the last used one is last
        return activities

    def _make_activities(self, n: int, dropping: bool) -> list[Activity]:
        spec, moments = self.spec, self.moments(self.statistics)
        activities: list[Activity] = []
        for k, width in enumerate(spec.sizes[1:]):
            shape = (1, n, self.members * width) if k == 0 else (self.members, n, width)
            last = k == spec.n_layers - 1
            s, gs = self.empty(shape), self.empty(shape)
            y, gy = (s, gs) if last else (self.empty(shape), self.empty(shape))
            mean = var = inv_std = None
            if spec.normalized(k):
                mean, var = moments[k]
                inv_std = self.empty(mean.shape)
            x = gx = None
            if activities:
                below = activities[-1]
                # With dropout what is left of y is the input; its gradient waits in gs, which is not needed before.
                x, gx = (below.dropped, below.gs) if dropping else (below.y, below.gy)
                x, gx = self.by_member(x), self.by_member(gx)
            dropped = self.empty(shape) if dropping and not last else None
            activities.append(Activity(x=x, s=s, y=y, dropped=dropped, gs=gs, gy=gy, gx=gx, mean=mean, var=var,
                                       inv_std=inv_std))
        return activities

    def by_member(self, array: Array) -> Array:
        """A view (members, N, H) of a layer's array, which is (1, N, members * H) in the first layer."""
        if array.shape[0] == self.members:
            return array
        return members_first(array, self.members, self.backend.xp)

    def forward(self, x: Array, weights: Array, masks: Masks | None = None) -> list[Activity]:
        """Compute all layers with the statistics of this batch, as in training.

        x (N, D), weights (N,) of the examples in those statistics, which sum to 1; masks of dropout, if there is one.
        """
        activities = self.reserve(x.shape[0], masks is not None)
        activities[0].x = x[None, ...]                                  # (1, N, D)
        kernels, kind = self.kernels, self.spec.activation
        for k, (layer, a) in enumerate(zip(self.layers, activities, strict=True)):
            if layer.gamma is not None:
                kernels.linear_batch_norm_activation(a.x, layer.w, a.s, weights, layer.gamma, layer.beta, a.mean, a.var,
                                                     a.inv_std, a.y, kind=kind, eps=BATCH_NORM_EPS)
            elif a.y is not a.s:
                kernels.linear_activation(a.x, layer.w, layer.b, a.s, a.y, kind=kind)
            else:
                kernels.linear(a.x, layer.w, layer.b, a.s)
            if masks is not None and a.dropped is not None:
                self._drop(a.y, masks, k, a.dropped)
        return activities

    def _drop(self, array: Array, masks: Masks, layer: int, left: Array) -> None:
        """What dropout leaves of a hidden layer's output; or of its gradient, on the way back."""
        self.kernels.dropout(self.by_member(array), masks.keys[layer, ...], self.by_member(left), rate=masks.rate)

    def loss(self, logits: Array, targets: Array, weights: Array, loss: Array, glogits: Array,
             label_smoothing: float = 0.0) -> None:
        """The spec's loss: see `kernels.reference.cross_entropy` and `hinge` (which smooths nothing) for the shapes."""
        if self.spec.loss == "hinge":
            self.kernels.hinge(logits, targets, weights, loss, glogits)
        else:
            self.kernels.cross_entropy(logits, targets, weights, loss, glogits, smoothing=label_smoothing)

    def loss_and_gradient(self, x: Array, targets: Array, weights: Array, loss: Array, *, masks: Masks | None = None,
                          label_smoothing: float = 0.0) -> None:
        """The loss of one batch and its gradient with respect to every parameter.

        The penalty is not in it: the optimizers add it (`Block.penalty`), as does `penalty`.

        Parameters
        ----------
        x : array (N, D)
            The batch.
        targets : array (N, C)
            One-hot rows (or any rows that sum to 1).
        weights : array (N,)
            Weight of each example in the mean loss and in batch norm's statistics; they sum to 1.
        loss : array (M,)
            Written: the weighted mean loss of each member.
        masks : Masks, optional
            What dropout drops in this step.
        label_smoothing : float, default 0.0
            Fraction of each target that is spread over all classes; for cross-entropy.

        Notes
        -----
        Writes `gradients`, `statistics`, and nothing else that outlives the call.
        """
        activities = self.forward(x, weights, masks)
        top = activities[-1]
        self.loss(self.by_member(top.y), targets, weights, loss, self.by_member(top.gy), label_smoothing)
        self._backward(activities, weights, masks)

    def _backward(self, activities: list[Activity], weights: Array, masks: Masks | None) -> None:
        """From the gradient with respect to the logits, each layer's and that of the layer below."""
        kernels, kind = self.kernels, self.spec.activation
        for k in range(self.spec.n_layers - 1, 0, -1):
            layer, a, below, under = self.layers[k], activities[k], self.layers[k - 1], activities[k - 1]
            through = (a.gs, a.x, layer.w, layer.gw, layer.gb, a.gx)
            norm = (weights, below.gamma, below.beta, under.mean, under.inv_std, under.gs, below.ggamma, below.gbeta)
            if masks is not None:                       # comes between what is joined otherwise
                kernels.linear_backward(*through)
                self._drop(under.gs, masks, k - 1, under.gy)
                if below.gamma is not None:
                    kernels.batch_norm_activation_backward(under.gy, under.s, under.y, *norm, kind=kind)
                else:
                    kernels.activation_backward(under.gy, under.s, under.y, under.gs, kind=kind)
            elif below.gamma is not None:
                kernels.linear_backward_batch_norm_activation_backward(*through, under.s, under.y, under.gy, *norm,
                                                                       kind=kind)
            else:
                kernels.linear_backward_activation_backward(*through, under.s, under.y, under.gy, under.gs, kind=kind)
        layer, a = self.layers[0], activities[0]
        kernels.linear_backward(a.gs, a.x, layer.w, layer.gw, layer.gb, None)

    def update_running(self, decay: float) -> None:
        """Fold the last batch's statistics into the running ones; the first batch's become them."""
        if self.spec.batch_norm and self.spec.hidden:
            self.kernels.moving_average(self.statistics, decay if self.has_running else 0.0, self.running)
            self.has_running = True

    def penalty(self) -> Array:
        """The penalty of each member, l2 * sum of squared weights.  ->  (M,)."""
        xp = self.backend.xp
        total = self.empty((self.members,))
        for name, view in self.views().items():
            if name.startswith("w"):
                squares = xp.sum(view * view, axis=(-2, -1), dtype=xp.float64)
                total += self.l2 * xp.astype(squares, total.dtype)
        return total
