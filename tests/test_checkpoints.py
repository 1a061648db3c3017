"""A training that is brought back from a checkpoint is, bit for bit, the one that was never stopped."""

import copy
import itertools

import numpy as np
import pytest
from recipes import OPTIMIZERS

from fastmlp import schedules, training
from fastmlp.augmentation import Augmentation
from fastmlp.checkpoints import Keeper, checkpoint_file, read_header
from fastmlp.data.rows_on_disk import OpenFile, RowsOnDisk
from fastmlp.data.standardize import Standardizer
from fastmlp.dropout import Dropout
from fastmlp.errors import CheckpointError, DivergenceError, OutputError
from fastmlp.examples import Examples
from fastmlp.history import History
from fastmlp.intervals import Interval, parse_interval
from fastmlp.parameters import tensors_of
from fastmlp.progress import Progress
from fastmlp.tensor_files import read_tensors, write_tensors
from fastmlp.training import train

STEPS = 14          # of 3 an epoch: the last is cut short


def keeper_in(folder, every="1h"):
    return Keeper(folder, parse_interval(every), lambda: {"version": "test"})


def numbers_of(trainer, history):
    """All that a training has come to, as bytes and plain numbers."""
    arrays = {**tensors_of(trainer.network), **trainer.optimizer.state}
    for step, tensors in trainer.snapshots.items():
        arrays |= {f"{step} {name}": array for name, array in tensors.items()}
    rows = [{name: np.asarray(value).tobytes() for name, value in row.items()} for row in history.rows]
    return ({name: array.tobytes() for name, array in arrays.items()}, rows, history.epoch_examples,
            history.epoch_is_whole, trainer.step, trainer.epoch, trainer.position, trainer.optimizer.step,
            trainer.frozen, trainer.generators[0].random())


def stop_after(steps):
    """Says yes when so many steps have been made, by a trainer that asks before every one."""
    asked = itertools.count()
    return lambda: next(asked) >= steps


def cyclical(members):
    return lambda step: schedules.cyclical(step, step_size=3, lr_min=np.full(members, 1e-4), lr_max=0.1)


@pytest.fixture
def moved_images(cpu):
    def make():
        rng = np.random.default_rng(3)
        x, labels = rng.integers(0, 256, (60, 12)).astype(np.uint8), np.arange(60) % 4
        return Examples(x, labels, 4, Standardizer.fit(x, "feature"), cpu, "float64",
                        augmentation=Augmentation((1, 3, 4), mirror=True, shift=1))
    return make


@pytest.fixture
def make(make_trainer, moved_images):
    """Trainers of one kind, each made anew."""
    def by_name(kind):
        options = {"record": False}
        if kind in OPTIMIZERS:
            options["optimizer"] = OPTIMIZERS[kind]()
        elif kind == "population":
            options |= {"members": 3, "l2": [0.0, 0.01, 0.1], "optimizer": OPTIMIZERS["momentum"]()}
        elif kind == "dropout":
            options |= {"members": 2, "dropout": Dropout(0.3, [5, 6])}
        elif kind == "moved images":
            options["examples"] = moved_images()
        elif kind == "snapshots":
            options["snapshot_steps"] = [4, 6]
        elif kind == "a member diverges":
            options |= {"members": 3, "batch_norm": False, "dtype": "float32"}
            return make_trainer(schedule=lambda step: np.where(
                (np.asarray(step) >= 4) & (np.arange(3) == 1), 1e30, 0.01) + 0.0 * np.asarray(step), **options)
        elif kind == "no batch norm":
            options["batch_norm"] = False
        elif kind == "recorded":
            options["record"] = True
        else:
            assert kind in ("cyclical", "unshuffled")
            options["shuffle"] = kind != "unshuffled"
        return make_trainer(schedule=cyclical(options.get("members", 1)), **options)
    return by_name


KINDS = (*OPTIMIZERS, "population", "dropout", "moved images", "snapshots", "a member diverges", "no batch norm",
         "cyclical", "unshuffled", "recorded")


