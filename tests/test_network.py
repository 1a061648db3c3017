"""One step of a network worked out by hand, and what a population of networks promises."""

import math

import numpy as np
import pytest
from tolerances import assert_close

from fastmlp.errors import ConfigError
from fastmlp.layout import NetworkSpec
from fastmlp.network import BATCH_NORM_EPS, Network
from fastmlp.optimizers import SGD

CLOSE = 1e-14


def fill(network, **values):
    for name, value in values.items():
        network.views()[name][0] = value


def test_a_step_without_batch_norm_by_hand(cpu):
    network = Network(NetworkSpec(2, (2,), 2, batch_norm=False), cpu, dtype="float64", l2=0.25)
    ln3 = math.log(3.0)
    fill(network, w0=[[1, -1], [0, 1]], b0=[0, -2], w1=[[ln3, 0], [5, 7]], b1=[0, 0])
    loss = np.empty(1)
    network.loss_and_gradient(np.array([[1.0, 2.0]]), np.array([[1.0, 0.0]]), np.ones(1), loss)
    # s = [1*1 + 2*0 + 0, 1*(-1) + 2*1 - 2] = [1, -1]; ReLU: [1, 0]; logits = [ln 3, 0]; softmax = [3/4, 1/4]
    # loss = -ln(3/4); glogits = [3/4 - 1, 1/4]
    assert_close(loss, [math.log(4 / 3)], CLOSE)
    gradients = network.layout.member_views(network.gradients)
    # gw1 = [1, 0]^T [-1/4, 1/4]; gy = glogits w1^T = [-ln3/4, -5/4 + 7/4 = 1/2]; ReLU stops the second
    # gw0 = [1, 2]^T [-ln3/4, 0]
    assert_close(gradients["w1"][0], [[-0.25, 0.25], [0, 0]], CLOSE)
    assert_close(gradients["b1"][0], [-0.25, 0.25], CLOSE)
    assert_close(gradients["w0"][0], [[-ln3 / 4, 0], [-ln3 / 2, 0]], CLOSE)
    assert_close(gradients["b0"][0], [-ln3 / 4, 0], CLOSE)
    # penalty = 0.25 * (1 + 1 + 0 + 1 + ln3^2 + 25 + 49); its gradient is 0.5 w, for weights only
    assert_close(network.penalty(), [0.25 * (77 + ln3**2)], CLOSE)
    SGD().update(network, np.array([0.4]), np.empty(0))
    views = network.views()
    assert_close(views["w1"][0], [[ln3 - 0.4 * (-0.25 + 0.5 * ln3), -0.1], [5 - 0.4 * 2.5, 7 - 0.4 * 3.5]], CLOSE)
    assert_close(views["b1"][0], [0.1, -0.1], CLOSE)
    assert_close(views["w0"][0], [[1 - 0.4 * (-ln3 / 4 + 0.5), -1 + 0.4 * 0.5], [0.4 * ln3 / 2, 1 - 0.4 * 0.5]], CLOSE)
    assert_close(views["b0"][0], [0.1 * ln3, -2], CLOSE)


def test_a_step_with_batch_norm_by_hand(cpu):
    network = Network(NetworkSpec(1, (1,), 2, batch_norm=True), cpu, dtype="float64")
    fill(network, w0=[[2]], gamma0=[3], beta0=[1], w1=[[1, 0]], b1=[0, 0])
    loss = np.empty(1)
    network.loss_and_gradient(np.array([[0.0], [1.0]]), np.eye(2), np.full(2, 0.5), loss)
    # s = [0, 2]: mean 1, variance 1; x_hat = [-r, r], r = 1 / sqrt(1 + eps); ReLU(3 x_hat + 1) = [0, 1 + 3r]
    r = 1 / math.sqrt(1 + BATCH_NORM_EPS)
    assert_close(network.statistics, [1, 1], CLOSE)
    # logits = [0, 0] and [1 + 3r, 0], classes 0 and 1; q = softmax of the second example's first logit
    q = 1 / (1 + math.exp(-(1 + 3 * r)))
    assert_close(loss, [0.5 * math.log(2) - 0.5 * math.log(1 - q)], CLOSE)
    # glogits = [-1/4, 1/4] and [q/2, -q/2]; gy = their first columns, of which ReLU stops the first: g = [0, q/2]
    gradients = network.layout.member_views(network.gradients)
    assert_close(gradients["beta0"][0], [q / 2], CLOSE)
    assert_close(gradients["gamma0"][0], [q / 2 * r], CLOSE)
    # gs of example 2 = 3 r (g - mean g - x_hat mean(g x_hat)) = 3 r (q/2 - q/4 - r * (r q/4)); gw0 = 0 * . + 1 * gs
    assert_close(gradients["w0"][0], [[3 * r * (q / 4) * (1 - r * r)]], CLOSE)
    network.update_running(0.9)
    assert_close(network.running, [1, 1], CLOSE)        # the first batch's statistics as they are
    network.statistics[...] = [2, 3]
    network.update_running(0.9)
    assert_close(network.running, [1.1, 1.2], CLOSE)    # 0.9 old + 0.1 new


