"""Numbers at the edges: units that hardly vary, logits that are huge or infinite, classes that nobody has."""

import numpy as np
import pytest
from tolerances import assert_close

from fastmlp.errors import DeviceError
from fastmlp.kernels import bind, numpy_inplace
from fastmlp.kernels.compiled import CompiledKernels

pytestmark = pytest.mark.L0
EPS = 1e-5          # that of batch norm


@pytest.fixture(scope="module", params=["reference", "numpy", "compiled"])
def kernels(request):
    try:
        maker = {"reference": lambda: None, "numpy": lambda: numpy_inplace, "compiled": lambda: CompiledKernels(2)}
        return bind(np, maker[request.param]())
    except DeviceError as reason:
        pytest.skip(str(reason))


def normal(n):
    return np.random.default_rng(0).standard_normal((1, n, 3))


UNITS = {
    "all zero": np.zeros((1, 100, 3)),
    "constant": np.full((1, 100, 3), 0.1),
    "a large constant": np.full((1, 100, 3), 1234567.8),
    "variance 1e-12": 1e-6 * normal(100),
    "variance 1e-60": 1e-30 * normal(100),
    "two examples": normal(2),
    "two examples, variance 1e-12": 1e-6 * normal(2),
    "mean 100, deviation 1e-3": 100 + 1e-3 * normal(100),
    "mean 1e4, deviation 1e-2": 1e4 + 1e-2 * normal(100),
    "mean 1e6, deviation 1": 1e6 + normal(100),
    "variance 1e36": 1e18 * normal(100),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("unit", UNITS)
def test_batch_norm_is_as_exact_as_the_rounding_of_its_mean_allows(kernels, unit, dtype):
    x = UNITS[unit].astype(dtype)
    n, gamma, beta = x.shape[1], np.full((1, 3), 1.5, dtype), np.full((1, 3), 0.25, dtype)
    mean, var, inv_std, ggamma, gbeta = np.empty((5, 1, 3), dtype)
    gy = (np.random.default_rng(1).standard_normal(x.shape) / n).astype(dtype)
    y, gx = np.empty_like(x), np.empty_like(x)
    share = np.zeros(n, dtype) + 1.0 / n
    kernels.batch_norm_activation(x, share, gamma, beta, mean, var, inv_std, y, kind="identity", eps=EPS)
    kernels.batch_norm_activation_backward(gy, x, y, share, gamma, beta, mean, inv_std, gx, ggamma, gbeta,
                                           kind="identity")

    x, gy = x.astype(np.longdouble), gy.astype(np.longdouble)
    centre = x.mean(axis=1)
    spread = ((x - centre)**2).mean(axis=1)
    inverse = 1 / np.sqrt(spread + np.longdouble(EPS))
    x_hat = (x - centre) * inverse
    slope = gy - (gy.sum(axis=1) + x_hat * (gy * x_hat).sum(axis=1)) / n
    digit = float(np.finfo(dtype).eps)
    of_mean = 0.5 * digit * float((np.abs(centre) * inverse).max())     # in deviations, by rounding the mean alone
    size = np.abs(centre) + np.sqrt(spread) + np.longdouble(1e-100)
    assert_close(mean / size, centre / size, 4 * digit)
    assert_close(inv_std / inverse, np.ones((1, 3)), 4 * digit + of_mean**2)
    assert_close(y, 1.5 * x_hat + 0.25, 8 * digit + 1.6 * of_mean)
    largest = 1.5 * inverse * np.abs(gy).max()
    assert_close(gx / largest, 1.5 * inverse * slope / largest, 16 * digit + 1.6 * of_mean)
    assert_close(ggamma, (gy * x_hat).sum(axis=1), 8 * digit + 1.6 * of_mean)
    if "constant" in unit or unit == "all zero":
        assert (y == 0.25).all()
        assert (var == 0).all()


LOSSES = [("cross_entropy", 0.0), ("cross_entropy", 0.1), ("hinge", 0.0)]


def loss_of(kernels, kind, smoothing, logits, label, dtype):
    z = np.array([[logits]], dtype)
    loss, slope, targets = np.full(1, np.nan, dtype), np.full_like(z, np.nan), np.eye(3, dtype=dtype)[[label]]
    keywords = {"smoothing": smoothing} if kind == "cross_entropy" else {}
    with np.errstate(all="ignore"):
        getattr(kernels, kind)(z, targets, np.ones(1, dtype), loss, slope, **keywords)
    return loss[0], slope[0, 0]


def exact_loss(kind, smoothing, logits, label):
    """Of logits that are equal or far apart, so that each probability is 0 or that of one among equals."""
    z, target = np.array(logits, np.longdouble), np.eye(3)[label]
    if kind == "hinge":
        margins = np.maximum(0, z - z[label] + 1) * (1 - target)
        violated = 1.0 * (margins > 0)
        return margins.sum(), violated - target * violated.sum()
    target = (1 - smoothing) * target + smoothing / 3
    p = (z == z.max()) / np.sum(z == z.max())
    return np.sum(target * (z.max() - z)) - np.log(p.max()), p - target


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("kind", "smoothing"), LOSSES)
@pytest.mark.parametrize("logits", [
    [1e4, 0, -1e4], [1e30, 0, -1e30], [1e30, 1e30, -1e30], [-1e30, -1e30, -1e30], [1e38, 1e38, 1e38], [0, 0, -1e38],
], ids=str)
def test_losses_of_huge_logits_are_exact(kernels, kind, smoothing, logits, dtype):
    for label in range(3):
        loss, slope = loss_of(kernels, kind, smoothing, logits, label, dtype)
        expected, expected_slope = exact_loss(kind, smoothing, np.array(logits, dtype), label)
        np.testing.assert_allclose(loss, float(expected), rtol=3 * float(np.finfo(dtype).eps))
        assert_close(slope, expected_slope, 1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("kind", "smoothing"), LOSSES)
