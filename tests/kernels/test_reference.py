"""The reference beside formulas written out with Python numbers and loops."""

import math
import statistics

import numpy as np
import pytest
from tolerances import assert_close

from fastmlp.kernels import masks, reference
from fastmlp.kernels.activations import ACTIVATIONS
from fastmlp.layout import Block

pytestmark = pytest.mark.L0

CLOSE = 1e-13


@pytest.fixture
def rng():
    return np.random.default_rng(5)


FORMULAS = {
    "relu": lambda s: max(0.0, s),
    "leaky-relu": lambda s: s if s > 0 else 0.01 * s,
    "gelu": lambda s: s / 2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (s + 0.044715 * s**3))),
    "tanh": math.tanh,
    "logistic": lambda s: 1 / (1 + math.exp(-s)),
    "identity": lambda s: s,
}


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_activations_are_their_formulas_and_slopes_their_derivatives(kind):
    s = np.array([-30.0, -2.5, -1.0, -0.3, -1e-3, 1e-3, 0.2, 1.0, 3.0, 30.0])
    value = np.array([FORMULAS[kind](number) for number in s])
    assert_close(ACTIVATIONS[kind].value(s, np), value, CLOSE)
    h = 1e-5
    derivative = np.array([(FORMULAS[kind](number + h) - FORMULAS[kind](number - h)) / (2 * h) for number in s])
    assert_close(ACTIVATIONS[kind].slope(s, value, np), derivative, 1e-9)


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_activations_keep_dtype_and_stay_finite_far_out(kind):
    s = np.array([-1e4, 0.0, 1e4], np.float32)
    value = ACTIVATIONS[kind].value(s, np)
    slope = ACTIVATIONS[kind].slope(s, value, np)
    assert value.dtype == slope.dtype == np.float32
    assert np.isfinite(value).all()
    assert np.isfinite(slope).all()
    if kind in ("relu", "leaky-relu"):
        assert slope[1] == {"relu": 0.0, "leaky-relu": np.float32(0.01)}[kind], "the kink belongs to the left"


def test_gather_takes_the_rows_and_standardises_them(rng):
    data, x, targets = rng.integers(256, size=(5, 3), dtype=np.uint8), np.empty((4, 3)), np.empty((4, 2))
    mean, inv_std = rng.normal(size=3), rng.uniform(1, 2, 3)
    labels = np.array([0, 1, 1, 0, 1])
    reference.gather(data, labels, np.arange(2), np.array([4, 0, 4, 2]), mean, inv_std, x, targets, xp=np)
    assert targets.tolist() == [[0, 1], [1, 0], [0, 1], [0, 1]]
    for place, row in enumerate((4, 0, 4, 2)):
        assert_close(x[place], [(float(data[row, j]) - mean[j]) * inv_std[j] for j in range(3)], CLOSE)


def test_weights_of_a_batch_are_shares_and_zeros_where_all_are_zero():
    sample_weight, weights = np.array([1.0, 3.0, 0.0, 0.0]), np.empty(2)
    reference.batch_weights(sample_weight, np.array([1, 0]), weights, xp=np)
    assert weights.tolist() == [0.75, 0.25]
    reference.batch_weights(sample_weight / 64, np.array([1, 0]), weights, xp=np)       # which sum to less than 1
    assert weights.tolist() == [0.75, 0.25]
    reference.batch_weights(sample_weight, np.array([2, 3]), weights, xp=np)
    assert weights.tolist() == [0.0, 0.0]


def test_linear_is_the_sum_of_products(rng):
    x, w, b, y = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 4, 5)), rng.normal(size=(2, 5)), np.empty((2, 3, 5))
    reference.linear(x, w, b, y, xp=np)
    for m, n, h in np.ndindex(y.shape):
        assert_close(y[m, n, h], sum(x[m, n, d] * w[m, d, h] for d in range(4)) + b[m, h], CLOSE)


def test_batch_norm_normalises_each_unit_with_the_biased_variance(rng):
    x, gamma, beta = rng.normal(3.0, 2.0, size=(2, 6, 3)), rng.uniform(0.5, 1.5, (2, 3)), rng.normal(size=(2, 3))
    y, (mean, var, inv_std) = np.empty_like(x), np.empty((3, 2, 3))
    reference.batch_norm_activation(x, np.full(6, 1 / 6), gamma, beta, mean, var, inv_std, y, kind="tanh", eps=1e-3,
                                    xp=np)
    for m, h in np.ndindex(2, 3):
        column = x[m, :, h].tolist()
        centre, spread = statistics.fmean(column), statistics.pvariance(column)
        assert_close(mean[m, h], centre, CLOSE)
        assert_close(var[m, h], spread, CLOSE)
        assert_close(inv_std[m, h], 1 / math.sqrt(spread + 1e-3), CLOSE)
        assert_close(y[m, :, h], [math.tanh(gamma[m, h] * (v - centre) / math.sqrt(spread + 1e-3) + beta[m, h])
                                  for v in column], CLOSE)


