import json
import math
from dataclasses import replace

import numpy as np
import pytest

from fastmlp.config import TrainOptions
from fastmlp.data import load_dataset
from fastmlp.data.fingerprint import fingerprint
from fastmlp.errors import DataError
from fastmlp.studies.catalogue import Trial
from fastmlp.studies.store import Result, TrialStore

TRIAL = Trial(TrainOptions(hidden=(5,), evaluate_every=2))
RESULT = Result("finished", 1.5, 2, {"test_accuracy": 0.25}, {"step": [0.0, 9.0], "val_loss": [2.0, math.nan]})


def test_what_is_saved_is_loaded(tmp_path):
    store = TrialStore(tmp_path / "trials", "data")
    assert store.load(TRIAL) is None
    store.save(TRIAL, RESULT)
    loaded = store.load(TRIAL)
    assert loaded.scores == RESULT.scores
    assert loaded.status == "finished"
    assert loaded.history["val_loss"][0] == 2.0
    assert math.isnan(loaded.history["val_loss"][1])
    assert [path.name for path in (tmp_path / "trials").iterdir()] == [f"{TRIAL.key}.json"]


def test_a_trial_that_was_measured_too_rarely_is_not_there(tmp_path):
    store = TrialStore(tmp_path, "data")
    store.save(TRIAL, RESULT)
    assert store.load(Trial(TrainOptions(hidden=(5,), evaluate_every=1))) is None
    assert store.load(Trial(TrainOptions(hidden=(5,), evaluate_every=3))) is not None


def test_trials_on_other_data_are_refused(tmp_path):
    TrialStore(tmp_path, "data").save(TRIAL, RESULT)
    with pytest.raises(DataError, match=r"holds trials on other data than these: name another folder with --out$"):
        TrialStore(tmp_path, "other").load(TRIAL)


@pytest.mark.parametrize("content", [
    b"", b"{", b"[]", b"null", b"3", b'{"format": "fastmlp-trial-1"}', b"\xff\xfe", b"[" * 100_000,
    json.dumps({"format": "fastmlp-trial-2"}).encode(),
    json.dumps({"format": "fastmlp-trial-1", "data": "data", "status": "finished", "seconds": "x",
                "evaluate_every": 1, "scores": {}, "history": {}}).encode(),
    json.dumps({"format": "fastmlp-trial-1", "data": "data", "status": "finished", "seconds": 1,
                "evaluate_every": 1, "scores": {"a": None}, "history": {}}).encode(),
    json.dumps({"format": "fastmlp-trial-1", "data": "data", "status": "finished", "seconds": 1,
                "evaluate_every": 1, "scores": [], "history": {"a": 3}}).encode(),
])
def test_a_damaged_trial_is_told_by_its_file(tmp_path, content):
    (tmp_path / f"{TRIAL.key}.json").write_bytes(content)
    with pytest.raises(DataError, match=rf"{TRIAL.key}\.json: not a whole trial of fastmlp .*: delete it, and"):
        TrialStore(tmp_path, "data").load(TRIAL)


def test_arrays_are_kept_beside_results_and_run_no_code(tmp_path):
    store = TrialStore(tmp_path, "data")
    assert store.load_array(TRIAL, "weights") is None
    store.save_array(TRIAL, "weights", np.arange(6.0).reshape(2, 3))
    assert store.load_array(TRIAL, "weights").tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    path = tmp_path / f"{TRIAL.key}.weights.npy"
    header = path.read_bytes()[:-48]
    for content in (b"", path.read_bytes()[:-3], header.replace(b"(2, 3)", b"(2, 3000000000000)")):
        path.write_bytes(content)
        with pytest.raises(DataError, match="not a whole array: delete it"):
            store.load_array(TRIAL, "weights")
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="not a whole array"):
        store.load_array(TRIAL, "weights")


def test_a_fingerprint_tells_data_sets_apart():
    data = load_dataset("digits")
    assert fingerprint(data) == fingerprint(load_dataset("digits"))
    for part in ("x_train", "y_train", "x_val", "x_test", "y_test"):
        array = getattr(data, part).copy()
        array[0] = array[0] * 0 + 1
        assert fingerprint(replace(data, **{part: array})) != fingerprint(data), part
    assert fingerprint(replace(data, classes=data.classes[::-1])) != fingerprint(data)



def test_what_is_trained_again_is_measured_as_often_as_before(tmp_path):
    store = TrialStore(tmp_path, "data")
    rarely, often = (Trial(TrainOptions(hidden=(5,), evaluate_every=every)) for every in (9, 1))
    assert store.as_often(rarely) == rarely
    store.save(TRIAL, RESULT)
    assert store.as_often(rarely).options.evaluate_every == 2
    assert store.as_often(often).options.evaluate_every == 1


def test_a_count_that_is_infinite_is_damage_too(tmp_path):
    (tmp_path / f"{TRIAL.key}.json").write_text(json.dumps({
        "format": "fastmlp-trial-1", "data": "data", "status": "finished", "seconds": 1,
        "evaluate_every": float("inf"), "scores": {}, "history": {}}))
    with pytest.raises(DataError, match="not a whole trial of fastmlp"):
        TrialStore(tmp_path, "data").load(TRIAL)
