"""The whole trainer on the stand-in for CuPy: the CPU's history, and no copies between host and device in an epoch."""

import itertools

import numpy as np
import pytest
from recipes import OPTIMIZERS
from stand_in import device
from tolerances import MEMBER, assert_close

from fastmlp import schedules
from fastmlp.checkpoints import Keeper
from fastmlp.dropout import Dropout
from fastmlp.errors import DeviceError, DivergenceError
from fastmlp.evaluation import evaluate, predict_logits
from fastmlp.history import History
from fastmlp.intervals import Interval
from fastmlp.optimizers import Adam
from fastmlp.training import train

pytestmark = pytest.mark.L3

HISTORY = {"float64": 1e-12, "float32": 1e-5}
N, BATCH = 33, 10                               # three batches of 10, one of 3


@pytest.fixture
def make_pair(cpu, gpu, make_examples, make_trainer):
    """Two trainers of the same network, on the CPU and on the stand-in."""
    def make(hidden=(6, 5), *, dtype="float64", weighted=False, optimizer="sgd", n=N, d=7, schedule=_cycle, **options):
        def on(backend):
            weights = np.random.default_rng(3).uniform(0.0, 2.0, n) if weighted else None
            examples = make_examples(n=n, d=d, dtype=dtype, backend=backend, standardize="feature",
                                     sample_weight=weights)
            return make_trainer(hidden, dtype=dtype, backend=backend, examples=examples, batch_size=BATCH,
                                optimizer=OPTIMIZERS[optimizer](), schedule=schedule, **options)
        return on(cpu), on(gpu)
    return make


def _cycle(step):
    return schedules.cyclical(step, lr_min=1e-4, lr_max=0.05, step_size=4)


def _compare(host, other, dtype="float64", epochs=3):
    """Train both and compare everything that comes of it."""
    tolerance = MEMBER[dtype]
    histories = []
    for trainer in (host, other):
        parts = {"train": trainer.examples}
        histories.append(train(trainer, epochs * trainer.steps_per_epoch - 1, parts=parts))
    for row, expected in zip(histories[1].rows, histories[0].rows, strict=True):
        assert row.keys() == expected.keys()
        for name, value in row.items():
            assert_close(value, expected[name], HISTORY[dtype], name)
    assert_close(other.network.parameters.get(), host.network.parameters, tolerance, "parameters")
    assert_close(other.network.running.get(), host.network.running, tolerance, "running")
    assert_close(predict_logits(other.network, other.examples), predict_logits(host.network, host.examples),
                 tolerance, "logits")
    for name, value in host.optimizer.state.items():
        assert_close(other.optimizer.state[name].get(), value, tolerance, name)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("batch_norm", [True, False], ids=["batch norm", "bias"])
@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_training_gives_the_history_of_the_cpu(make_pair, optimizer, members, batch_norm, dtype):
    pair = make_pair(optimizer=optimizer, members=members, batch_norm=batch_norm, dtype=dtype, l2=0.01)
    _compare(*pair, dtype)


@pytest.mark.parametrize(("hidden", "activation", "loss", "weighted"), [
    ((), "relu", "cross-entropy", False),
    ((7,), "leaky-relu", "hinge", True),
    ((7,), "gelu", "cross-entropy", True),
    ((4, 4, 4), "tanh", "cross-entropy", False),
    ((7,), "logistic", "hinge", False),
    ((1,), "identity", "cross-entropy", True),
])
@pytest.mark.parametrize("members", [1, 2])
def test_every_kind_of_network(make_pair, members, hidden, activation, loss, weighted):
    pair = make_pair(hidden, members=members, activation=activation, loss=loss, weighted=weighted, l2=0.01)
    _compare(*pair, epochs=2)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("batch_norm", [True, False], ids=["batch norm", "bias"])
@pytest.mark.parametrize("members", [1, 3])
def test_dropout_and_label_smoothing(make_pair, members, batch_norm, dtype):
    pair = make_pair(members=members, batch_norm=batch_norm, dtype=dtype, label_smoothing=0.1)
    for trainer in pair:
        trainer.dropout = Dropout(0.3, range(members))
    _compare(*pair, dtype, epochs=4)                # the last one recorded
    _, trainer = pair
    epoch = spent(trainer.run_epoch)
    assert epoch["graph_launches"] > 0
    assert epoch["host_to_device"] == 3             # order, rates, keys
    assert epoch["device_to_host"] == 1


