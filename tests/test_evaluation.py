"""Evaluation by running statistics beside a direct formula."""

import numpy as np
import pytest
from tolerances import assert_close

from fastmlp.backend import Backend
from fastmlp.evaluation import (
    count_votes,
    ensemble_accuracy,
    evaluate,
    folded_layers,
    majority,
    predict_ballots,
    predict_logits,
    softmax,
)
from fastmlp.network import BATCH_NORM_EPS


def direct_logits(network, x, member):
    """One example after the other, normalised unit by unit."""
    spec, views = network.spec, {name: view[member] for name, view in network.views().items()}
    sizes, members = list(spec.hidden), network.members
    half, place, statistics = network.running.size // 2, 0, []
    for width in sizes:
        # members lie side by side in every layer: (members, width)
        here = slice(place + member * width, place + (member + 1) * width)
        statistics.append((network.running[:half][here], network.running[half:][here]))
        place += members * width
    logits = []
    for row in x:
        y = row
        for k in range(spec.n_layers):
            s = y @ views[f"w{k}"]
            if spec.normalized(k):
                mean, var = statistics[k] if network.has_running else (0.0, 1.0 - BATCH_NORM_EPS)
                s = views[f"gamma{k}"] * (s - mean) / np.sqrt(var + BATCH_NORM_EPS) + views[f"beta{k}"]
            else:
                s = s + views[f"b{k}"]
            y = np.tanh(s) if k < spec.n_layers - 1 else s
        logits.append(y)
    return np.array(logits)


@pytest.fixture
def trained(make_trainer):
    def make(hidden=(6, 5), batch_norm=True, members=3, epochs=3, **options):
        trainer = make_trainer(hidden, batch_norm=batch_norm, activation="tanh", members=members, l2=0.01, **options)
        for _ in range(epochs):
            trainer.run_epoch()
        rng = np.random.default_rng(9)
        for name, view in trainer.network.views().items():
            if not name.startswith("w"):
                view += rng.normal(0, 0.3, view.shape)
        return trainer.network, trainer.examples
    return make


@pytest.mark.parametrize("epochs", [0, 3])
@pytest.mark.parametrize(("hidden", "batch_norm"), [((), False), ((6, 5), True), ((6, 5), False), ((3,), True)])
@pytest.mark.parametrize("members", [1, 3])
def test_loss_cost_accuracy_and_logits_equal_the_direct_formula(trained, hidden, batch_norm, members, epochs):
    network, examples = trained(hidden, batch_norm, members, epochs)
    score, logits = evaluate(network, examples), predict_logits(network, examples)
    for k in range(members):
        expected = direct_logits(network, examples.data, k)
        assert_close(logits[k], expected, 1e-12)
        p = np.exp(expected) / np.exp(expected).sum(axis=1, keepdims=True)
        loss = -np.log(p[np.arange(examples.n), examples.labels]).mean()
        squares = sum(np.sum(view[k]**2) for name, view in network.views().items() if name.startswith("w"))
        assert_close(score.loss[k], loss, 1e-12)
        assert_close(score.cost[k], loss + 0.01 * squares, 1e-12)
        assert score.accuracy[k] == np.mean(expected.argmax(axis=1) == examples.labels)


def test_folding_leaves_the_network_as_it_is(trained):
    network, examples = trained()
    before = [network.parameters.copy(), network.running.copy(), network.statistics.copy()]
    folded_layers(network)
    evaluate(network, examples)
    for old, now in zip(before, (network.parameters, network.running, network.statistics), strict=True):
        assert np.array_equal(old, now)


def set_rows_at_once(monkeypatch, network, rows):
    bytes_a_row = 8 * (network.spec.n_inputs + 2 * network.members * sum(network.spec.sizes[1:]))
    monkeypatch.setattr(Backend, "chunk_bytes", rows * bytes_a_row)


@pytest.mark.parametrize("rows_at_once", [1, 7, 59, 60, 1000])
def test_the_size_of_the_chunks_does_not_matter(trained, monkeypatch, rows_at_once):
    network, examples = trained()
    expected, logits = evaluate(network, examples), predict_logits(network, examples)
    set_rows_at_once(monkeypatch, network, rows_at_once)
    got = evaluate(network, examples)
    for name in ("loss", "cost", "accuracy"):
        assert_close(getattr(got, name), getattr(expected, name), 1e-13)
    assert_close(predict_logits(network, examples), logits, 1e-13)


def test_the_loss_is_weighted_as_in_training(trained, make_examples, monkeypatch):
    network, examples = trained()
    counts = np.arange(60) % 3
    set_rows_at_once(monkeypatch, network, 25)                          # chunks of unequal weight
    weighted = evaluate(network, make_examples(sample_weight=counts))
    p = softmax(predict_logits(network, examples))
    for k in range(3):
        losses = -np.log(p[k, np.arange(60), examples.labels])
        assert_close(weighted.loss[k], np.sum(counts * losses) / counts.sum(), 1e-13)


def test_softmax_sums_to_one_and_cannot_overflow():
    p = softmax(np.array([[1e4, 0.0, -1e4], [0.0, 0.0, 0.0]], np.float32))
    assert p.dtype == np.float64
    assert_close(p, [[1, 0, 0], [1 / 3] * 3], 1e-15)


def test_a_vote_counts_heads_and_ties_go_to_the_higher_mean_probability():
    sure, mild = [9.0, 0.0, 0.0], [0.0, 1.0, 0.0]
    logits = np.array([[sure, sure], [mild, mild], [mild, [0.0, 0.0, 1.0]]])            # (M, n, C) = (3, 2, 3)
    votes = count_votes(logits)
    assert votes.tolist() == [[1, 2, 0], [1, 1, 1]]
    scores = np.log(softmax(logits).mean(axis=0))
    assert scores.argmax(axis=1).tolist() == [0, 0]
    assert majority(votes, scores).tolist() == [1, 0]


def test_ensembles_are_scored_by_mean_probability_or_by_vote(trained, make_examples, monkeypatch):
    network, _ = trained()
    examples = make_examples(sample_weight=np.arange(60) % 3)
    set_rows_at_once(monkeypatch, network, 25)
    p = softmax(predict_logits(network, examples))                      # (M, n, C)
    scores, votes = predict_ballots(network, examples)
    assert_close(np.exp(scores), p.mean(axis=0), 1e-13)
    heads = np.array([np.bincount(p[:, k].argmax(axis=1), minlength=4) for k in range(60)])
    assert (votes == heads).all()
    by_mean, by_vote = p.mean(axis=0).argmax(axis=1), (heads + p.mean(axis=0)).argmax(axis=1)
    assert (by_mean != by_vote).any()
    for decided, vote in ((by_mean, False), (by_vote, True)):
        expected = np.average(decided == examples.labels, weights=np.arange(60) % 3)
        assert ensemble_accuracy(network, examples, range(3), vote=vote) == pytest.approx(expected)
