"""Looking at a network: its logits, loss and accuracy on a part of the data, by running statistics.

For evaluation each batch norm is folded into its layer, w' = w * scale and b' = beta - mean * scale with
scale = gamma / sqrt(var + eps), so that a forward pass is products and activations only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.examples import Batch, Examples
from fastmlp.network import BATCH_NORM_EPS, Network

Array = Any

MOST_ROWS = 1 << 16     # at a time: so many can be added up in float32, and beyond it the host goes on in float64


@dataclass(frozen=True)
class Score:
    """How the members do on one part of the data; arrays (M,) in float64 on the host.

    Attributes
    ----------
    loss : mean loss, weighted as in training
    cost : loss plus penalty
    accuracy : fraction of the examples that are classified correctly, weighted likewise
    """

    loss: npt.NDArray[np.float64]
    cost: npt.NDArray[np.float64]
    accuracy: npt.NDArray[np.float64]


def folded_layers(network: Network) -> list[tuple[Array, Array]]:
    """Weights (M, D, H) and biases (M, H) of a network without batch norm that computes the same.

    Before the first training step there are no running statistics: then mean 0 and variance 1 stand in.
    """
    xp = network.backend.xp
    moments, layers = network.moments(network.running), []
    for k, layer in enumerate(network.layers):
        if layer.gamma is None:
            layers.append((layer.w, layer.b))
            continue
        mean, var = moments[k]                                          # (M, H)
        scale = layer.gamma / xp.sqrt(var + BATCH_NORM_EPS) if network.has_running else layer.gamma     # (M, H)
        layers.append((layer.w * scale[:, None, :], layer.beta - mean * scale))
    return layers


def chunks_of_logits(network: Network, examples: Examples) -> Iterator[tuple[Array, Array, Batch]]:
    """Row numbers (n,), logits (M, n, C) and the batch of one chunk after the other; valid until the next."""
    kernels, spec = network.kernels, network.spec
    layers = folded_layers(network)
    widest = spec.n_inputs + 2 * network.members * sum(spec.sizes[1:])      # numbers in memory for each row
    for_memory = network.backend.chunk_bytes // (network.dtype.itemsize * widest)
    rows_at_once = max(1, min(examples.rows_at_once, MOST_ROWS, for_memory))
    lengths = [min(rows_at_once, examples.n - start) for start in range(0, examples.n, rows_at_once)]
    batches = {n: examples.new_batch(n) for n in set(lengths)}
    for rows in examples.deliver(np.arange(examples.n), lengths):
        n = rows.shape[0]
        batch = batches[n]
        examples.read(rows, batch)
        y = batch.x[None, ...]                                           # (1, n, D)
        for k, (w, b) in enumerate(layers):
            s = network.empty((w.shape[0], n, w.shape[2]))
            kernels.linear(y, w, b, s)
            if k < len(spec.hidden):
                y = network.empty(s.shape)
                kernels.activation(s, y, kind=spec.activation)
            else:
                y = s
            y = network.by_member(y)                                    # (M, n, H)
        yield rows, y, batch


def evaluate(network: Network, examples: Examples) -> Score:
    """Loss, cost and accuracy of every member on all examples; the device is read at the end only."""
    with network.backend.explaining_memory():
        return _evaluate(network, examples)


def _evaluate(network: Network, examples: Examples) -> Score:
    read, xp = network.backend.to_host, network.backend.xp
    pieces = []                                                         # (M, 3): loss * share, correct, share
    for rows, logits, batch in chunks_of_logits(network, examples):
        loss, correct = network.empty((network.members,)), network.empty((network.members,))
        counts = examples.counts(rows)
        share = xp.sum(counts)
        network.loss(logits, batch.targets, batch.weights, loss, network.empty(logits.shape))
        network.kernels.count_correct(logits, xp.take(examples.labels, rows, axis=0), counts, correct)
        pieces.append(xp.stack([loss * share, correct, xp.ones_like(loss) * share], axis=-1))
    loss, correct, share = read(xp.stack(pieces)).astype(np.float64).sum(axis=0).T      # (M,) each
    share = np.where(share > 0, share, 1.0)
    loss = loss / share
    return Score(loss, loss + read(network.penalty()).astype(np.float64), correct / share)


def predict_logits(network: Network, examples: Examples) -> npt.NDArray[Any]:
    """Logits of every member for all examples, (M, n, C), on the host."""
    logits = np.empty((network.members, examples.n, network.spec.n_classes), network.dtype)
    start = 0
    with network.backend.explaining_memory():
        for rows, chunk, _ in chunks_of_logits(network, examples):
            logits[:, start:start + rows.shape[0]] = network.backend.to_host(chunk)
            start += rows.shape[0]
    return logits


def predict_ballots(network: Network, examples: Examples) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """Outputs whose softmax is the probability of each class, and the members' votes for it: both (n, C), on the host.

    A lone network's logits; of several members, whose probabilities are averaged, the logarithm of that mean.
    """
    if network.members == 1:
        logits = predict_logits(network, examples)
        return logits[0], count_votes(logits)
    shape, start = (examples.n, network.spec.n_classes), 0
    scores, votes = np.empty(shape), np.empty(shape, np.int64)
    with network.backend.explaining_memory():
        for rows, chunk, _ in chunks_of_logits(network, examples):
            logits, here = network.backend.to_host(chunk), slice(start, start + rows.shape[0])
            scores[here], votes[here] = mean_scores(logits), count_votes(logits)
            start += rows.shape[0]
    return scores, votes


def mean_scores(logits: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Logarithms of the members' mean probabilities.  logits (M, n, C)  ->  (n, C)."""
    return np.asarray(np.logaddexp.reduce(log_softmax(logits), axis=0) - np.log(len(logits)))


