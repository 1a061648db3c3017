"""The training loop: that it learns, repeats itself, keeps members apart, stops well, and never leaves the device."""

import itertools

import numpy as np
import pytest
from recipes import OPTIMIZERS
from tolerances import MEMBER, assert_close

from fastmlp import schedules
from fastmlp.backend import Backend
from fastmlp.checks import check_batches
from fastmlp.errors import ConfigError, DivergenceError
from fastmlp.history import History
from fastmlp.optimizers import SGD, Adam
from fastmlp.training import train

# ------------------------------------------------------------------------------------------------ what is learned

GOLDEN = {
    True: [1.7691329545826637, 1.920205214357791, 1.8376186429351697, 1.62235250703728, 1.275005875290323,
           1.4227244710893683, 1.498761046446955, 1.4730152135190449, 1.2220067401421695, 1.3405110510593952],
    False: [1.9328897381348897, 2.3857753290742596, 1.5962749170947614, 1.4371994093408351, 1.4480761854971433,
            1.491858841194559, 1.3703613485116803, 1.5134698095445038, 1.4008478596309157, 1.2278066124652935],
}


@pytest.mark.parametrize("batch_norm", [True, False])
def test_ten_steps_have_the_losses_they_have_always_had(make_trainer, batch_norm):
    trainer = make_trainer(batch_norm=batch_norm, l2=0.01, batch_size=12, schedule=lambda step: schedules.cyclical(
        step, lr_min=0.01, lr_max=0.5, step_size=5))
    losses = np.concatenate([trainer.run_epoch().losses[:, 0] for _ in range(2)])
    assert_close(losses, GOLDEN[batch_norm], 1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_a_hundred_examples_are_learned_by_heart(make_trainer, make_examples, batch_norm, dtype):
    trainer = make_trainer((50,), batch_norm=batch_norm, dtype=dtype, examples=make_examples(n=100, d=20, dtype=dtype),
                           batch_size=20, schedule=lambda step: schedules.constant(step, lr=0.3))
    history = train(trainer, 200 * 5, parts={"train": trainer.examples}, evaluate_every=100)
    assert history.rows[-1]["train_loss"] < 0.01
    assert history.rows[-1]["train_accuracy"] == 1.0
    assert history.rows[0]["train_loss"] > 1.0


def run(make_trainer, epochs=3, **options):
    trainer = make_trainer(**options)
    losses = np.concatenate([trainer.run_epoch().losses for _ in range(epochs)])
    return losses, trainer.network.parameters, trainer.network.running


@pytest.mark.parametrize("optimizer", [SGD, Adam])
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(make_trainer, optimizer):
    first, again = (run(make_trainer, dtype="float32", optimizer=optimizer(), seed=4) for _ in range(2))
    for one, two in zip(first, again, strict=True):
        assert np.array_equal(one, two)
    other = run(make_trainer, dtype="float32", optimizer=optimizer(), seed=5)
    assert not np.array_equal(first[1], other[1])


def test_without_shuffling_every_epoch_has_the_same_batches(make_trainer):
    trainer = make_trainer(shuffle=False, schedule=lambda step: schedules.constant(step, lr=0.0))
    assert np.array_equal(trainer.run_epoch().losses, trainer.run_epoch().losses)
    trainer = make_trainer(schedule=lambda step: schedules.constant(step, lr=0.0))
    assert not np.array_equal(trainer.run_epoch().losses, trainer.run_epoch().losses)


def test_every_example_is_seen_once_an_epoch_in_a_smaller_last_batch_too(make_trainer, make_examples):
    # rate 0 and no batch norm: the losses weighted by batch size are the mean loss of the whole set
    examples = make_examples(n=53)
    trainer = make_trainer(batch_norm=False, examples=examples, schedule=lambda step: schedules.constant(step, lr=0.0))
    report = trainer.run_epoch()
    assert report.losses.shape == (3, 1)
    assert report.n_examples == 53
    assert report.complete
    row = train(trainer, 6, parts={"train": examples}).rows[-1]
    assert_close(np.array([20, 20, 13]) @ report.losses[:, 0] / 53, row["train_loss"], 1e-13)


# ------------------------------------------------------------------------------------------------ populations

MEMBERS = {
    "seeds": [3, 1, 4, 1, 5, 9, 2, 6],
    "l2": np.array([0.0, 0.1, 0.01, 0.01, 1e-3, 1e-4, 0.0, 0.05]),
    "init": ["he", "xavier", "normal", "he", "he", "xavier", "he", "he"],
    "lr_min": np.array([1e-5, 1e-3, 1e-2, 1e-5, 1e-4, 0.0, 0.05, 1e-5]),
    "lr_max": np.array([0.1, 0.2, 0.3, 0.05, 0.2, 0.1, 0.06, 0.4]),
}


@pytest.mark.parametrize("optimizer", [lambda: SGD(), lambda: SGD(momentum=0.9, nesterov=True), lambda: Adam()],
                         ids=["sgd", "nesterov", "adam"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("hidden", "batch_norm"), [((), False), ((9, 8), True), ((9, 8), False)],
                         ids=["softmax", "batch-norm", "plain"])
def test_a_member_of_eight_is_trained_as_if_alone(make_trainer, hidden, batch_norm, dtype, optimizer):
    scale = 0.05 if optimizer().__class__ is Adam else 1.0

    def trained(which):
        def schedule(step):
            return scale * schedules.cyclical(step, lr_min=MEMBERS["lr_min"][which], lr_max=MEMBERS["lr_max"][which],
                                              step_size=6)
        trainer = make_trainer(hidden, batch_norm=batch_norm, members=len(which), dtype=dtype,
                               l2=MEMBERS["l2"][which], seeds=[MEMBERS["seeds"][k] for k in which],
                               init=[MEMBERS["init"][k] for k in which], optimizer=optimizer(), schedule=schedule,
                               batch_size=14)
        history = train(trainer, 25, parts={"val": trainer.examples})
        return trainer.network, history.rows[-1]

    population, row = trained(list(range(8)))
    for k in range(8):
        alone, row_alone = trained([k])
        for name, view in alone.views().items():
            assert_close(population.views()[name][k], view[0], MEMBER[dtype], f"member {k}, {name}")
        for name in ("val_loss", "val_cost", "val_accuracy"):
            assert_close(row[name][k], row_alone[name], MEMBER[dtype], f"member {k}, {name}")
        assert row["lr"][k] == row_alone["lr"]


# ------------------------------------------------------------------------------------------------ stopping

def test_divergence_names_step_and_rate_and_restores_the_last_good_epoch(make_trainer):
    def schedule(step):             # step 13 (from 0) throws the weights out of range; the next step's loss shows it
        return np.where(np.asarray(step) == 13, 1e30, 0.01 + 0.001 * np.asarray(step))

    trainer = make_trainer(dtype="float32", batch_norm=False, optimizer=SGD(momentum=0.9), schedule=schedule,
                           batch_size=5)                            # 12 steps an epoch
    trainer.run_epoch()
    good = trainer.network.parameters.copy(), trainer.optimizer.state["velocity"].copy()
    with pytest.raises(DivergenceError, match=r"step 15, learning rate 0\.024") as caught:
        trainer.run_epoch()
    assert caught.value.step == 15
    assert caught.value.lr == pytest.approx(0.024)
    assert np.array_equal(trainer.network.parameters, good[0])
    assert np.array_equal(trainer.optimizer.state["velocity"], good[1])
    assert trainer.step == 12


def test_the_history_outlives_a_divergence(make_trainer):
    trainer = make_trainer(dtype="float32", batch_norm=False, batch_size=20, schedule=lambda step: np.where(
        np.asarray(step) < 6, 0.01, 1e30) + 0.0)
    history = History()
    with pytest.raises(DivergenceError):
        train(trainer, 30, parts={"train": trainer.examples}, history=history)
    assert [row["step"] for row in history.rows] == [0, 3, 6]
    assert np.isfinite(trainer.network.parameters).all()


def test_a_divergence_that_only_the_evaluation_sees_is_found(make_trainer):
    trainer = make_trainer(dtype="float32", batch_norm=False, batch_size=60, schedule=lambda step: np.full(
        np.shape(step), 1e30))
    before = trainer.network.parameters.copy()
    with pytest.raises(DivergenceError, match="evaluated cost"):        # one step: its loss is from before the update
        train(trainer, 1, parts={"train": trainer.examples})
    assert np.array_equal(trainer.network.parameters, before)


def diverging(make_trainer, rate, **options):
    """Three members that train for four epochs of 12 steps; from step 13 (from 0) on member 1 has this rate."""
    def schedule(step):
        return np.where((np.asarray(step) >= 13) & (np.arange(3) == 1), rate, 0.01) + 0.0 * np.asarray(step)

    trainer = make_trainer(**{"dtype": "float32", "batch_size": 5, "members": 3, "l2": 0.01, "schedule": schedule,
                              **options})
    history = train(trainer, 48, parts={"train": trainer.examples})
    return trainer, history


def of_member(trainer, k):
    """All that belongs to member k, as bytes."""
    network = trainer.network
    arrays = [array[k] for buffer in (network.parameters, *trainer.optimizer.state.values())
              for array in network.layout.member_views(buffer).values()]
    arrays += [array.reshape(3, -1)[k] for pair in network.moments(network.running) for array in pair]
    return [array.tobytes() for array in arrays]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("batch_norm", [True, False])
def test_a_diverging_member_is_frozen_and_the_others_have_the_same_bits_as_without_it(make_trainer, optimizer,
                                                                                       batch_norm):
    bad, with_bad = diverging(make_trainer, 1e30, optimizer=OPTIMIZERS[optimizer](), batch_norm=batch_norm)
    good, without = diverging(make_trainer, 0.01, optimizer=OPTIMIZERS[optimizer](), batch_norm=batch_norm)
    assert [divergence is None for divergence in bad.frozen] == [True, False, True]
    assert bad.frozen[1].step in range(14, 26)
    assert good.frozen == [None] * 3
    for k in (0, 2):
        assert of_member(bad, k) == of_member(good, k)
        for row, expected in zip(with_bad.rows, without.rows, strict=True):
            assert all(row[name][k] == expected[name][k] for name in ("lr", "train_loss", "train_cost"))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_frozen_member_stays_what_it_was_after_its_last_good_epoch(make_trainer, optimizer):
    healthy, _ = diverging(make_trainer, 0.01, optimizer=OPTIMIZERS[optimizer]())
    stopped = make_trainer(dtype="float32", batch_size=5, members=3, l2=0.01, optimizer=OPTIMIZERS[optimizer](),
                           schedule=lambda step: schedules.constant(step, lr=0.01))
    stopped.run_epoch()
    bad, history = diverging(make_trainer, 1e30, optimizer=OPTIMIZERS[optimizer]())
    assert of_member(bad, 1) == of_member(stopped, 1) != of_member(healthy, 1)
    losses = [row["train_loss"][1] for row in history.rows]
    assert losses[2:] == [losses[1]] * 3
    assert [row["frozen"].tolist() for row in history.rows[1:3]] == [[False] * 3, [False, True, False]]
    assert [row["lr"][1] for row in history.rows[2:]] == [0.0] * 3


def test_a_member_that_diverges_in_the_first_epoch_is_judged_as_it_began(make_trainer):
    trainer = make_trainer(members=2, schedule=lambda step: schedules.constant(step, lr=np.array([0.1, 1e300])))
    rows = train(trainer, 6, parts={"train": trainer.examples}).rows
    assert trainer.frozen[1].step == 2
    assert_close([row["train_loss"][1] for row in rows[1:]], [rows[0]["train_loss"][1]] * 2, 1e-12)


def test_an_evaluation_freezes_a_member_and_measures_again(make_trainer):
    trainer = make_trainer(dtype="float32", batch_norm=False, batch_size=60, members=2,
                           schedule=lambda step: schedules.constant(step, lr=np.array([0.1, 1e30])))
    rows = train(trainer, 1, parts={"train": trainer.examples, "val": trainer.examples}).rows
    assert trainer.frozen[1].what.startswith("the evaluated cost")
    assert rows[1]["train_cost"][1] == rows[1]["val_cost"][1] == rows[0]["train_cost"][1]
    assert rows[1]["train_cost"][0] != rows[0]["train_cost"][0]


def test_when_the_last_member_diverges_so_does_the_training(make_trainer):
    trainer = make_trainer(dtype="float32", batch_norm=False, members=3, batch_size=5, schedule=lambda step: np.where(
        np.asarray(step) < 12 * np.arange(3), 0.01, 1e30))          # one member an epoch
    history = History()
    with pytest.raises(DivergenceError, match="in member 2, the last of 3 that had not diverged"):
        train(trainer, 60, parts={"train": trainer.examples}, history=history)
    assert [row["frozen"].sum() for row in history.rows] == [0, 1, 2]
    assert np.isfinite(trainer.network.parameters).all()


class Interrupting(SGD):
    """Gradient descent with momentum that is interrupted amid its n-th update."""

    def __init__(self, at):
        super().__init__(momentum=0.9)
        self.at, self.updates = at, itertools.count(1)

    def update(self, network, lr, constants):
        super().update(network, lr, constants)
        if next(self.updates) == self.at:
            network.parameters[:5] = np.nan
            self.state["velocity"][:5] = np.nan
            raise KeyboardInterrupt


def test_an_interrupt_amid_an_update_leaves_the_state_of_the_last_whole_epoch(make_trainer):
    trainer = make_trainer(optimizer=Interrupting(at=5))                # 3 steps an epoch: in the second epoch
    trainer.run_epoch()
    network = trainer.network
    good = [array.copy() for array in (network.parameters, network.running, trainer.optimizer.state["velocity"])]
    with pytest.raises(KeyboardInterrupt):
        trainer.run_epoch()
    for now, then in zip((network.parameters, network.running, trainer.optimizer.state["velocity"]), good, strict=True):
        assert np.array_equal(now, then)
    assert (trainer.step, trainer.epoch) == (3, 1)
    trainer.run_epoch()                                                 # and training can go on
    assert trainer.step == 6


def test_an_interrupt_in_the_first_epoch_leaves_no_running_statistics(make_trainer):
    trainer = make_trainer(optimizer=Interrupting(at=2))
    with pytest.raises(KeyboardInterrupt):
        trainer.run_epoch()
    assert not trainer.network.has_running


def test_should_stop_ends_training_before_the_next_step(make_trainer):
    trainer = make_trainer(batch_size=6, record=False)                  # 10 steps an epoch
    asked = itertools.count(1)
    history = train(trainer, 100, parts={"val": trainer.examples}, should_stop=lambda: next(asked) > 14)
    assert trainer.step == 14
    assert history.rows[-1]["step"] == 14
    assert "val_loss" not in history.rows[-1]       # who stops a training does not want to wait
    assert history.epoch_is_whole == [True, False]
    assert history.epoch_examples == [60, 24]


def test_should_stop_before_the_first_step_leaves_the_network_as_it_was(make_trainer):
    trainer = make_trainer()
    before = trainer.network.parameters.copy()
    train(trainer, 100, parts={"val": trainer.examples}, should_stop=lambda: True)
    assert np.array_equal(trainer.network.parameters, before)
    assert trainer.step == 0


# ------------------------------------------------------------------------------------------------ epochs and history

def test_a_training_that_ends_amid_an_epoch_makes_exactly_its_steps_and_evaluates_at_the_end(make_trainer):
    trainer = make_trainer(batch_size=20)                               # 3 steps an epoch
    history = train(trainer, 14, parts={"train": trainer.examples}, evaluate_every=2)
    assert trainer.step == 14
    assert [row["step"] for row in history.rows] == [0, 3, 6, 9, 12, 14]
    assert ["train_loss" in row for row in history.rows] == [True, False, True, False, True, True]
    assert history.epoch_is_whole == [True] * 4 + [False]
    assert history.epoch_examples == [60] * 4 + [40]
    assert len(history.epoch_seconds) == 5
    assert np.isnan(history.column("train_loss")[1])
    assert history.seconds_per_epoch > 0


def test_a_history_can_be_continued(make_trainer):
    one, two = make_trainer(), make_trainer()
    whole = train(one, 9, parts={"train": one.examples})
    history = train(two, 6, parts={"train": two.examples})
    train(two, 9, parts={"train": two.examples}, history=history)
    assert history.rows == whole.rows
    assert np.array_equal(one.network.parameters, two.network.parameters)


def test_an_empty_history_has_no_time_per_epoch():
    assert History().seconds_per_epoch == 0.0


def test_the_recorded_rate_is_the_next_steps_rate_and_the_factor_counts(make_trainer):
    trainer = make_trainer(schedule=lambda step: 0.1 / (1.0 + np.asarray(step)))
    trainer.rate_factor = 0.5
    assert [row["lr"] for row in train(trainer, 6, parts={}).rows] == [0.05, 0.05 / 4, 0.05 / 7]


def test_watchers_are_told_everything_and_let_go_after_an_error(make_trainer):
    class Watcher:
        def __init__(self):
            self.calls = []

        def start(self, total_steps, total_epochs, description, first=0):
            self.calls.append(("start", total_steps, total_epochs, description))

        def step(self, step):
            self.calls.append(step)

        def epoch_done(self, row):
            self.calls.append(("epoch", row["epoch"]))

        def finish(self):
            self.calls.append("finish")

    watcher = Watcher()
    train(make_trainer(record=False), 5, parts={}, watcher=watcher, description="a test")
    assert watcher.calls == [("start", 5, 2, "a test"), 1, 2, 3, ("epoch", 1), 4, 5, ("epoch", 2), "finish"]
    watcher = Watcher()
    with pytest.raises(KeyboardInterrupt):
        train(make_trainer(optimizer=Interrupting(at=2)), 5, parts={}, watcher=watcher)
    assert watcher.calls[-1] == "finish"


@pytest.mark.parametrize(("n", "batch_size", "batch_norm"), [
    (10, 10, True), (10, 5, True), (10, 4, True), (10, 3, False), (10, 1, False), (1, 1, False), (2, 2, True)])
def test_good_batch_sizes_are_taken(n, batch_size, batch_norm):
    check_batches(n, batch_size, batch_norm)


@pytest.mark.parametrize(("n", "batch_size", "batch_norm", "words"), [
    (10, 11, False, "11 is larger than the 10"),
    (10, 3, True, "batch of one row.*such as 2,"),
    (10, 9, True, "batch of one row.*such as 8,"),
    (10, 1, True, "batch of one row.*such as 2,"),
    (3, 2, True, "batch of one row.*such as 3,"),
    (1, 1, True, "at least two"),
])
def test_bad_batch_sizes_are_refused_with_a_way_out(n, batch_size, batch_norm, words):
    with pytest.raises(ConfigError, match=words):
        check_batches(n, batch_size, batch_norm)


@pytest.mark.parametrize("n", range(2, 40))
def test_the_batch_size_that_is_proposed_is_a_good_one(n):
    for batch_size in range(1, n + 1):
        try:
            check_batches(n, batch_size, batch_norm=True)
        except ConfigError as error:
            proposed = int(str(error).split("such as ")[1].split(",")[0])
            check_batches(n, proposed, batch_norm=True)


def test_the_softmax_classifier_may_have_batches_of_one(make_trainer, make_examples):
    make_trainer((), batch_norm=True, examples=make_examples(n=21)).run_epoch()     # 20 and 1: it has no batch norm


# ------------------------------------------------------------------------------------------------ traffic

class CountingBackend(Backend):
    """Counts what crosses between host and device."""

    def asarray(self, host):
        TRAFFIC.append("up")
        return super().asarray(host)

    def to_host(self, array):
        TRAFFIC.append("down")
        return super().to_host(array)


TRAFFIC: list[str] = []


@pytest.mark.parametrize("optimizer", [lambda: SGD(), lambda: SGD(momentum=0.9), lambda: Adam()])
@pytest.mark.parametrize("weighted", [False, True])
def test_nothing_crosses_between_host_and_device_within_an_epoch(cpu, make_trainer, make_examples, optimizer, weighted):
    counting = CountingBackend(cpu.name, cpu.xp, cpu.kernels, cpu.description)
    examples = make_examples(n=64, backend=counting, sample_weight=np.ones(64) if weighted else None)
    trainer = make_trainer(backend=counting, optimizer=optimizer(), examples=examples, batch_size=4, members=2)
    trainer.run_epoch(max_steps=1)                  # makes the buffers
    counts = []
    for steps in (1, 2, 16):
        TRAFFIC.clear()
        assert len(trainer.run_epoch(max_steps=steps).losses) == steps
        counts.append((TRAFFIC.count("up"), TRAFFIC.count("down")))
    assert counts[0] == counts[1] == counts[2]
    assert counts[0][1] == 1                        # the losses, once


def test_the_time_of_an_epoch_is_the_median_over_whole_epochs():
    history = History(epoch_seconds=[9.0, 1.0, 2.0, 0.1], epoch_is_whole=[True, True, True, False])
    assert history.seconds_per_epoch == 2.0
    assert History().seconds_per_epoch == 0.0


def test_examples_that_do_not_fit_the_network_are_refused(make_trainer, make_examples):
    for examples in (make_examples(dtype="float32"), make_examples(classes=3)):
        with pytest.raises(ConfigError, match="do not fit a network"):
            make_trainer(examples=examples)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_batches_without_rows_are_refused(make_trainer, batch_size):
    with pytest.raises(ConfigError, match="at least 1"):
        make_trainer(batch_size=batch_size)


def test_evaluations_without_end_are_refused(make_trainer):
    with pytest.raises(ConfigError, match="evaluate_every = 0 must be at least 1"):
        train(make_trainer(), 3, parts={}, evaluate_every=0)
