"""Where the data stay, and what is said when a GPU's memory does not suffice, on the stand-in for CuPy."""

import numpy as np
import pytest
from stand_in import device
from tolerances import assert_close

from fastmlp.data import load_dataset
from fastmlp.data.standardize import Standardizer
from fastmlp.errors import ConfigError, DeviceError
from fastmlp.evaluation import evaluate, predict_logits
from fastmlp.examples import Examples
from fastmlp.training import train

pytestmark = pytest.mark.L3

N, D = 130, 40


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return rng.integers(256, size=(N, D), dtype=np.uint8), rng.integers(4, size=N)


def streamed_after(monkeypatch, rows):
    """So little is staged at a time that an epoch takes several uploads."""
    monkeypatch.setattr("fastmlp.examples.STAGE_BYTES", rows * D)


@pytest.mark.parametrize(("kind", "rows_staged", "weighted"), [
    ("bytes", 10, False), ("bytes", 44, True), ("numbers", 44, False), ("bytes", 10_000, True), ("numbers", 7, True)])
def test_streamed_examples_train_and_evaluate_like_kept_ones(gpu, make_trainer, data, monkeypatch, kind, rows_staged,
                                                             weighted):
    x, labels = data
    x = x if kind == "bytes" else x / 8.0
    weights = np.random.default_rng(1).uniform(0.5, 1.5, N) if weighted else None
    streamed_after(monkeypatch, rows_staged * (1 if kind == "bytes" else 4))
    results = []
    for keep in ("device", "host"):
        examples = Examples(x, labels, 4, Standardizer.fit(x, "feature"), gpu, "float32", weights, keep)
        assert examples.streams == (keep == "host")
        trainer = make_trainer(dtype="float32", backend=gpu, examples=examples, batch_size=10, l2=0.01)
        history = train(trainer, 4 * trainer.steps_per_epoch - 3, parts={"train": examples})
        results.append((trainer.network.parameters.get(), str(history.rows), evaluate(trainer.network, examples).loss,
                        predict_logits(trainer.network, examples)))
    assert results[0][0].tobytes() == results[1][0].tobytes()
    assert_close(results[1][2], results[0][2], 1e-6)        # in other chunks
    assert_close(results[1][3], results[0][3], 1e-6)


def test_streamed_examples_take_no_more_memory_than_is_staged(gpu, data, monkeypatch):
    streamed_after(monkeypatch, 20)
    x, labels = data
    before = device.used_bytes()
    examples = Examples(x, labels, 4, Standardizer.fit(x, "none"), gpu, keep="host")
    assert device.used_bytes() - before < 1024
    for rows in examples.deliver(np.arange(N), [20] * 6 + [10]):
        assert rows.shape[0] in (20, 10)
    assert device.used_bytes() - before < 20 * (D + 8) + 2048


def test_rows_are_read_as_rows_however_the_host_orders_its_array(gpu, data):
    x, labels = data
    for order in "CF":
        examples = Examples(np.asarray(x, order=order), labels, 4, Standardizer.fit(x, "feature"), gpu, "float64")
        batch = examples.new_batch(3)
        examples.read(gpu.asarray(np.array([5, 0, 7])), batch)
        assert_close(batch.x.get(), Standardizer.fit(x, "feature").apply(x, "float64")[[5, 0, 7]], 1e-12)


def test_large_arrays_are_uploaded_in_slices(gpu, data, monkeypatch):
    monkeypatch.setattr("fastmlp.backend.UPLOAD_BYTES", 30 * D)
    before = device.counts.host_to_device
    assert np.array_equal(gpu.asarray(data[0]).get(), data[0])
    assert device.counts.host_to_device - before == 5
    assert gpu.asarray(np.float32(3.0)).get() == 3.0


def test_data_that_take_more_than_half_of_the_free_memory_stay_on_the_host(gpu, data):
    x, labels = data
    for limit, streams in ((3 * x.nbytes, False), (1.9 * x.nbytes, True)):
        device.memory_limit = device.used_bytes() + int(limit)
        assert Examples(x, labels, 4, Standardizer.fit(x, "none"), gpu).streams == streams
        device.memory_limit = None