def test_bytes_are_standardised_on_the_device(cpu, gpu):
    from fastmlp.data.standardize import Standardizer
    from fastmlp.examples import Examples

    images = np.random.default_rng(0).integers(256, size=(9, 5), dtype=np.uint8)
    rows, batches = np.array([8, 1, 1, 0]), []
    for backend in (cpu, gpu):
        examples = Examples(images, np.arange(9) % 3, 3, Standardizer.fit(images, "feature"), backend)
        batch = examples.new_batch(4)
        examples.read(backend.asarray(rows), batch)
        batches.append((backend.to_host(batch.x), backend.to_host(batch.targets)))
    assert_close(batches[1][0], batches[0][0], 1e-6)
    assert np.array_equal(batches[1][1], batches[0][1])


@pytest.mark.parametrize("kind", ["bytes", "numbers"])
@pytest.mark.parametrize("keep", ["device", "host"])
def test_images_are_moved_on_the_device_as_on_the_cpu_and_statistics_measured_there(cpu, gpu, make_trainer, kind, keep):
    from fastmlp.augmentation import Augmentation
    from fastmlp.data.standardize import Standardizer
    from fastmlp.examples import Examples

    images = np.random.default_rng(0).integers(256, size=(43, 24), dtype=np.uint8)
    images = images if kind == "bytes" else images / 16.0
    results = []
    for backend in (cpu, gpu):
        examples = Examples(images, np.arange(43) % 4, 4, Standardizer.fit(images, "feature"), backend, "float64",
                            keep=keep, augmentation=Augmentation((2, 3, 4), mirror=True, shift=2))
        trainer = make_trainer(backend=backend, examples=examples, batch_size=10, members=2)
        history = train(trainer, 14, parts={"val": examples}, precise_bn=True)
        results.append([backend.to_host(trainer.network.parameters), backend.to_host(trainer.network.running),
                        history.column("val_loss")])
        if backend is gpu:
            assert trainer._recordings
            assert examples.streams == (keep == "host")
    for host, other in zip(*results, strict=True):
        assert_close(other, host, MEMBER["float64"])


@pytest.mark.parametrize(("record", "n", "looks"), [(True, 643, 4), (False, 163, 25)], ids=["recorded", "call by call"])
@pytest.mark.parametrize("members", [1, 3])
def test_a_training_on_the_device_goes_on_from_a_checkpoint_with_the_same_bits(make_pair, tmp_path, members, record, n,
                                                                               looks):
    def make():
        dropout = Dropout(0.2, list(range(members)))
        return make_pair(n=n, optimizer="adamw", members=members, record=record, dropout=dropout)[1]

    def state(trainer):
        return [array.get().tobytes() for array in (trainer.network.parameters, trainer.network.running,
                                                    *trainer.optimizer.state.values())]

    whole = make()
    steps = whole.steps_per_epoch * 8 // 5
    train(whole, steps, parts={})
    keeper, asked = Keeper(tmp_path, Interval(seconds=3600.0), dict), itertools.count()
    stopped, resumed, history = make(), make(), History()
    train(stopped, steps, parts={}, keeper=keeper, should_stop=lambda: next(asked) >= looks)
    assert 0 < stopped.position < stopped.steps_per_epoch
    keeper.begin(0, resumed, history)
    train(resumed, steps, parts={}, history=history)
    assert state(resumed) == state(whole) != state(stopped)


