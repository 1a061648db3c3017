"""Learning rates step by step: their ends, their peaks, their shapes, one a member."""

import numpy as np
import pytest

from fastmlp import schedules

STEPS = np.arange(0, 41)


def test_constant_is_constant():
    assert schedules.constant(STEPS, lr=0.3).tolist() == [0.3] * 41


@pytest.mark.parametrize("step_size", [1, 5, 500])
def test_cyclical_is_a_triangle_from_and_to_its_minimum(step_size):
    lr = schedules.cyclical(np.arange(6 * step_size + 1), lr_min=1e-5, lr_max=1e-1, step_size=step_size)
    for cycle in range(3):
        begin = 2 * cycle * step_size
        assert lr[begin] == 1e-5
        assert lr[begin + step_size] == pytest.approx(1e-1, rel=1e-15)
        assert lr[begin + 2 * step_size] == 1e-5
        rise, fall = lr[begin:begin + step_size + 1], lr[begin + step_size:begin + 2 * step_size + 1]
        assert np.allclose(np.diff(rise), (1e-1 - 1e-5) / step_size, rtol=1e-9, atol=0)
        assert np.allclose(rise, fall[::-1], rtol=1e-12, atol=0)


def test_one_cycle_begins_low_peaks_after_the_warm_up_and_ends_at_its_minimum():
    lr = schedules.one_cycle(np.arange(101), lr_min=1e-4, lr_max=0.5, total_steps=100, warm_up=0.2)
    assert lr[0] == pytest.approx(0.02)
    assert lr.argmax() == 20
    assert lr[20] == 0.5
    assert lr[100] == 1e-4
    assert lr[[10, 60]] == pytest.approx([(0.02 + 0.5) / 2, (0.5 + 1e-4) / 2])     # half way of half a cosine
    assert np.all(np.diff(lr[:21]) > 0)
    assert np.all(np.diff(lr[20:]) < 0)


def test_cosine_falls_from_the_maximum_to_the_minimum_and_stays_there():
    lr = schedules.cosine(np.arange(61), lr_min=0.1, lr_max=0.9, total_steps=40)
    assert lr[0] == 0.9
    assert lr[20] == pytest.approx(0.5)
    assert lr[10] == pytest.approx(0.1 + 0.4 * (1 + np.sqrt(0.5)))
    assert np.all(lr[40:] == 0.1)


def test_step_decay_drops_after_every_so_many_steps():
    lr = schedules.step_decay(STEPS, lr=0.8, drop=0.5, every=10)
    assert lr[[0, 9, 10, 19, 20, 40]].tolist() == [0.8, 0.8, 0.4, 0.4, 0.2, 0.05]


LOW, HIGH = np.array([1e-5, 1e-3, 0.0]), np.array([0.1, 0.2, 0.3])
BY_NAME = {
    "constant": lambda step, low, high: schedules.constant(step, lr=high),
    "cyclical": lambda step, low, high: schedules.cyclical(step, lr_min=low, lr_max=high, step_size=10),
    "one_cycle": lambda step, low, high: schedules.one_cycle(step, lr_min=low, lr_max=high, total_steps=40),
    "cosine": lambda step, low, high: schedules.cosine(step, lr_min=low, lr_max=high, total_steps=40),
    "step_decay": lambda step, low, high: schedules.step_decay(step, lr=high, drop=0.3, every=7),
}


@pytest.mark.parametrize("name", BY_NAME)
def test_rates_of_a_population_are_the_members_own(name):
    together = BY_NAME[name](STEPS[:, None], LOW, HIGH)
    assert together.shape == (41, 3)
    assert together.dtype == np.float64
    for k in range(3):
        assert np.array_equal(together[:, k], BY_NAME[name](STEPS, LOW[k], HIGH[k]))


@pytest.mark.parametrize("name", BY_NAME)
def test_a_schedule_is_a_pure_function_of_the_step(name):
    backwards = [float(BY_NAME[name](int(step), 0.01, 0.1)) for step in STEPS[::-1]]
    assert backwards[::-1] == pytest.approx(BY_NAME[name](STEPS, 0.01, 0.1), rel=1e-15)    # pow has two roundings


@pytest.mark.parametrize(("name", "first_half"), [("linear_rise", 0.505), ("geometric_rise", 0.1)])
def test_a_rise_goes_from_its_minimum_in_the_first_step_to_its_maximum_in_the_last(name, first_half):
    rise = getattr(schedules, name)
    for total_steps, expected in ((1, [0.01]), (2, [0.01, 1.0]), (3, [0.01, first_half, 1.0])):
        lr = rise(np.arange(total_steps), lr_min=0.01, lr_max=1.0, total_steps=total_steps)
        assert lr == pytest.approx(expected, rel=1e-14)


RISES = {
    "linear_rise": lambda step, low, high: schedules.linear_rise(step, lr_min=low, lr_max=high, total_steps=41),
    "geometric_rise": lambda step, low, high: schedules.geometric_rise(step, lr_min=low, lr_max=high, total_steps=41),
}


@pytest.mark.parametrize("name", BY_NAME | RISES)
def test_rates_are_computed_in_float64_whatever_the_dtype_of_steps_and_rates(name):
    low, high = np.float32(0.01), np.float32(0.1)
    expected = (BY_NAME | RISES)[name](STEPS, float(low), float(high))
    assert np.array_equal((BY_NAME | RISES)[name](STEPS.astype(np.float32), float(low), float(high)), expected)
    if name in ("constant", "step_decay"):
        assert np.array_equal((BY_NAME | RISES)[name](STEPS, low, high), expected)


def test_a_cosine_is_flat_before_its_beginning():
    assert schedules.cosine(-5, lr_min=0.1, lr_max=0.9, total_steps=40) == 0.9


def test_training_of_whole_cycles_ends_at_the_minimum(make_trainer):
    trainer = make_trainer(batch_size=20, schedule=lambda step: schedules.cyclical(
        step, lr_min=1e-5, lr_max=0.1, step_size=6))
    for _ in range(4):                                          # 3 steps an epoch: one cycle of 12
        trainer.run_epoch()
    assert trainer.rates(trainer.step, 1).item() == 1e-5