@pytest.mark.parametrize(("hidden", "batch_norm"), [((), False), ((3,), True), ((3,), False)])
def test_where_all_weights_are_zero_the_logits_are_the_biases(cpu, hidden, batch_norm):
    network = Network(NetworkSpec(4, hidden, 2, batch_norm), cpu, members=2)
    network.views()[f"b{len(hidden)}"][...] = [[1.0, -2.0], [3.0, 0.5]]
    top = network.forward(np.ones((5, 4), np.float32), np.full(5, 0.2, np.float32))[-1]
    assert network.by_member(top.y).tolist() == [[[1.0, -2.0]] * 5, [[3.0, 0.5]] * 5]


@pytest.mark.parametrize(("loss", "expected"), [("cross-entropy", math.log(2)), ("hinge", 1.0)])
def test_the_loss_of_equal_logits_is_that_of_chance_and_there_is_no_penalty_unless_asked_for(cpu, loss, expected):
    network, value = Network(NetworkSpec(3, (), 2, loss=loss), cpu), np.empty(1, np.float32)
    network.views()["w0"][...] = 1.0
    targets = np.array([[0, 1], [1, 0]], np.float32)
    network.loss_and_gradient(np.ones((2, 3), np.float32), targets, np.full(2, 0.5, np.float32), value)
    assert_close(value, [expected], 1e-7)
    assert network.penalty().tolist() == [0.0]


@pytest.mark.parametrize("loss", ["cross-entropy", "hinge"])
@pytest.mark.parametrize(("hidden", "batch_norm"), [((), False), ((5,), True), ((6, 4, 5), True), ((6, 4, 5), False)])
def test_gradients_of_a_population_are_those_of_its_members(cpu, hidden, batch_norm, loss):
    rng = np.random.default_rng(0)
    x, targets, weights = rng.normal(size=(9, 4)), np.eye(3)[rng.integers(3, size=9)], np.full(9, 1 / 9)
    spec = NetworkSpec(4, hidden, 3, batch_norm, "relu", loss)
    population = Network(spec, cpu, members=4, dtype="float64", l2=[0.0, 0.1, 1.0, 0.01])
    population.parameters[...] = rng.normal(size=population.layout.size)
    losses = np.empty(4)
    population.loss_and_gradient(x, targets, weights, losses)
    together = population.layout.member_views(population.gradients)
    for k in range(4):
        single = Network(spec, cpu, dtype="float64", l2=population.l2[k])
        for name, view in single.views().items():
            view[0] = population.views()[name][k]
        loss_alone = np.empty(1)
        single.loss_and_gradient(x, targets, weights, loss_alone)
        assert_close(losses[k:k + 1], loss_alone, 1e-13)
        assert_close(population.penalty()[k:k + 1], single.penalty(), 1e-13)
        for name, view in single.layout.member_views(single.gradients).items():
            assert_close(together[name][k], view[0], 1e-13, name)


def test_forward_and_backward_change_neither_parameters_nor_running_statistics_nor_inputs(make_trainer):
    trainer = make_trainer()
    network, examples = trainer.network, trainer.examples
    trainer.run_epoch()
    batch = examples.new_batch(10)
    examples.read(np.arange(10), batch)
    x, targets = batch.x, batch.targets
    before = [array.copy() for array in (network.parameters, network.running, x, targets)]
    network.gradients[...] = np.nan                     # written, not added to
    network.loss_and_gradient(x, targets, np.full(10, 0.1), np.empty(1))
    assert np.isfinite(network.gradients).all()
    first = network.gradients.copy()
    network.forward(x, np.full(len(x), 1 / len(x), x.dtype))
    for array, old in zip((network.parameters, network.running, x, targets), before, strict=True):
        assert np.array_equal(array, old)
    network.loss_and_gradient(x, targets, np.full(10, 0.1), np.empty(1))
    assert np.array_equal(network.gradients, first)