def test_weighted_batch_norm_with_whole_weights_is_batch_norm_of_repeated_examples(rng):
    counts = np.array([1, 3, 0, 2])
    x, gy, gamma, beta = *rng.normal(size=(2, 1, 4, 3)), rng.uniform(0.5, 1.5, (1, 3)), rng.normal(size=(1, 3))
    one = {name: np.empty((1, 3)) for name in ("mean", "var", "inv_std", "ggamma", "gbeta")}
    two = {name: np.empty((1, 3)) for name in one}
    y, gx = np.empty_like(x), np.empty_like(x)
    again, gy_again = np.repeat(x, counts, axis=1), np.repeat(gy, counts, axis=1)
    y_again, gx_again = np.empty_like(again), np.empty_like(again)
    three = ("mean", "var", "inv_std")
    equal = np.full(6, 1 / 6)
    reference.batch_norm_activation(x, counts / 6, gamma, beta, *(one[k] for k in three), y, kind="tanh", eps=1e-5,
                                    xp=np)
    reference.batch_norm_activation(again, equal, gamma, beta, *(two[k] for k in three), y_again, kind="tanh", eps=1e-5,
                                    xp=np)
    # an example that stands for k has k times the gradient
    reference.batch_norm_activation_backward(
        gy * counts[:, None], x, y, counts / 6, gamma, beta, one["mean"], one["inv_std"], gx, one["ggamma"],
        one["gbeta"], kind="tanh", xp=np)
    reference.batch_norm_activation_backward(gy_again, again, y_again, equal, gamma, beta, two["mean"], two["inv_std"],
                                             gx_again, two["ggamma"], two["gbeta"], kind="tanh", xp=np)
    for name, value in one.items():
        assert_close(value, two[name], CLOSE, name)
    first = np.repeat(np.arange(4), counts)
    summed = np.stack([gx_again[0, first == k].sum(axis=0) for k in range(4)])
    assert_close(gx[0], summed, CLOSE)


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_the_gradient_through_an_activation_is_multiplied_by_its_slope(rng, kind):
    (x, gy), h = rng.normal(size=(2, 2, 3, 4)), 1e-5
    y, gx = np.empty_like(x), np.empty_like(x)
    reference.activation(x, y, kind=kind, xp=np)
    reference.activation_backward(gy, x, y, gx, kind=kind, xp=np)
    slope = [(FORMULAS[kind](number + h) - FORMULAS[kind](number - h)) / (2 * h) for number in x.ravel()]
    assert_close(gx, gy * np.reshape(slope, x.shape), 1e-9)


def test_dropout_keeps_the_numbers_drawn_at_the_rate_and_drops_those_below():
    key, rows, units = (np.array(values, np.uint32) for values in ([7], range(4), range(3)))
    rate = int(masks.drawn(key, rows, units)[0, 2, 1]) / 2**32
    y = np.empty((1, 4, 3))
    reference.dropout(np.ones((1, 4, 3)), key, y, rate=rate, xp=np)
    assert y[0, 2, 1] == 1 / (1 - rate)
    reference.dropout(np.ones((1, 4, 3)), key, y, rate=rate + 2**-32, xp=np)
    assert y[0, 2, 1] == 0


def test_cross_entropy_is_minus_the_log_of_the_softmax(rng):
    logits, labels, weights = rng.normal(size=(2, 4, 3)), [2, 0, 1, 1], np.array([0.1, 0.2, 0.3, 0.4])
    loss, glogits = np.empty(2), np.empty_like(logits)
    reference.cross_entropy(logits, np.eye(3)[labels], weights, loss, glogits, xp=np)
    for m in range(2):
        expected = 0.0
        for n, label in enumerate(labels):
            total = sum(math.exp(v) for v in logits[m, n])
            expected -= weights[n] * math.log(math.exp(logits[m, n, label]) / total)
            assert_close(glogits[m, n], [weights[n] * (math.exp(v) / total - (c == label))
                                         for c, v in enumerate(logits[m, n])], CLOSE)
        assert_close(loss[m], expected, CLOSE)