def run(trainer, history, **options):
    train(trainer, STEPS, parts={"val": trainer.examples}, history=history, evaluate_every=2, **options)


@pytest.mark.parametrize("kind", KINDS)
def test_from_every_step_a_training_goes_on_as_if_it_had_not_been_stopped(make, tmp_path, kind):
    whole, history = make(kind), History()
    run(whole, history)
    expected = numbers_of(whole, history)
    for steps in (0, 1, 2, 3, 5, 9, 13):                # before, in and between epochs
        folder = tmp_path / str(steps)
        folder.mkdir()
        stopped = make(kind)
        run(stopped, History(), keeper=keeper_in(folder), should_stop=stop_after(steps))
        if kind != "recorded":
            assert stopped.step == steps
        resumed, history = make(kind), History()
        resumed.network.parameters[...] = np.nan        # nothing of this may be left
        keeper = keeper_in(folder)
        assert keeper.begin(0, resumed, history)
        assert resumed.step == stopped.step
        run(resumed, history, keeper=keeper)
        assert numbers_of(resumed, history) == expected, f"stopped after {steps}"


def test_rows_that_stay_on_disk_are_gone_on_with_amid_a_window(make_trainer, cpu, tmp_path):
    """Their order suits the windows that are read at a time, and these the stretches of steps that are recorded."""
    x = np.random.default_rng(0).normal(size=(130, 12)).astype(np.float32)
    np.save(tmp_path / "X.npy", x)

    def make():
        file = OpenFile((tmp_path / "X.npy").open("rb", buffering=0), "X.npy")
        rows = RowsOnDisk(file, 128, x.dtype, 12, np.arange(130), x.dtype, 4 * 40 * 12 * 4)        # 40 at a time
        examples = Examples(rows, np.arange(130) % 4, 4, Standardizer.fit(x, "feature"), cpu)
        assert examples.on_disk
        return make_trainer(examples=examples, batch_size=10, dtype="float32")

    whole, history = make(), History()
    train(whole, 60, parts={}, history=history)
    expected, positions = numbers_of(whole, history), set()
    for asked in range(1, 20):
        stopped, resumed, history = make(), make(), History()
        keeper = keeper_in(tmp_path)
        train(stopped, 60, parts={}, keeper=keeper, should_stop=stop_after(asked))
        keeper.begin(0, resumed, history)
        train(resumed, 60, parts={}, history=history)
        assert numbers_of(resumed, history) == expected
        positions.add(stopped.position)
    assert {0, 4, 8, 12} <= positions


@pytest.mark.parametrize("kind", ["population", "dropout", "a member diverges"])
def test_in_one_process_a_training_goes_on_where_it_was_stopped(make, kind):
    whole, history = make(kind), History()
    run(whole, history)
    stopped, pieces = make(kind), History()
    for _ in range(30):
        run(stopped, pieces, should_stop=stop_after(1))
        if stopped.step == STEPS:
            break
    assert numbers_of(stopped, pieces) == numbers_of(whole, history)


@pytest.mark.parametrize("kind", ["population", "moved images"])
def test_checkpoints_on_the_way_change_nothing_and_each_can_be_gone_on_from(make, tmp_path, monkeypatch, kind):
    whole, history = make(kind), History()
    run(whole, history)
    expected = numbers_of(whole, history)
    kept, save = [], Keeper.save

    def save_and_copy(self, trainer, history):
        save(self, trainer, history)
        kept.append((trainer.step, checkpoint_file(tmp_path, 0).read_bytes()))

    monkeypatch.setattr(Keeper, "save", save_and_copy)
    always, history = make(kind), History()
    run(always, history, keeper=keeper_in(tmp_path, "0.000001s"))
    assert numbers_of(always, history) == expected
    assert [step for step, _ in kept] == list(range(1, STEPS + 1))
    monkeypatch.undo()
    for _, data in kept:
        checkpoint_file(tmp_path, 0).write_bytes(data)
        resumed, history = make(kind), History()
        keeper_in(tmp_path).begin(0, resumed, history)
        run(resumed, history)
        assert numbers_of(resumed, history) == expected


