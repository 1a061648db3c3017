"""The number of threads is found out while operations run."""

import pytest

from fastmlp.kernels.thread_choice import FIRST_REVISIT, REVISIT, ThreadChoice

pytestmark = pytest.mark.L0


def run(choice, seconds_with, times):
    proposed = []
    for _ in range(times):
        proposed.append(choice.propose())
        choice.took(proposed[-1], seconds_with(proposed[-1]))
    return proposed


@pytest.mark.parametrize("most", [1, 2, 3, 6, 16])
def test_every_power_of_two_and_the_highest_number_have_their_turn(most):
    proposed = set(run(ThreadChoice(most), lambda threads: 1.0, 40))
    assert proposed == {1 << k for k in range(5) if 1 << k < most} | {most}


@pytest.mark.parametrize("fastest", [1, 2, 4])
def test_the_fastest_is_used_between_trials(fastest):
    choice = ThreadChoice(4)
    proposed = run(choice, lambda threads: 1.0 + abs(threads - fastest), 9 + FIRST_REVISIT + 2 + 2 * FIRST_REVISIT)
    assert proposed[9:9 + FIRST_REVISIT] == [fastest] * FIRST_REVISIT
    assert sorted({1, 2, 4} - {fastest}) == proposed[9 + FIRST_REVISIT:][:2]
    assert proposed[-2 * FIRST_REVISIT:] == [fastest] * (2 * FIRST_REVISIT)
    assert choice.best == fastest


def test_slow_first_trials_do_not_count_for_long():
    choice = ThreadChoice(2)
    run(choice, lambda threads: 9.0 if threads == 2 else 1.0, 6)        # something else was going on
    assert choice.best == 1
    run(choice, lambda threads: 1.0 / threads, 8 * FIRST_REVISIT)
    assert choice.best == 2


def test_it_changes_its_mind_when_the_machine_becomes_busy_and_again_when_it_is_free():
    choice = ThreadChoice(2)
    run(choice, lambda threads: 1.0 / threads, REVISIT)
    assert choice.best == 2
    run(choice, lambda threads: 1.0 * threads**2, 6 * REVISIT)
    assert choice.best == 1
    run(choice, lambda threads: 1.0 / threads, 8 * REVISIT)
    assert choice.best == 2


def test_a_fixed_number_is_the_only_one():
    assert set(run(ThreadChoice(8, fixed=3), lambda threads: 1.0, 100)) == {3}
