"""The number of threads is found out while operations run."""

import pytest

from fastmlp.kernels.thread_choice import REVISIT, ThreadChoice

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
    proposed = run(choice, lambda threads: 1.0 + abs(threads - fastest), REVISIT)
    assert proposed[9:] == [fastest] * (REVISIT - 9)
    assert choice.best == fastest


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