def test_smoothing_spreads_a_part_of_each_target_over_all_classes(rng):
    logits, labels, weights = rng.normal(size=(2, 4, 5)), [2, 0, 1, 4], np.array([0.1, 0.2, 0.3, 0.4])
    smooth, by_hand = np.eye(5)[labels], np.full((4, 5), 0.06)
    by_hand[np.arange(4), labels] = 0.76                        # 0.7 of one, and 0.3 / 5 for each class
    results = []
    for targets, smoothing in ((smooth, 0.3), (by_hand, 0.0)):
        loss, glogits = np.empty(2), np.empty_like(logits)
        reference.cross_entropy(logits, targets, weights, loss, glogits, smoothing=smoothing, xp=np)
        results.append((loss, glogits))
    assert_close(results[0][0], results[1][0], CLOSE)
    assert_close(results[0][1], results[1][1], CLOSE)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cross_entropy_of_huge_logits_is_finite_and_exact(dtype):
    logits = np.array([[[1e4, 0.0], [0.0, 1e4]]], dtype)        # the first is right by far, the second wrong by 1e4
    targets, weights = np.array([[1, 0], [1, 0]], dtype), np.array([0.5, 0.5], dtype)
    loss, glogits = np.empty(1, dtype), np.empty_like(logits)
    reference.cross_entropy(logits, targets, weights, loss, glogits, xp=np)
    assert loss[0] == 0.5 * 1e4
    assert glogits.tolist() == [[[0.0, 0.0], [-0.5, 0.5]]]
    logits = np.array([[[1e4, 0.0], [-1e4, -1e4]]], dtype)      # each has its own maximum
    reference.cross_entropy(logits, targets, weights, loss, glogits, xp=np)
    assert_close(loss[0], 0.5 * math.log(2), 1e-7)
    assert glogits.tolist() == [[[0.0, 0.0], [-0.25, 0.25]]]


def test_hinge_sums_the_margins_of_the_wrong_classes(rng):
    logits, labels, weights = rng.normal(size=(2, 4, 3)), [2, 0, 1, 1], np.array([0.1, 0.2, 0.3, 0.4])
    loss, glogits = np.empty(2), np.empty_like(logits)
    reference.hinge(logits, np.eye(3)[labels], weights, loss, glogits, xp=np)
    for m in range(2):
        expected = 0.0
        for n, label in enumerate(labels):
            wrong = [c for c in range(3) if c != label]
            margins = {c: max(0.0, logits[m, n, c] - logits[m, n, label] + 1.0) for c in wrong}
            expected += weights[n] * sum(margins.values())
            for c in wrong:
                assert_close(glogits[m, n, c], weights[n] * (margins[c] > 0), CLOSE)
            assert_close(glogits[m, n, label], -weights[n] * sum(v > 0 for v in margins.values()), CLOSE)
        assert_close(loss[m], expected, CLOSE)


def test_the_moving_average_keeps_the_fraction_decay():
    running = np.array([1.0, 2.0])
    reference.moving_average(np.array([3.0, 6.0]), 0.75, running, xp=np)
    assert running.tolist() == [1.5, 3.0]


def test_count_correct_counts_the_highest_logits():
    logits = np.array([[[1.0, 2.0], [3.0, 0.0], [0.0, 1.0]], [[2.0, 1.0], [0.0, 3.0], [0.0, 1.0]]])
    correct = np.empty(2)
    reference.count_correct(logits, np.array([1, 0, 0]), np.ones(3), correct, xp=np)
    assert correct.tolist() == [2.0, 0.0]
    reference.count_correct(logits, np.array([1, 0, 0]), np.array([0.5, 4.0, 1.0]), correct, xp=np)
    assert correct.tolist() == [4.5, 0.0]


WEIGHT = (Block(0, 1, (1, 1), True, 0, np),)     # of one member: a single weight ...
BIAS = (Block(0, 1, (1, 1), False, 0, np),)     # ... or a number that is not penalised


def test_sgd_by_hand():
    # g = 2 + 2 * 0.25 * 4 = 4; v = 0.9 * 10 + 4 = 13; classical: 4 - 0.1 * 13; Nesterov: 4 - 0.1 * (4 + 0.9 * 13)
    for nesterov, expected in ((False, 2.7), (True, 4.0 - 0.1 * 15.7)):
        velocity, parameters = np.array([10.0]), np.array([4.0])
        reference.sgd(np.array([2.0]), np.array([0.1]), np.array([0.25]), velocity, parameters, blocks=WEIGHT,
                      momentum=0.9, nesterov=nesterov, xp=np)
        assert_close(velocity, [13.0], CLOSE)
        assert_close(parameters, [expected], CLOSE)
    parameters = np.array([4.0])
    reference.sgd(np.array([2.0]), np.array([0.1]), np.array([0.25]), None, parameters, blocks=BIAS, momentum=0.0,
                  nesterov=False, xp=np)
    assert_close(parameters, [3.8], CLOSE)


@pytest.mark.parametrize("decoupled", [True, False])
def test_adam_by_hand(decoupled):
    p, g, lr, penalty, m, v, step = 4.0, 2.0, 0.1, 0.5, 0.3, 0.2, 3
    first, second, parameters = np.array([m]), np.array([v]), np.array([p])
    reference.adam(np.array([g]), np.array([lr]), np.array([penalty / 2]), 1.0 - np.array([0.9, 0.99]) ** step, first,
                   second, parameters, blocks=WEIGHT, beta1=0.9, beta2=0.99, eps=1e-3, decoupled=decoupled, xp=np)
    if decoupled:
        p *= 1 - lr * penalty
    else:
        g += penalty * p
    m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g**2
    p -= lr * (m / (1 - 0.9**step)) / (math.sqrt(v / (1 - 0.99**step)) + 1e-3)
    assert_close([first[0], second[0], parameters[0]], [m, v, p], CLOSE)