@pytest.mark.parametrize("source", ["u1", "f8"])
def test_examples_on_disk_are_streamed_or_kept_by_a_gpu_like_those_in_memory(gpu, make_trainer, data, monkeypatch,
                                                                             tmp_path, source):
    monkeypatch.setattr("fastmlp.examples.BRING_BYTES", 500)
    np.save(tmp_path / "X.npy", data[0].astype(source))
    np.save(tmp_path / "y.npy", data[1])
    results = []
    for memory, keep, limit in ((10**9, "device", None), (5000, "device", None), (5000, "host", None),
                                (5000, "auto", None), (5000, "auto", 4000)):
        parts = load_dataset(tmp_path / "X.npy", target=str(tmp_path / "y.npy"), data_memory=memory)
        device.memory_limit = None if limit is None else device.used_bytes() + limit
        examples = Examples(parts.x_train, parts.y_train, 4, Standardizer.fit(parts.x_train, "feature"), gpu,
                            "float32", keep=keep)
        device.memory_limit = None
        assert examples.on_disk == examples.streams == (keep == "host" or limit is not None)
        trainer = make_trainer(dtype="float32", backend=gpu, examples=examples, batch_size=10, shuffle=False)
        train(trainer, 4 * trainer.steps_per_epoch - 3, parts={})
        results.append((trainer.network.parameters.get().tobytes(), len(examples.data)))
        assert len(trainer.run_epoch().losses) == trainer.steps_per_epoch
    assert len({parameters for parameters, _ in results}) == 1
    staged = 5000 // 4 // (D if source == "u1" else 4 * D)
    assert [rows for _, rows in results][1:] == [94, max(10, staged // 10 * 10), 94, max(10, staged // 10 * 10)]


def test_a_larger_stretch_after_a_smaller_one_does_not_replay_on_the_old_memory(gpu, make_trainer, data, monkeypatch):
    x, labels = data
    results = []
    for keep in ("device", "host"):
        examples = Examples(x, labels, 4, Standardizer.fit(x, "none"), gpu, "float32", keep=keep)
        trainer = make_trainer(dtype="float32", backend=gpu, examples=examples, batch_size=10)
        trainer.run_epoch(max_steps=7)
        trainer.run_epoch(max_steps=7)
        evaluate(trainer.network, examples)             # stages all rows at once: new arrays
        trainer.run_epoch(max_steps=7)
        results.append(trainer.network.parameters.get())
    assert results[0].tobytes() == results[1].tobytes()


def test_a_lack_of_memory_says_what_is_needed_what_is_free_and_what_helps(gpu, data):
    x, labels = data
    device.memory_limit = device.used_bytes() + 4000
    with pytest.raises(DeviceError, match=r"Out of memory allocating 5,\d\d\d bytes; .* bytes are free\): train fewer "
                                          r"members at once, .*--batch-size.*--keep-data host, or Examples"):
        Examples(x, labels, 4, Standardizer.fit(x, "none"), gpu, keep="device")
    device.memory_limit = None


@pytest.mark.parametrize("where", ["epoch", "evaluation", "prediction"])
def test_a_lack_of_memory_later_is_explained_as_well(gpu, make_trainer, make_examples, where):
    trainer = make_trainer(dtype="float32", backend=gpu, examples=make_examples(n=400, backend=gpu, dtype="float32"))
    trainer.run_epoch()
    device.memory_limit = device.used_bytes() + 600
    work = {"epoch": trainer.run_epoch, "evaluation": lambda: evaluate(trainer.network, trainer.examples),
            "prediction": lambda: predict_logits(trainer.network, trainer.examples)}[where]
    before = trainer.network.parameters.get()
    with pytest.raises(DeviceError, match="the GPU's memory does not suffice"):
        work()
    device.memory_limit = None
    assert np.array_equal(trainer.network.parameters.get(), before)


def test_an_unknown_place_is_refused(cpu, data):
    with pytest.raises(ConfigError, match="keep = 'disk' is unknown: choose one of auto, device, host"):
        Examples(*data, 4, Standardizer.fit(data[0], "none"), cpu, keep="disk")
