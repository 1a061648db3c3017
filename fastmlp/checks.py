"""What no training can begin with: batches, dropout and label smoothing that suit neither the data nor the network."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastmlp.errors import ConfigError


def check_batches(n: int, batch_size: int, batch_norm: bool) -> None:
    """Refuse batch sizes that cannot be trained with.

    Raises
    ------
    ConfigError
        A batch larger than the data, or a last batch of one row under batch norm (which needs two for a variance).
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size = {batch_size} must be at least 1")
    if batch_size > n:
        raise ConfigError(f"batch_size = {batch_size} is larger than the {n} training examples: "
                          f"choose one of at most {n}")
    if batch_norm and (n % batch_size == 1 or batch_size == 1):
        better = next(size for size in range(max(2, batch_size - 1), n + 1)
                      if n % size != 1 and size != batch_size) if n > 1 else None
        raise ConfigError(f"batch_size = {batch_size} leaves a batch of one row of the {n} training examples, and "
                          f"batch norm needs at least two: choose another, such as {better}, or switch batch norm off")


def check_suits(hidden: Sequence[int], loss: str, dropout: float, label_smoothing: float,
                named: Callable[[str], str] = "{} =".format) -> None:
    """Refuse what cannot be, or would have no meaning for such a network; `named` is how an option is called.

    Raises
    ------
    ConfigError
        One of them is not from 0 to below 1; dropout without hidden layers; label smoothing of the hinge loss.
    """
    for name, value in (("dropout", dropout), ("label_smoothing", label_smoothing)):
        if not 0 <= value < 1:
            raise ConfigError(f"{named(name)} {value} must be at least 0 and below 1")
    if dropout and not hidden:
        raise ConfigError(f"{named('dropout')} {dropout} drops units of hidden layers, and there are none: leave it "
                          f"out, or ask for hidden layers")
    if label_smoothing and loss != "cross-entropy":
        raise ConfigError(f"{named('label_smoothing')} {label_smoothing} belongs to the loss cross-entropy, not to "
                          f"{loss}: leave it out")