@pytest.mark.L4
def test_moves_go_up_with_the_order_and_a_pass_for_statistics_brings_nothing_down(gpu, make_trainer):
    from fastmlp.augmentation import Augmentation
    from fastmlp.data.standardize import Standardizer
    from fastmlp.examples import Examples
    from fastmlp.precise_bn import measure_statistics

    images = np.random.default_rng(0).integers(256, size=(40, 12), dtype=np.uint8)
    examples = Examples(images, np.arange(40) % 4, 4, Standardizer.fit(images, "feature"), gpu,
                        augmentation=Augmentation((1, 3, 4), mirror=True))
    trainer = make_trainer(backend=gpu, examples=examples, batch_size=10, dtype="float32")
    trainer.run_epoch()
    epoch = spent(trainer.run_epoch)
    assert (epoch["host_to_device"], epoch["device_to_host"], epoch["synchronisations"]) == (2, 1, 0)
    measured = spent(lambda: measure_statistics(trainer.network, examples, 10))
    assert (measured["host_to_device"], measured["device_to_host"], measured["synchronisations"]) == (1, 0, 0)


def spent(work):
    """What the device did meanwhile."""
    before = vars(device.counts).copy()
    work()
    return {name: value - before[name] for name, value in vars(device.counts).items()}


@pytest.mark.L4
@pytest.mark.parametrize("record", [True, False], ids=["recorded", "call by call"])
@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("weighted", [False, True], ids=["equal weights", "weights"])
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adamw"])
def test_an_epoch_uploads_order_and_rates_and_waits_once_for_the_losses(make_pair, optimizer, weighted, members,
                                                                        record):
    _, trainer = make_pair(optimizer=optimizer, weighted=weighted, members=members, record=record)
    trainer.run_epoch()                 # compiles, records
    epoch = spent(trainer.run_epoch)
    assert epoch["host_to_device"] == 2
    assert epoch["device_to_host"] == 1
    assert epoch["synchronisations"] == 0


@pytest.mark.L4
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adamw"])
def test_a_recorded_epoch_is_a_few_graphs_and_makes_no_array_in_its_steps(make_pair, optimizer):
    epochs = {}
    for n in (163, 643):                # 17 and 65 steps, the last one smaller
        _, trainer = make_pair(n=n, optimizer=optimizer, weighted=True)
        for _ in range(3):              # each batch size runs once by itself, each stretch once before it is recorded
            trainer.run_epoch()
        epochs[n] = spent(trainer.run_epoch)
        assert epochs[n]["recorded"] == 0
    few, many = epochs.values()
    assert (few["graph_launches"], many["graph_launches"]) == (1, 3)
    assert many["allocations"] == few["allocations"]


@pytest.mark.L4
@pytest.mark.parametrize(("hidden", "batch_norm", "launches"), [
    ((50, 50), True, 11), ((50, 50), False, 9), ((), False, 5),
    ((50, 30, 20, 20, 10, 10, 10, 10), True, 23)])
def test_a_recorded_step_takes_few_launches(make_pair, hidden, batch_norm, launches):
    _, trainer = make_pair(hidden, batch_norm=batch_norm, dtype="float32", n=30, d=3300)
    trainer.run_epoch()
    trainer.run_epoch()
    trainer.run_epoch()
    assert device.counts.recorded == 3 * launches


@pytest.mark.L4
def test_dropout_takes_three_launches_more_a_hidden_layer_and_label_smoothing_none(make_pair):
    _, trainer = make_pair((50, 50), dtype="float32", n=30, d=3300, dropout=Dropout(0.2, [0]), label_smoothing=0.1)
    for _ in range(3):
        trainer.run_epoch()
    assert device.counts.recorded == 3 * (11 + 2 * 3)


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize(("optimizer", "batch_norm", "loss", "weighted"), [
    ("sgd", True, "cross-entropy", False), ("momentum", False, "hinge", True), ("nesterov", True, "hinge", False),
    ("adam", False, "cross-entropy", False), ("adamw", True, "cross-entropy", True)])
def test_recorded_and_not_the_numbers_are_the_same_bit_for_bit(make_pair, optimizer, batch_norm, loss, weighted,
                                                               members):
    results = []
    for record in (True, False):
        _, trainer = make_pair(optimizer=optimizer, batch_norm=batch_norm, loss=loss, weighted=weighted,
                               members=members, record=record, dtype="float32", l2=0.01)
        history = train(trainer, 5 * trainer.steps_per_epoch - 2, parts={"train": trainer.examples})    # and a part
        results.append([trainer.network.parameters.get(), trainer.network.running.get(), history.rows])
    assert results[0][0].tobytes() == results[1][0].tobytes()
    assert results[0][1].tobytes() == results[1][1].tobytes()
    assert str(results[0][2]) == str(results[1][2])


