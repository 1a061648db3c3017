"""Going back: all of the state, or some members' parts of it, in the arrays that recorded steps know."""

import numpy as np
import pytest
from recipes import OPTIMIZERS

from fastmlp.good_state import GoodState


@pytest.fixture
def trained(make_trainer):
    """A population after an epoch, and the state then; since then everything has changed."""
    def make(optimizer):
        trainer = make_trainer(members=3, optimizer=OPTIMIZERS[optimizer]())
        trainer.run_epoch()
        good = GoodState(trainer.network, trainer.optimizer)
        then = [array.copy() for array in arrays(trainer)]
        trainer.run_epoch()
        return trainer, good, then
    return make


def arrays(trainer):
    network = trainer.network
    return [*network.views().values(), *(array.reshape(3, -1) for pair in network.moments(network.running) for array in
                                         pair),
            *(view for buffer in trainer.optimizer.state.values()
              for view in network.layout.member_views(buffer).values())]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_whole_state_comes_back_in_the_same_arrays(trained, optimizer):
    trainer, good, then = trained(optimizer)
    places = [array.__array_interface__["data"][0] for array in arrays(trainer)]
    assert good.restore() is trainer.optimizer
    for now, before in zip(arrays(trainer), then, strict=True):
        assert np.array_equal(now, before)
    assert [array.__array_interface__["data"][0] for array in arrays(trainer)] == places
    assert trainer.optimizer.step == 3


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_some_members_come_back_and_the_others_stay(trained, optimizer):
    trainer, good, then = trained(optimizer)
    later = [array.copy() for array in arrays(trainer)]
    good.restore_members([0, 2])
    for now, before, after in zip(arrays(trainer), then, later, strict=True):
        assert np.array_equal(now[[0, 2]], before[[0, 2]])
        assert np.array_equal(now[1], after[1])
    assert any(not np.array_equal(before, after) for before, after in zip(then, later, strict=True))


def test_keeping_again_remembers_the_present_and_reuses_its_memory(trained):
    trainer, good, _ = trained("momentum")
    copies = dict(good._saved["state"])
    good.keep(trainer.optimizer)
    assert all(good._saved["state"][name] is array for name, array in copies.items())
    expected = [array.copy() for array in arrays(trainer)]
    trainer.run_epoch()
    good.restore()
    for now, before in zip(arrays(trainer), expected, strict=True):
        assert np.array_equal(now, before)