def test_logits_that_are_not_finite_or_infinitely_far_apart_never_give_a_finite_loss_that_is_wrong(kernels, kind,
                                                                                                   smoothing, dtype):
    edge = float(np.finfo(dtype).max)
    for logits in ([np.inf, 0, 0], [0, 0, np.nan], [np.nan, 0, 0], [np.inf, -np.inf, 0], [-np.inf, 0, 0]):
        for label in range(3):
            loss, _ = loss_of(kernels, kind, smoothing, logits, label, dtype)
            assert not np.isfinite(loss), (logits, label)
    for label, wrong in ((0, False), (2, True)):
        loss, _ = loss_of(kernels, kind, smoothing, [edge, 0, -edge], label, dtype)
        assert not np.isfinite(loss) if wrong or kind == "cross_entropy" else loss == 0


def test_a_class_that_no_example_has_gets_a_gradient_and_no_loss_of_its_own(kernels):
    logits, labels = np.random.default_rng(0).standard_normal((1, 50, 4)), np.arange(50) % 3        # no fourth class
    loss, slope = np.empty(1), np.empty_like(logits)
    kernels.cross_entropy(logits, np.eye(4)[labels], np.full(50, 1 / 50), loss, slope)
    p = np.exp(logits[0]) / np.exp(logits[0]).sum(axis=1, keepdims=True)
    assert_close(loss, [-np.log(p[np.arange(50), labels]).mean()], 1e-14)
    assert_close(slope[0, :, 3], p[:, 3] / 50, 1e-15)


def test_a_variance_beyond_the_dtype_is_not_hidden(kernels):
    x, units = (1e25 * normal(100)).astype(np.float32), np.ones((1, 3), np.float32)
    mean, var, inv_std = np.empty((3, 1, 3), np.float32)
    y, share = np.empty_like(x), np.full(100, 0.01, np.float32)
    with np.errstate(all="ignore"):
        kernels.batch_norm_activation(x, share, units, units, mean, var, inv_std, y, kind="relu", eps=EPS)
    assert np.isnan(y).all()