def test_a_network_that_goes_on_with_other_batch_sizes_records_with_the_buffers_it_still_has(make_pair):
    pair = make_pair()
    for trainer in pair:                            # batches of 10 and 3, then of 10 and 6, then of 10 and 3 again
        other = type(trainer)(trainer.network, make_pair(n=26)[pair.index(trainer)].examples, trainer.optimizer, _cycle,
                              batch_size=BATCH)
        for one in (trainer, other) * 4:
            one.run_epoch()
    assert_close(pair[1].network.parameters.get(), pair[0].network.parameters, MEMBER["float64"])


def test_where_steps_cannot_be_recorded_a_warning_says_so_and_training_goes_on(make_pair, cupy, monkeypatch):
    def refuse(stream, mode=None):
        raise RuntimeError("cudaErrorNotSupported: operation not supported")

    host, trainer = make_pair()
    monkeypatch.setattr(cupy.cuda.Stream, "begin_capture", refuse)
    trainer.run_epoch()
    with pytest.warns(RuntimeWarning, match=r"steps cannot be recorded \(RuntimeError: cudaErrorNotSupported"):
        trainer.run_epoch()
    trainer.run_epoch()                                 # without another warning
    for _ in range(3):
        host.run_epoch()
    assert_close(trainer.network.parameters.get(), host.network.parameters, MEMBER["float64"])


def test_what_fails_while_steps_are_recorded_is_raised_and_the_next_recording_begins_anew(gpu):
    x = gpu.zeros((2,), np.float32)

    def fail():
        gpu.xp.add(x, 1, out=x)
        raise KeyError("amid the recording")

    with pytest.raises(KeyError, match="amid the recording"):
        gpu.record(fail)
    gpu.record(lambda: gpu.xp.add(x, 2, out=x))()
    assert gpu.to_host(x).tolist() == [2, 2]


def test_a_population_of_more_parameters_than_an_update_can_count_is_refused(make_pair, monkeypatch):
    monkeypatch.setattr("fastmlp.kernels.cupy_fused.MOST_PARAMETERS", 10)
    _, trainer = make_pair(members=3)
    with pytest.raises(DeviceError, match="larger than the 10 that one update takes: train fewer members at once"):
        trainer.run_epoch()


@pytest.mark.parametrize("change", [
    lambda trainer: setattr(trainer, "bn_decay", 0.5),
    lambda trainer: setattr(trainer.optimizer, "momentum", 0.1),
    lambda trainer: setattr(trainer.optimizer, "nesterov", True),
    lambda trainer: setattr(trainer.optimizer, "momentum", 0),
    lambda trainer: setattr(trainer.optimizer, "momentum", np.float32(0.5)),
    lambda trainer: setattr(trainer.examples, "sample_weight", trainer.network.backend.asarray(np.arange(1.0, N + 1))),
    lambda trainer: setattr(trainer, "batch_size", 7),
    lambda trainer: setattr(trainer.network, "l2", trainer.network.l2 + 0.1),
    lambda trainer: trainer.optimizer.state.update(velocity=trainer.network.zeros_like_parameters()),
    lambda trainer: (setattr(trainer, "optimizer", Adam()), trainer.optimizer.prepare(trainer.network)),
], ids=["bn_decay", "momentum", "nesterov", "momentum as an int", "momentum as float32", "sample weights", "batch size",
        "l2", "state", "optimizer"])
def test_what_is_changed_between_epochs_is_not_replayed_as_it_was(make_pair, change):
    pair = make_pair(optimizer="momentum", l2=0.01)
    for trainer in pair:
        for _ in range(4):
            trainer.run_epoch()
        change(trainer)
        trainer.run_epoch()
        trainer.run_epoch()
    assert_close(pair[1].network.parameters.get(), pair[0].network.parameters, MEMBER["float64"])