@pytest.mark.parametrize("cut_off", ["evaluate", "measure_statistics", "watcher.step", "watcher.epoch_done"])
@pytest.mark.parametrize("kind", ["momentum", "a member diverges"])
def test_cut_off_anywhere_a_training_goes_on_from_where_its_epoch_began(make, tmp_path, monkeypatch, kind, cut_off):
    """A second Ctrl-C does not wait for the end of a step, an evaluation, or the statistics' being measured."""
    precise = kind == "momentum"
    whole, history = make(kind), History()
    run(whole, history, precise_bn=precise)
    expected = numbers_of(whole, history)
    for at in itertools.count(1):
        folder, calls = tmp_path / str(at), itertools.count(1)
        folder.mkdir()

        def cutting(original, calls=calls, at=at):
            def call(*arguments):
                result = original(*arguments)
                if next(calls) == at:
                    raise KeyboardInterrupt
                return result
            return call

        stopped, history, keeper, watcher = make(kind), History(), keeper_in(folder), Progress()
        with monkeypatch.context() as patch:
            target = watcher if cut_off.startswith("watcher") else training
            name = cut_off.removeprefix("watcher.")
            patch.setattr(target, name, cutting(getattr(target, name)))
            try:
                run(stopped, history, precise_bn=precise, keeper=keeper, watcher=watcher)
            except KeyboardInterrupt:
                checkpoint_file(folder, 0).unlink(missing_ok=True)
                keeper.save_after_hurry(stopped, history)
            else:
                break
        resumed, history = make(kind), History()
        assert keeper_in(folder).begin(0, resumed, history)
        run(resumed, history, precise_bn=precise)
        assert numbers_of(resumed, history) == expected, f"cut off by call {at}"
    assert at > 1 or (cut_off == "measure_statistics" and not precise)


def test_checkpoints_come_every_so_many_epochs_and_at_the_end(make, tmp_path, monkeypatch):
    steps = []
    monkeypatch.setattr(Keeper, "save", lambda self, trainer, history: steps.append(trainer.step))
    run(make("sgd"), History(), keeper=keeper_in(tmp_path, "2"))
    assert steps == [6, 12, 14]


def test_a_training_that_diverges_after_it_was_brought_back_goes_back_as_far_as_it_would_have(make_trainer, tmp_path):
    """The last good state is in the checkpoint: here the update before it threw the weights out of range."""
    def make():
        return make_trainer(batch_norm=False, dtype="float32", record=False,
                            schedule=lambda step: np.where(np.asarray(step) == 5, 1e38, 0.01))

    whole, states = make(), []
    for steps in (None, 6, 5):
        trainer, history = make(), History()
        if steps is not None:
            (tmp_path / str(steps)).mkdir()
            keeper = keeper_in(tmp_path / str(steps))
            train(whole := make(), 30, parts={}, keeper=keeper, should_stop=stop_after(steps), evaluate_every=100)
            keeper.begin(0, trainer, history)
        with pytest.raises(ArithmeticError) as caught:
            train(trainer, 30, parts={}, history=history, evaluate_every=100)
        states.append((trainer.network.parameters.tobytes(), trainer.step, caught.value.step))
    assert states[0] == states[1] == states[2]
    assert states[0][1:] == (3, 7)
    assert whole.step == 5


def full(descriptor):
    raise OSError(28, "No space left on device")


def test_a_checkpoint_that_cannot_be_written_is_a_warning_and_the_one_before_stays(make, tmp_path, monkeypatch):
    keeper, trainer, history = keeper_in(tmp_path), make("sgd"), History()
    keeper.save(trainer, history)
    before = checkpoint_file(tmp_path, 0).read_bytes()

    monkeypatch.setattr("os.fsync", full)
    with pytest.warns(RuntimeWarning, match=r"step 14: cannot write .*No space left on device; the one before is kept"):
        run(trainer, history, keeper=keeper)
    assert trainer.step == STEPS
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-000.safetensors"]
    assert checkpoint_file(tmp_path, 0).read_bytes() == before


