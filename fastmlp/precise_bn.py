"""Batch norm's statistics of the final weights, in place of moving averages over the last weights."""

from __future__ import annotations

import numpy as np

from fastmlp.errors import ConfigError
from fastmlp.examples import Examples
from fastmlp.network import Network
from fastmlp.seeds import Stream, generator


def check_precise_bn(network: Network) -> None:
    """Refuse a network that has no statistics.

    Raises
    ------
    ConfigError
        It has no batch norm, or no hidden layer.
    """
    if not network.running.shape[0]:
        raise ConfigError("precise_bn measures the statistics of batch norm, and this network has none: leave it out")


def measure_statistics(network: Network, examples: Examples, batch_size: int) -> None:
    """Replace the running statistics by those of one pass over the examples, with the weights as they are.

    mean = sum of n_B mean_B / n and var = sum of n_B var_B / n, over the batches B of n_B of the n examples. That is
    what the moving averages estimate, without their noise and delay: PreciseBN of Wu & Johnson 2021, "Rethinking
    'Batch' in BatchNorm", section 3. (They add to var the variance of mean_B; here it is as biased as in training.)
    The batches are drawn at random, as in training; images are not mirrored or shifted.

    Parameters
    ----------
    network : Network
        With batch norm; `running` is written, of all members.
    examples : Examples
        The training part.
    batch_size : int
        That of the training, as each batch is normalised by itself.
    """
    full = examples.new_batch(batch_size)
    at_once = max(1, examples.rows_at_once // batch_size) * batch_size
    lengths = [min(at_once, examples.n - start) for start in range(0, examples.n, at_once)]
    xp, seen = network.backend.xp, 0
    total = network.backend.zeros(network.running.shape, np.float64)        # of many batches float32 would lose digits
    with np.errstate(all="ignore"), network.backend.explaining_memory():    # of members that are frozen
        for rows in examples.deliver(examples.order(generator(0, Stream.STATISTICS), lengths), lengths):
            for start in range(0, rows.shape[0], batch_size):
                n = min(batch_size, rows.shape[0] - start)
                batch = full if n == batch_size else examples.new_batch(n)
                examples.read(rows[start:start + n], batch)
                network.forward(batch.x, batch.weights)
                total += n * xp.astype(network.statistics, xp.float64)
                seen += n
        network.running[...] = xp.astype(total / seen, network.running.dtype)
    network.has_running = True
