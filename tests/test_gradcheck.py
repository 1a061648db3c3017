"""The gradient checker finds right gradients right and planted errors wrong; kinks are stepped round and counted."""

import csv
import inspect

import numpy as np
import pytest
from tolerances import GRADIENT

from fastmlp import gradcheck
from fastmlp.backend import resolve
from fastmlp.errors import ConfigError, DataError
from fastmlp.finite_differences import Cost, extrapolated_slopes
from fastmlp.gradcheck import GradientCheck, TensorCheck, check_gradients
from fastmlp.gradcheck_report import run_gradcheck, table, verdict, write_report
from fastmlp.kernels.activations import ACTIVATIONS, Activation
from fastmlp.layout import Block, NetworkSpec
from fastmlp.network import Network

pytestmark = pytest.mark.L0

SMALL = NetworkSpec(6, (5, 4), 3)


def assert_right(check):
    assert check.passed(GRADIENT), table(check)
    for tensor in check.tensors:
        assert tensor.relative_errors.max() < GRADIENT, table(check)


# ------------------------------------------------------------------------------------------------ right gradients

@pytest.mark.parametrize("l2", [0.0, 0.1])
@pytest.mark.parametrize("batch_norm", [True, False], ids=["batch-norm", "plain"])
@pytest.mark.parametrize("n_layers", range(1, 10))
def test_every_element_of_every_layer_is_right_at_any_depth(n_layers, batch_norm, l2):
    spec = NetworkSpec(10, (9, 8, 7, 6, 8, 7, 6, 5)[:n_layers - 1], 4, batch_norm)
    check = check_gradients(spec, l2=l2)
    assert_right(check)
    assert check.elements == spec.n_parameters
    kinds = {(t.layer, t.kind) for t in check.tensors}
    assert all(t.name == f"{t.kind}{t.layer - 1}" for t in check.tensors)
    hidden = ("w", "gamma", "beta") if batch_norm else ("w", "b")
    assert kinds == {(k, name) for k in range(1, n_layers) for name in hidden} | {(n_layers, "w"), (n_layers, "b")}


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("loss", ["cross-entropy", "hinge"])
@pytest.mark.parametrize("batch_norm", [True, False], ids=["batch-norm", "plain"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_and_loss_is_right(activation, batch_norm, loss, weighted):
    spec = NetworkSpec(8, (7, 6), 4, batch_norm, activation, loss)
    assert_right(check_gradients(spec, l2=0.1, seed=1, sample_weight=np.arange(20) % 3 if weighted else None))


@pytest.mark.parametrize("members_of_layers", [(7,), (7, 6), (7, 6, 5)])
@pytest.mark.parametrize(("batch_norm", "activation"), [(True, "relu"), (True, "tanh"), (False, "relu"),
                                                        (False, "logistic"), (True, "gelu")])
def test_dropout_and_label_smoothing_are_right(members_of_layers, batch_norm, activation):
    spec = NetworkSpec(8, members_of_layers, 4, batch_norm, activation)
    plain = check_gradients(spec, l2=0.1, init="xavier")
    for options in ({"dropout": 0.3}, {"label_smoothing": 0.2}, {"dropout": 0.5, "label_smoothing": 0.1}):
        check = check_gradients(spec, l2=0.1, init="xavier", **options)
        assert_right(check)
        assert not np.allclose(check.tensors[0].analytic, plain.tensors[0].analytic)
    assert ", l2 0.1, dropout 0.5, label smoothing 0.1, 20 examples" in check.title


@pytest.mark.parametrize("init", ["he", "xavier", "normal"])
def test_any_initial_weights_will_do(init):
    assert_right(check_gradients(SMALL, init=init))


def test_examples_of_ones_own_are_used():
    x, labels = np.random.default_rng(0).uniform(size=(7, 6)), np.arange(7) % 3
    check = check_gradients(SMALL, x=x, labels=labels)
    assert check.n == 7
    assert_right(check)
    other = check_gradients(SMALL, x=x, labels=np.zeros(7, int))
    assert not np.array_equal(check.tensors[0].analytic, other.tensors[0].analytic)


def test_a_large_network_is_checked_along_random_directions():
    check = check_gradients(NetworkSpec(500, (50,), 10), n=10, l2=0.1)
    assert_right(check)
    sizes = {t.name: t.analytic.shape for t in check.tensors}
    assert sizes == {"w0": (100,), "gamma0": (50,), "beta0": (50,), "w1": (100,), "b1": (10,)}


def test_the_same_seed_gives_the_same_check_and_another_seed_another():
    one, two, three = check_gradients(SMALL, seed=1), check_gradients(SMALL, seed=1), check_gradients(SMALL, seed=2)
    assert np.array_equal(one.tensors[0].numeric, two.tensors[0].numeric)
    assert not np.array_equal(one.tensors[0].numeric, three.tensors[0].numeric)


# ------------------------------------------------------------------------------------------------ planted errors

def spoil(monkeypatch, operation, output, change):
    """Let an operation of the CPU's go wrong in one of its outputs."""
    kernels = resolve("cpu").kernels
    right = getattr(kernels, operation)
    place = list(inspect.signature(right).parameters).index(output)

    def wrong(*arguments, **keywords):
        right(*arguments, **keywords)
        if arguments[place] is not None:
            change(arguments[place])

    monkeypatch.setattr(kernels, operation, wrong)


def negate(array):
    np.negative(array, out=array)


def nudge_one(array):
    array[0, ..., 0] *= 1.0 + 1e-5


@pytest.mark.parametrize("change", [negate, nudge_one])
@pytest.mark.parametrize(("operation", "output", "batch_norm"), [
    ("linear_backward", "gw", True), ("linear_backward", "gb", False), ("linear_backward", "gx", True),
    ("batch_norm_activation_backward", "gx", True), ("batch_norm_activation_backward", "ggamma", True),
    ("batch_norm_activation_backward", "gbeta", True), ("activation_backward", "gx", False),
    ("cross_entropy", "glogits", False),
])
def test_a_wrong_operation_is_caught(monkeypatch, operation, output, batch_norm, change):
    spec = NetworkSpec(6, (5, 4), 3, batch_norm, "tanh")
    assert check_gradients(spec).passed()
    spoil(monkeypatch, operation, output, change)
    check = check_gradients(spec)
    assert not check.passed()
    assert check.skipped == 0


@pytest.mark.parametrize("batch_norm", [True, False])
def test_a_way_back_that_forgets_what_was_dropped_is_caught(monkeypatch, batch_norm):
    spec = NetworkSpec(6, (5, 4), 3, batch_norm, "tanh")
    monkeypatch.setattr(Network, "_drop", forgetful(Network._drop))
    check = check_gradients(spec, dropout=0.3)
    assert not check.passed()
    wrong = {t.name for t in check.tensors if t.relative_errors.max() > GRADIENT}
    assert "w0" in wrong
    assert "w2" not in wrong                    # above all of dropout


def forgetful(drop):
    def wrong(self, array, masks, layer, left):
        if any(array is activity.gs for activity in self.reserve(array.shape[1], True)):
            left[...] = array
        else:
            drop(self, array, masks, layer, left)
    return wrong


def test_a_population_of_which_all_drop_what_the_first_drops_is_caught(monkeypatch):
    kernels = resolve("cpu").kernels
    right = kernels.dropout

    def wrong(x, keys, y, *, rate):
        right(x, keys[:1].repeat(len(keys)), y, rate=rate)

    monkeypatch.setattr(kernels, "dropout", wrong)
    check = check_gradients(SMALL, dropout=0.3)
    assert max(t.relative_errors.max() for t in check.tensors) < GRADIENT
    assert check.population_error > GRADIENT


def test_a_gradient_of_other_targets_than_the_losss_is_caught(monkeypatch):
    kernels = resolve("cpu").kernels
    right = kernels.cross_entropy

    def wrong(logits, targets, weights, loss, glogits, *, smoothing=0.0):
        right(logits, targets, weights, loss, glogits)
        right(logits, targets, weights, loss, np.empty_like(glogits), smoothing=smoothing)

    monkeypatch.setattr(kernels, "cross_entropy", wrong)
    assert check_gradients(SMALL).passed()
    assert not check_gradients(SMALL, label_smoothing=0.1).passed()


def test_a_gradient_that_is_nan_is_caught(monkeypatch):
    spoil(monkeypatch, "linear_backward", "gw", lambda array: array.fill(np.nan))
    check = check_gradients(SMALL)
    assert check.worst == np.inf
    assert not check.passed()


def test_a_wrong_slope_is_caught(monkeypatch):
    right = ACTIVATIONS["gelu"]
    wrong = Activation(right.value, lambda s, y, xp: right.slope(s, y, xp) + 1e-5, False)
    monkeypatch.setitem(ACTIVATIONS, "gelu", wrong)
    monkeypatch.setattr(gradcheck, "resolve", lambda device: resolve(device, kernels="numpy"))  # who looks it up there
    assert not check_gradients(NetworkSpec(6, (5,), 3, activation="gelu")).passed()


def test_a_penalty_without_its_factor_of_two_is_caught(monkeypatch):
    monkeypatch.setattr(Block, "penalty", lambda self, l2: self.spread(l2) if self.is_weight else None)
    assert check_gradients(SMALL, l2=0.0).passed()
    assert not check_gradients(SMALL, l2=0.1).passed()


def test_a_penalty_on_vectors_is_caught(monkeypatch):
    monkeypatch.setattr(Block, "penalty", lambda self, l2: self.spread(2.0 * l2))
    check = check_gradients(SMALL, l2=0.1)
    wrong = {t.kind for t in check.tensors if t.relative_errors.max() > GRADIENT}
    assert wrong == {"gamma", "beta", "b"}


def test_a_population_that_mixes_its_members_is_caught(monkeypatch):
    spoil(monkeypatch, "linear_backward", "gw",
          lambda array: array.__setitem__(..., np.roll(array, 1, axis=0)) if len(array) == 3 else None)
    check = check_gradients(SMALL)
    assert max(t.relative_errors.max() for t in check.tensors) < GRADIENT       # alone it is right
    assert check.population_error > GRADIENT
    assert not check.passed()


# ------------------------------------------------------------------------------------------------ finite differences

def slopes_of(functions, h=0.0625, eps=1e-6):
    """Derivatives at 0 of functions of one number; one that returns NaN lies across a kink."""
    def difference(which, step):
        return np.array([(functions[k](step) - functions[k](-step)) / (2 * step) for k in which])
    return extrapolated_slopes(difference, len(functions), h, eps, np.finfo(float).eps)


@pytest.mark.parametrize(("function", "slope"), [
    (np.exp, 1.0), (lambda t: np.sin(30 * t), 30.0), (lambda t: 2 + 1e-7 * t, 1e-7), (lambda t: t**5, 0.0),
    (lambda t: np.tanh(200 * t), 200.0), (lambda t: 1 / (1 - t), 1.0), (lambda t: 3.0, 0.0),
])
def test_slopes_are_told_to_ten_digits(function, slope):
    assert slopes_of([function])[0] == pytest.approx(slope, rel=1e-10, abs=1e-13)


def test_slopes_of_many_functions_do_not_mix():
    functions = [np.exp, lambda t: np.sin(30 * t), lambda t: np.tanh(200 * t), np.cos]
    assert slopes_of(functions) == pytest.approx([1.0, 30.0, 200.0, 0.0], rel=1e-10, abs=1e-13)


@pytest.mark.parametrize("distance", [1e-1, 1e-2, 1e-3, 1e-4])
def test_a_kink_at_a_distance_is_stepped_round(distance):
    def function(t):                                # smooth up to the kink, unusable beyond
        return np.exp(t) if abs(t) < distance else np.nan
    assert slopes_of([function])[0] == pytest.approx(1.0, rel=1e-8)


def test_what_lies_on_a_kink_is_given_up():
    slopes = slopes_of([lambda t: np.exp(t) if abs(t) < 1e-7 else np.nan, np.exp])
    assert np.isnan(slopes[0])
    assert slopes[1] == pytest.approx(1.0)


def test_what_rounding_hides_beside_a_kink_is_given_up_but_not_without_a_kink():
    def flat(which, step):                          # a slope of zero, of which rounding leaves 1e-9 / step unsure
        return np.where((which == 0) & (step > 1e-4), np.nan, 0.0)
    slopes = extrapolated_slopes(flat, 2, 0.0625, 1e-6, 1e-9)
    assert np.isnan(slopes[0])
    assert slopes[1] == 0.0


def slopes_and_gradients(cpu, spec, x, labels, parameters):
    network = Network(spec, cpu, dtype="float64")
    for name, value in parameters.items():
        network.views()[name][0] = value
    batch = x, np.eye(spec.n_classes)[labels], np.full(len(x), 1 / len(x))
    slopes = Cost(network, {}, *batch).slopes(0.0625, 1e-6)
    network.loss_and_gradient(*batch, np.empty(1))
    return slopes, {name: view.ravel() for name, view in network.layout.member_views(network.gradients).items()}


@pytest.mark.parametrize("activation", ["relu", "leaky-relu"])
@pytest.mark.parametrize("distance", [1e-2, 1e-4, 1e-9])
def test_units_beside_their_kink_are_told_with_smaller_steps_and_units_on_it_given_up(cpu, activation, distance):
    w = np.array([0.6, -0.8])                           # of the one hidden unit
    x = np.random.default_rng(1).normal(size=(12, 2))
    x[0] = distance * w + [0.8, 0.6]                    # so that the first example's pre-activation is `distance`
    spec = NetworkSpec(2, (1,), 2, False, activation)
    slopes, gradients = slopes_and_gradients(cpu, spec, x, np.arange(12) % 2,
                                             {"w0": w[:, None], "w1": [[1.0, -0.5]], "b1": [0.1, 0.2]})
    for name, gradient in gradients.items():
        if distance == 1e-9 and name in ("w0", "b0"):   # all of them move that pre-activation
            assert np.isnan(slopes[name]).all(), name
        else:
            assert slopes[name] == pytest.approx(gradient, rel=GRADIENT, abs=1e-12), name


@pytest.mark.parametrize("distance", [1e-3, 1e-9])
def test_margins_of_the_hinge_are_kinks_too(cpu, distance):
    x = np.random.default_rng(1).normal(size=(4, 2))
    spec = NetworkSpec(2, (), 3, loss="hinge")
    # logits of zero weights are the biases: class 0 is right, class 1 has the margin `distance`, class 2 none
    slopes, gradients = slopes_and_gradients(cpu, spec, x, np.zeros(4, int), {"b0": [1.0, distance, -3.0]})
    assert np.isnan(slopes["b0"]).tolist() == [distance == 1e-9, distance == 1e-9, False]
    assert slopes["b0"][2] == 0.0
    if distance == 1e-3:
        assert slopes["b0"] == pytest.approx(gradients["b0"], rel=1e-9)
        assert gradients["b0"].tolist() == [-1.0, 1.0, 0.0]


# ------------------------------------------------------------------------------------------------ verdicts

def tensor(n, skipped=0, error=0.0):
    numeric = np.ones(n)
    numeric[:skipped] = np.nan
    return TensorCheck(1, "w0", np.full(n, 1.0 + 2.0 * error), numeric, 1e-6)


def test_errors_are_relative_to_the_sum_of_both_or_to_eps():
    t = TensorCheck(1, "b0", np.array([3.0, 2e-7, 0.0, 5.0]), np.array([1.0, 1e-7, 0.0, np.nan]), 1e-6)
    assert t.relative_errors == pytest.approx([0.5, 0.1, 0.0])
    assert t.absolute_differences == pytest.approx([2.0, 1e-7, 0.0])
    assert t.skipped == 1


@pytest.mark.parametrize(("tensors", "population_error", "passes"), [
    ([tensor(100)], 0.0, True),
    ([tensor(100, error=0.9e-6)], 0.0, True),
    ([tensor(100, error=1.1e-6)], 0.0, False),
    ([tensor(100)], 1.1e-6, False),
    ([tensor(100, skipped=1)], 0.0, True),
    ([tensor(100, skipped=2)], 0.0, False),
    ([tensor(1000), tensor(2, skipped=2)], 0.0, False),
])
def test_a_check_passes_below_the_bar_with_next_to_nothing_skipped(tensors, population_error, passes):
    check = GradientCheck(SMALL, 20, 0.0, tuple(tensors), population_error)
    assert check.passed() == passes
    assert verdict(check).startswith("passed" if passes else "FAILED")


def test_the_bar_can_be_set():
    check = GradientCheck(SMALL, 20, 0.0, (tensor(100, error=1e-8),), 0.0)
    assert check.passed(1e-7)
    assert not check.passed(1e-9)


def test_a_point_on_kinks_by_ill_luck_is_drawn_again(monkeypatch):
    slopes, calls = Cost.slopes, []

    def unlucky_once(self, *arguments):
        calls.append(self.base["b2"].copy())
        return {name: value * (np.nan if len(calls) == 1 else 1.0) for name, value in slopes(self, *arguments).items()}

    monkeypatch.setattr(Cost, "slopes", unlucky_once)
    assert_right(check_gradients(SMALL))
    assert len(calls) == 2
    assert not np.array_equal(*calls)


# ------------------------------------------------------------------------------------------------ refusals

@pytest.mark.parametrize(("options", "error", "words"), [
    ({"x": np.zeros((5, 4))}, DataError, r"\(5, 4\).*\(n, 6\)"),
    ({"x": np.zeros(6)}, DataError, "shape"),
    ({"x": np.zeros((5, 6)), "labels": [0, 1, 2]}, DataError, "5 whole numbers"),
    ({"labels": np.full(20, 3)}, DataError, "0 to 2"),
    ({"labels": np.full(20, -1)}, DataError, "0 to 2"),
    ({"labels": np.full(20, 0.5)}, DataError, "whole numbers"),
    ({"sample_weight": np.zeros(20)}, DataError, "above 0"),
    ({"sample_weight": np.ones(3)}, DataError, "20 numbers"),
    ({"n": 1}, ConfigError, "batch norm needs at least 2"),
    ({"n": 0}, ConfigError, "too few"),
    ({"dropout": 1.0}, ConfigError, "dropout = 1.0 must be"),
])
def test_what_does_not_fit_is_refused(options, error, words):
    with pytest.raises(error, match=words):
        check_gradients(SMALL, **options)


def test_one_example_is_enough_without_batch_norm():
    assert_right(check_gradients(NetworkSpec(6, (5,), 3, batch_norm=False), n=1))


# ------------------------------------------------------------------------------------------------ the report

def test_the_table_has_a_line_a_tensor():
    check = check_gradients(SMALL, l2=0.1)
    lines = table(check).splitlines()
    assert lines[0].startswith("6-5-4-3, relu, batch norm, cross-entropy, l2 0.1, 20 examples: passed")
    assert [line.split()[:2] for line in lines[2:]] == [[str(t.layer), t.name] for t in check.tensors]
    assert [line.split()[0] for line in lines[2:]] == ["1", "1", "1", "2", "2", "2", "3", "3"]


def test_the_report_has_numbers_tables_and_pictures(tmp_path):
    checks = [run_gradcheck(hidden=(5, 4), batch_norm=True, l2=l2, dim=6, classes=3, n=10, activation="tanh",
                            loss="hinge", init="xavier", seed=3) for l2 in (0.0, 0.1)]
    assert all(check.passed() for check in checks)
    write_report(checks, tmp_path / "new" / "folder")
    folder = tmp_path / "new" / "folder"
    assert {path.name for path in folder.iterdir()} == {"gradcheck.csv", "gradcheck.md", "gradient-errors-1.png",
                                                        "gradient-errors-2.png"}
    with (folder / "gradcheck.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 16
    assert float(rows[0]["max_relative_error"]) == checks[0].tensors[0].relative_errors.max()
    assert [(row["layer"], row["tensor"]) for row in rows[:8]] == [(str(t.layer), t.name) for t in checks[0].tensors]
    text = (folder / "gradcheck.md").read_text()
    assert text.count("| layer | W | b | gamma | beta |") == 2
    worst = {t.name: f"{t.relative_errors.max():.1e}" for t in checks[0].tensors}
    assert f"| 1 | {worst['w0']} |  | {worst['gamma0']} | {worst['beta0']} |" in text
    assert f"| 3 | {worst['w2']} | {worst['b2']} |  |  |" in text


def test_run_gradcheck_checks_the_network_that_its_options_describe():
    check = run_gradcheck(hidden=(7,), dropout=0.3, label_smoothing=0.1, dim=4, classes=3, n=9)
    assert (check.dropout, check.label_smoothing) == (0.3, 0.1)
    check = run_gradcheck(hidden=(7,), batch_norm=False, activation="gelu", loss="hinge", l2=0.2, dim=4, classes=3, n=9)
    assert check.spec == NetworkSpec(4, (7,), 3, False, "gelu", "hinge")
    assert (check.n, check.l2) == (9, 0.2)


def test_a_failed_check_can_be_reported(tmp_path):
    bad = TensorCheck(1, "w0", np.array([np.nan, 1.0]), np.array([1.0, 1.0]), 1e-6)
    lost = TensorCheck(1, "b0", np.ones(2), np.full(2, np.nan), 1e-6)
    check = GradientCheck(NetworkSpec(1, (), 2), 20, 0.0, (bad, lost), 0.0)
    write_report([check], tmp_path)
    assert "FAILED" in table(check)
    assert "FAILED, worst relative error inf (bar 1e-06), 2 of 4 skipped at kinks" in (
        tmp_path / "gradcheck.md").read_text()
