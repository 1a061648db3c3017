"""The flat buffer: every number belongs to one tensor, views share its memory, blocks cover it."""

import numpy as np
import pytest

from fastmlp.errors import ConfigError
from fastmlp.layout import Layout, NetworkSpec, members_first

SPECS = [NetworkSpec(4, (), 3), NetworkSpec(4, (5,), 3, False), NetworkSpec(4, (5, 2), 3, True),
         NetworkSpec(3, (6, 5, 4, 3), 2, True)]


def test_parameters_are_counted_by_hand():
    assert NetworkSpec(3072, (), 10).n_parameters == 3072 * 10 + 10
    assert NetworkSpec(4, (5,), 3, batch_norm=False).n_parameters == 4 * 5 + 5 + 5 * 3 + 3
    assert NetworkSpec(4, (5,), 3, batch_norm=True).n_parameters == 4 * 5 + 5 + 5 + 5 * 3 + 3


def test_a_layer_has_a_bias_or_a_batch_norm_and_the_output_always_a_bias():
    names = [tensor.name for tensor in NetworkSpec(4, (5, 6), 3).tensors()]
    assert names == ["w0", "w1", "w2", "gamma0", "beta0", "gamma1", "beta1", "b2"]
    assert [tensor.name for tensor in NetworkSpec(4, (5,), 3, False).tensors()] == ["w0", "w1", "b0", "b1"]


@pytest.mark.parametrize("members", [1, 2, 5])
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: "-".join(map(str, spec.sizes)))
class TestLayout:
    def test_the_tensors_cover_the_buffer_once(self, spec, members):
        layout = Layout(spec, members, np)
        buffer = np.zeros(layout.size)
        for view in layout.member_views(buffer).values():
            view += 1.0
        assert buffer.tolist() == [1.0] * layout.size
        assert layout.size == members * spec.n_parameters

    def test_both_kinds_of_views_are_the_same_memory_and_the_same_numbers(self, spec, members):
        layout = Layout(spec, members, np)
        buffer = np.arange(layout.size, dtype=np.float64)
        by_member, computing = layout.member_views(buffer), layout.computing_views(buffer)
        for tensor in spec.tensors():
            assert by_member[tensor.name].shape == (members, *tensor.shape)
            assert np.shares_memory(by_member[tensor.name], buffer)
            assert np.shares_memory(computing[tensor.name], buffer)
            wide = computing[tensor.name]
            for k in range(members):
                n_out = tensor.shape[-1]
                part = wide[0, ..., k * n_out:(k + 1) * n_out] if tensor.layer == 0 else wide[k]
                assert np.array_equal(by_member[tensor.name][k], part)

    def test_blocks_cover_the_buffer_once_and_know_weights_from_vectors(self, spec, members):
        layout = Layout(spec, members, np)
        covered, kind = np.zeros(layout.size), np.zeros(layout.size)
        for block in layout.blocks:
            block.view(covered)[...] += 1.0
            block.view(kind)[...] = block.is_weight
        assert covered.tolist() == [1.0] * layout.size
        for name, view in layout.member_views(kind).items():
            assert np.all(view == name.startswith("w")), name

    def test_what_a_block_spreads_reaches_the_right_member_and_only_weights_are_penalised(self, spec, members):
        layout = Layout(spec, members, np)
        values = np.arange(1.0, members + 1.0)
        member_of, penalty_of = np.zeros(layout.size), np.zeros(layout.size)
        for block in layout.blocks:
            block.view(member_of)[...] = block.spread(values)
            penalty = block.penalty(values)
            if penalty is not None:
                block.view(penalty_of)[...] = penalty
        for name, view in layout.member_views(member_of).items():
            for k in range(members):
                assert np.all(view[k] == values[k]), name
        for name, view in layout.member_views(penalty_of).items():
            for k in range(members):
                assert np.all(view[k] == (2.0 * values[k] if name.startswith("w") else 0.0)), name


def test_one_network_is_updated_in_two_blocks():
    assert len(Layout(NetworkSpec(4, (5, 6), 3), 1, np).blocks) == 2


def test_members_first_splits_columns_without_a_copy():
    wide = np.arange(12.0).reshape(1, 2, 6)
    view = members_first(wide, 3, np)
    assert view.tolist() == [[[0, 1], [6, 7]], [[2, 3], [8, 9]], [[4, 5], [10, 11]]]
    assert np.shares_memory(view, wide)


@pytest.mark.parametrize("details", [
    {"loss": "cross_entropy"}, {"activation": "sine"}, {"hidden": (0,)}, {"hidden": (2.5,)}, {"n_classes": 0},
    {"batch_norm": 1}])
def test_a_spec_that_cannot_be_is_refused(details):
    with pytest.raises(ConfigError, match=r"cannot be"):
        NetworkSpec(**{"n_inputs": 3, "hidden": (4,), "n_classes": 2, **details})