def test_where_not_even_the_first_can_be_written_the_warning_says_so(make, tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", full)
    with pytest.warns(RuntimeWarning, match="; there is none yet$"):
        keeper_in(tmp_path).save(make("sgd"), History())


def test_the_header_says_the_circumstances_and_how_many_are_trained_together(make, tmp_path):
    keeper = keeper_in(tmp_path)
    keeper.together = 3
    keeper.save(make("sgd"), History())
    header = read_header(tmp_path)
    assert (header["format"], header["version"], header["together"]) == ("fastmlp-checkpoint-1", "test", 3)


def test_the_checkpoints_of_a_run_that_has_ended_are_removed_and_nothing_else(make, tmp_path):
    keeper, trainer = keeper_in(tmp_path), make("sgd")
    for number in (0, 1):
        keeper.begin(number, trainer, History())
        keeper.save(trainer, History())
    (tmp_path / "history.csv").touch()
    keeper.clear()
    assert [path.name for path in tmp_path.iterdir()] == ["history.csv"]


@pytest.mark.parametrize("steps", [2, 5])
def test_a_state_that_is_gone_back_to_has_its_own_count_of_steps_and_statistics(make, tmp_path, steps):
    """Here the first, which had no running statistics yet, or that of the end of the first epoch."""
    trainer, resumed = make("adam"), make("adam")
    run(trainer, History(), keeper=keeper_in(tmp_path), should_stop=stop_after(steps))
    keeper_in(tmp_path).begin(0, resumed, History())
    assert resumed.network.has_running
    for one in (trainer, resumed):
        one.undo_epoch()
    assert (resumed.optimizer.step, resumed.step, resumed.epoch) == (steps // 3 * 3, steps // 3 * 3, steps // 3)
    assert resumed.network.has_running == trainer.network.has_running == (steps > 3)


def test_a_rate_that_was_lowered_stays_so(make, tmp_path):
    trainer, resumed = make("sgd"), make("sgd")
    trainer.rate_factor = 0.25
    keeper_in(tmp_path).save(trainer, History())
    keeper_in(tmp_path).begin(0, resumed, History())
    assert resumed.rate_factor == 0.25


def damaged(path, change):
    header, tensors = read_tensors(path, "fastmlp-checkpoint-1", "checkpoint", CheckpointError)
    change(header, tensors)
    write_tensors(path, header, tensors)


@pytest.mark.parametrize(("change", "words"), [
    (lambda header, tensors: header["state"].pop("position"), "KeyError.*position"),
    (lambda header, tensors: header["state"].update(generators=[]), "ValueError"),
    (lambda header, tensors: header["state"].update(generators=[{}, {}]), "not a whole checkpoint"),
    (lambda header, tensors: header["state"].update(rows=[["step", "epoch", "lr", "loss"]]), "KeyError.*history"),
    *((lambda header, tensors, name=name, value=value: header["state"].update({name: value}), f": {word} cannot be so")
      for name, value, word in (
          ("step", -1, "step"), ("position", 3, "position"), ("rate_factor", 1.5, "rate_factor"),
          ("snapshots", [0.5], "snapshots"), ("rows", [["step"]], "rows"), ("epoch_seconds", [1.0], "epochs"),
          ("frozen", [], "frozen"))),
    (lambda header, tensors: tensors.update({"now.parameters": np.zeros(3)}), r"now.parameters is float64 \(3,\) and"),
    (lambda header, tensors: tensors.pop("good.running"), "KeyError.*good.running"),
    (lambda header, tensors: header.update(format="fastmlp-model-1"), "not a checkpoint written by fastmlp"),
])
def test_a_checkpoint_that_is_not_whole_is_named_with_what_is_wrong(make, tmp_path, change, words):
    keeper_in(tmp_path).save(make("sgd"), History())
    damaged(checkpoint_file(tmp_path, 0), change)
    with pytest.raises(CheckpointError, match=rf"checkpoint-000.safetensors: .*{words}"):
        keeper_in(tmp_path).begin(0, make("sgd"), History())


HOSTILE = ("x", None, True, -5, 1.5, 10**30, [], {}, [[]], [None] * 3, [["a", 1, 2]], [["step"]], float("1e308"))


@pytest.mark.parametrize("kind", ["snapshots", "population"])
def test_no_number_in_a_checkpoint_is_trusted(make, tmp_path, monkeypatch, kind):
    """Whatever a header with a correct digest says, the training goes on, or the file is refused."""
    stopped, path = make(kind), checkpoint_file(tmp_path, 0)
    run(stopped, History(), keeper=keeper_in(tmp_path), should_stop=stop_after(8))
    header, tensors = read_tensors(path, "fastmlp-checkpoint-1", "checkpoint", CheckpointError)
    refused = []
    monkeypatch.setattr("fastmlp.checkpoints.read_tensors", lambda *_: (changed, arrays))
    state = header["state"]
    places = [((name,), value) for name in state for value in HOSTILE]
    places += [(("good", name), value) for name in state["good"] for value in HOSTILE]
    places += [(name, array) for name in tensors if name.startswith(("history", "snapshot"))
               for array in (tensors[name][:0], tensors[name][..., None], None)]
    for place, value in places:
        changed, arrays = copy.deepcopy(header), dict(tensors)
        if isinstance(place, tuple):
            table = changed["state"] if len(place) == 1 else changed["state"]["good"]
            table[place[-1]] = value
        elif value is None:
            del arrays[place]
        else:
            arrays[place] = value
        trainer, history = make(kind), History()
        try:
            keeper_in(tmp_path).begin(0, trainer, history)
        except CheckpointError:
            refused.append(place)
            continue
        run(trainer, history)
        assert np.isfinite(history.column("lr")).all()
    assert {place for place, _ in places} - set(refused) == set()


@pytest.mark.parametrize(("failure", "words"), [
    (None, "full; no checkpoint could be written, so this training cannot go on"),
    (DivergenceError("it diverged", step=3, lr=0.1), "full; it diverged")])
def test_what_became_of_a_training_is_told_where_its_results_cannot_be_written(tmp_path, failure, words):
    with pytest.raises(OutputError, match=f"^{words}$"), keeper_in(tmp_path).writing_results(failure):
        raise OutputError("full")


def test_every_flipped_bit_of_a_checkpoint_is_seen(make, tmp_path):
    keeper_in(tmp_path).save(make("sgd"), History())
    path = checkpoint_file(tmp_path, 0)
    data, rng = path.read_bytes(), np.random.default_rng(0)
    for place in rng.integers(len(data), size=200):
        flipped = bytearray(data)
        flipped[place] ^= 1 << rng.integers(8)
        path.write_bytes(flipped)
        with pytest.raises(CheckpointError, match="checkpoint-000"):
            read_header(tmp_path)


def test_a_folder_without_checkpoints_says_what_to_do(tmp_path):
    with pytest.raises(CheckpointError, match=f"begun again with --out {tmp_path}"):
        read_header(tmp_path)
    assert not keeper_in(tmp_path).begin(0, None, None)


@pytest.mark.parametrize(("text", "interval"), [
    ("3", Interval(epochs=3)), ("30s", Interval(seconds=30.0)), ("1.5min", Interval(seconds=90.0)),
    (" 2 h ", Interval(seconds=7200.0)),
])
def test_intervals_are_read_and_written(text, interval):
    assert parse_interval(text) == interval
    assert parse_interval(str(interval)) == interval


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "0s", "-3min", "infs", "nan h", "5 days", "min", "1e999h",
                                  "1e308h"])
def test_what_is_no_interval_is_refused(text):
    with pytest.raises(ValueError, match="a number of epochs from 1 on, or a time such as 30s"):
        parse_interval(text)