def test_batches_of_different_sizes_do_not_disturb_each_other(make_trainer):
    network = make_trainer().network
    rng = np.random.default_rng(0)
    x, targets = rng.normal(size=(8, 7)), np.eye(4)[rng.integers(4, size=8)]
    losses, lone = np.empty(1), np.empty(1)
    network.loss_and_gradient(x, targets, np.full(8, 1 / 8), losses)
    expected = network.gradients.copy()
    network.loss_and_gradient(x[:3], targets[:3], np.full(3, 1 / 3), lone)
    assert not np.array_equal(network.gradients, expected)
    network.loss_and_gradient(x, targets, np.full(8, 1 / 8), lone)
    assert np.array_equal(network.gradients, expected)
    assert lone == losses


def test_initialize_sets_gamma_to_one_the_rest_to_zero_and_forgets_the_running_statistics(make_trainer):
    trainer = make_trainer(members=2)
    trainer.run_epoch()
    network = trainer.network
    assert network.has_running
    network.initialize([5, 6], ["he", "normal"], [0.01, 1e-3])
    for name, view in network.views().items():
        if not name.startswith("w"):
            assert np.all(view == (1.0 if name.startswith("gamma") else 0.0)), name
    assert not network.has_running
    assert network.views()["w0"][0].std() > 50 * network.views()["w0"][1].std()


def test_the_gradient_of_the_input_is_never_computed(make_trainer):
    for hidden in ((), (6, 5)):
        trainer = make_trainer(hidden, batch_norm=bool(hidden))
        trainer.run_epoch(1)
        activities = trainer.network.reserve(20)
        assert [a.gx is None for a in activities] == [True] + [False] * len(hidden)


@pytest.mark.parametrize(("hidden", "batch_norm"), [((), False), ((6, 5), True), ((6,), False)])
def test_a_member_can_be_taken_out_of_its_population(make_trainer, hidden, batch_norm):
    from fastmlp.evaluation import evaluate, predict_logits

    trainer = make_trainer(hidden, batch_norm=batch_norm, members=4, l2=[0.1, 0.2, 0.3, 0.4])
    trainer.run_epoch()
    population, examples = trainer.network, trainer.examples
    for k in range(4):
        alone = population.member(k)
        assert_close(predict_logits(alone, examples)[0], predict_logits(population, examples)[k], 1e-12)
        assert_close(evaluate(alone, examples).cost[0], evaluate(population, examples).cost[k], 1e-12)
        alone.parameters[...] = 0.0                     # a copy
    assert population.parameters.any()


@pytest.mark.parametrize("details", [{"dtype": "int32"}, {"dtype": "float16"}, {"l2": -1.0}, {"l2": np.nan}])
def test_networks_that_cannot_be_are_refused(cpu, details):
    with pytest.raises(ConfigError):
        Network(NetworkSpec(2, (3,), 2), cpu, **details)


def test_buffers_of_many_batch_sizes_are_not_kept(make_trainer):
    trainer = make_trainer()
    for n in range(2, 15):
        batch = trainer.examples.new_batch(n)
        trainer.network.loss_and_gradient(batch.x, batch.targets, batch.weights, np.empty(1))
    assert len(trainer.network._activities) <= 2


def test_the_standard_deviation_of_normal_weights_can_be_a_whole_number(cpu):
    network = Network(NetworkSpec(50, (40,), 2), cpu)
    network.initialize([0], "normal", 2)
    assert network.views()["w0"].std() == pytest.approx(2.0, rel=0.1)


def test_normal_weights_have_a_standard_deviation_of_a_hundredth_where_none_is_given(cpu):
    network = Network(NetworkSpec(50, (40,), 2), cpu)
    network.initialize([0], "normal")
    assert network.views()["w0"].std() == pytest.approx(0.01, rel=0.1)