def test_other_examples_are_trained_on_from_the_next_epoch_on(make_pair):
    pair = make_pair()
    others = make_pair(n=26)
    for trainer, other in zip(pair, others, strict=True):
        for _ in range(4):
            trainer.run_epoch()
        trainer.examples = other.examples
        for _ in range(4):
            trainer.run_epoch()
    assert_close(pair[1].network.parameters.get(), pair[0].network.parameters, MEMBER["float64"])


def test_an_epoch_without_steps_does_not_count_as_a_first_one(make_pair):
    _, trainer = make_pair()
    trainer.run_epoch(max_steps=0)
    for _ in range(3):
        trainer.run_epoch()
    assert device.counts.graph_launches


def test_a_stop_is_heeded_between_recorded_stretches(make_pair):
    _, trainer = make_pair(n=643)
    for _ in range(3):
        trainer.run_epoch()
    asked = iter([False, True])
    report = trainer.run_epoch(should_stop=lambda: next(asked))
    assert len(report.losses) == 32
    assert not report.complete


def test_after_a_divergence_in_the_first_epoch_the_running_statistics_begin_anew(make_pair):
    host, trainer = make_pair(schedule=lambda step: schedules.constant(step, lr=np.where(step < 100, 1e300, 0.01)))
    for one in (host, trainer):
        with pytest.raises(DivergenceError):
            one.run_epoch()
        one.step = 100
        one.run_epoch()
    assert_close(trainer.network.running.get(), host.network.running, MEMBER["float64"])


def test_an_evaluation_reads_the_device_at_its_end_only(make_pair):
    _, trainer = make_pair(n=200)
    evaluate(trainer.network, trainer.examples)
    before = vars(device.counts).copy()
    evaluate(trainer.network, trainer.examples)
    assert device.counts.device_to_host - before["device_to_host"] <= 2     # the sums, the penalty


def test_a_longer_training_keeps_no_more_memory(make_pair):
    _, trainer = make_pair()
    for _ in range(3):
        trainer.run_epoch()
    before = device.living_arrays()
    trainer.run_epoch()
    trainer.run_epoch()
    assert device.living_arrays() == before


def test_divergence_is_found_and_the_last_good_state_comes_back(make_pair):
    _, trainer = make_pair(schedule=lambda step: schedules.constant(step, lr=1e300), batch_norm=False)
    before = trainer.network.parameters.get()
    with pytest.raises(DivergenceError):
        trainer.run_epoch()
    assert np.array_equal(trainer.network.parameters.get(), before)


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adamw"])
def test_a_diverging_member_leaves_the_others_bits_alone_when_steps_are_recorded(make_pair, optimizer):
    """One epoch is 17 steps; from the fifth epoch on, replayed ones, member 1 has the rate that is given."""
    trainers = []
    for rate in (1e30, 0.01):
        def schedule(step, rate=rate):
            return np.where((np.asarray(step) >= 70) & (np.arange(3) == 1), rate, 0.01) + 0.0 * np.asarray(step)

        _, trainer = make_pair(optimizer=optimizer, members=3, dtype="float32", n=163, schedule=schedule)
        history = train(trainer, 6 * trainer.steps_per_epoch, parts={"train": trainer.examples})
        trainers.append(trainer)
        assert [bool(frozen) for frozen in trainer.frozen] == [False, rate == 1e30, False]
        assert np.isfinite(history.rows[-1]["train_loss"]).all()
    assert device.counts.graph_launches
    bad, good = ([view.get() for view in trainer.network.views().values()] for trainer in trainers)
    for one, other in zip(bad, good, strict=True):
        assert one[[0, 2]].tobytes() == other[[0, 2]].tobytes()
        assert np.isfinite(one).all()
        assert not np.array_equal(one[1], other[1])


def test_a_population_in_which_nobody_diverges_makes_no_further_launches_or_copies(make_pair):
    _, trainer = make_pair(members=3, dtype="float32")
    for _ in range(3):
        trainer.run_epoch()
    healthy = spent(trainer.run_epoch)
    assert (healthy["host_to_device"], healthy["device_to_host"], healthy["graph_launches"]) == (2, 1, 1)