def count_votes(logits: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """How many members find each class the most probable.  logits (M, n, C)  ->  (n, C)."""
    return np.asarray((logits.argmax(axis=-1)[..., None] == np.arange(logits.shape[-1])).sum(axis=0))


def majority(votes: npt.NDArray[Any], scores: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """The class with the most votes; among several, the one of the highest score.  votes, scores (n, C)  ->  (n,).

    Examples
    --------
    >>> majority(np.array([[2, 1, 0], [1, 1, 0]]), np.array([[-2.0, -0.2, -3.0], [-2.0, -1.0, -0.9]])).tolist()
    [0, 1]
    """
    most = votes == votes.max(axis=-1, keepdims=True)
    return np.asarray(np.where(most, scores, -np.inf).argmax(axis=-1))


def ensemble_accuracy(network: Network, examples: Examples, members: Sequence[int], *, vote: bool = False) -> float:
    """Fraction of the examples that these members' averaged probabilities classify correctly, by sample weights.

    With `vote` it is that of the class that most of them vote for, see `majority`.
    """
    correct = total = 0.0
    read, chosen = network.backend.to_host, list(members)
    with network.backend.explaining_memory():
        for rows, chunk, _ in chunks_of_logits(network, examples):
            labels = read(network.backend.xp.take(examples.labels, rows, axis=0))
            counts = read(examples.counts(rows)).astype(np.float64)
            logits = read(chunk)[chosen]
            scores = mean_scores(logits)
            decided = majority(count_votes(logits), scores) if vote else scores.argmax(axis=-1)
            correct += float(counts @ (decided == labels))
            total += float(counts.sum())
    return correct / (total or 1.0)


def log_softmax(logits: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Logarithms of `softmax`, finite also where that is 0."""
    shifted = _below_zero(logits)
    shifted -= np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return shifted


def softmax(logits: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Probabilities along the last axis, on the host, in float64, shifted so that nothing overflows."""
    shifted = _below_zero(logits)
    np.exp(shifted, out=shifted)
    shifted /= shifted.sum(axis=-1, keepdims=True)
    return shifted


def _below_zero(logits: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Logits in float64, shifted so that the largest is 0; those that are further away than numbers go stay finite."""
    shifted = logits.astype(np.float64)
    with np.errstate(over="ignore"):
        shifted -= shifted.max(axis=-1, keepdims=True)
    return np.maximum(shifted, np.finfo(np.float64).min, out=shifted)
