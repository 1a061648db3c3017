"""Recipes for CIFAR-10, from the official files to a trained network, in fastmlp and in PyTorch.

Both read the same files, hold out 5,000 of the 50,000 training images, standardise each input by the other 45,000,
draw He's initial weights and train for a fixed number of steps, without a look at the accuracy on the way.
"""

import os
import time
from dataclasses import dataclass, replace

import numpy as np

from fastmlp.data.cifar10 import ROWS_PER_BATCH, TEST_BATCH, TRAIN_BATCHES, read_parts
from fastmlp.data.split import stratified_split
from fastmlp.schedules import cyclical, one_cycle

CLASSES, COLOURS, SIDE = 10, 3, 32
ROWS_AT_ONCE = 500      # of images while they are pooled: what fits into a cache
HELD_OUT = 0.1          # of the training images


@dataclass(frozen=True)
class Recipe:
    """What is trained, and how: SGD on cross-entropy plus l2 times the squared weights."""

    hidden: tuple[int, ...]
    epochs: int
    schedule: str = "cyclical"
    lr_max: float = 0.1
    lr_min: float = 1e-5
    batch: int = 100
    l2: float = 0.005
    momentum: float = 0.0
    pooled: bool = False        # the means of 2 x 2 pixels in place of the pixels

    def __str__(self):
        changed = [f"{name} {value:g}" for name, value, usual in (
            ("batch", self.batch, 100), ("momentum", self.momentum, 0.0)) if value != usual]
        return ", ".join(["-".join(map(str, self.hidden)), f"{self.epochs} epochs",
                          f"{self.schedule} to {self.lr_max:g}", f"l2 {self.l2:g}", *changed,
                          *(["pooled"] * self.pooled)])

    def rates(self, n, trial_epochs=None):
        """The rate of every step, float64 (steps,), when there are n examples."""
        steps_per_epoch = -(-n // self.batch)
        steps = (trial_epochs or self.epochs) * steps_per_epoch
        if self.schedule == "cyclical":         # two cycles
            return cyclical(np.arange(steps), lr_min=self.lr_min, lr_max=self.lr_max, step_size=max(1, steps // 4))
        return one_cycle(np.arange(steps), lr_min=self.lr_min, lr_max=self.lr_max, total_steps=steps)


#: That of the reports which fastmlp began with: two cycles of 10 epochs.
REPORTS = Recipe((50, 50), epochs=20)


def _quick(hidden, epochs, lr_max, **changes):
    """One cycle on pooled images."""
    options = {"schedule": "one-cycle", "l2": 0.003, "pooled": True, **changes}
    return Recipe(hidden, epochs, lr_max=lr_max, **options)


#: What was considered instead, from fast to good; see `time_to_accuracy.py --choose`.
CANDIDATES = [
    REPORTS, replace(REPORTS, pooled=True),
    *(_quick((50, 50), epochs, 0.3) for epochs in (5, 10)),
    *(_quick((100, 50), epochs, 0.3) for epochs in (3, 5, 6, 8)),
    _quick((100, 50), 6, 0.6), _quick((100, 50), 6, 0.05, momentum=0.9), _quick((100, 50), 6, 0.3, pooled=False),
    *(_quick((150, 50), epochs, 0.3) for epochs in (4, 5)), *(_quick((150, 50), epochs, 0.4) for epochs in (6, 8, 10)),
    _quick((150, 50), 5, 0.05, momentum=0.9), _quick((150, 50), 6, 0.6, batch=200),
    _quick((200, 50), 6, 0.4), *(_quick((200, 100), epochs, 0.3) for epochs in (3, 5, 8)),
]
#: Of those whose validation accuracy, over three seeds, is a point above 53.5 % and 55 %: the fastest, or one that is
#: better and slower by less than a twentieth.
FAST, GOOD = _quick((100, 50), 8, 0.3), _quick((200, 100), 8, 0.3)


@dataclass(frozen=True)
class Run:
    """A finished training: its seconds by part, and what tells the accuracy on images (n, 3072) with labels."""

    seconds: dict[str, float]
    accuracy: object

    @property
    def total(self):
        return sum(self.seconds.values())


class Stopwatch:
    """Seconds by part, each from the end of the one before."""

    def __init__(self):
        self.seconds, self._last = {}, time.perf_counter()

    def done(self, part):
        now = time.perf_counter()
        self.seconds[part], self._last = now - self._last, now


def test_part(data_dir):
    """The 10,000 test images and their labels."""
    return read_parts([[TEST_BATCH]], data_dir)[0]


def held_out(data_dir, seed):
    """The images that a run with this seed has held out, and their labels."""
    images, labels = read_parts([TRAIN_BATCHES], data_dir)[0]
    _, drawn = split(labels, seed)
    return images[drawn], labels[drawn]


def split(labels, seed):
    return stratified_split(labels, round(HELD_OUT * len(labels)), np.random.default_rng(seed))


def prepared(images, recipe):
    """The inputs that a recipe wants, as bytes: (n, 3072) -> (n, 3072) or (n, 768)."""
    return pooled(images) if recipe.pooled else images


def pooled(images):
    """The mean of each 2 x 2 pixels, rounded: (n, 3072) -> (n, 768)."""
    n = len(images)
    result = np.empty((n, COLOURS, SIDE // 2, SIDE // 2), np.uint8)
    for first in range(0, n, ROWS_AT_ONCE):
        some = images[first:first + ROWS_AT_ONCE].reshape(-1, COLOURS, SIDE // 2, 2, SIDE)
        rows = some[:, :, :, 0].astype(np.uint16) + some[:, :, :, 1]            # (rows, 3, 16, 32)
        result[first:first + ROWS_AT_ONCE] = (rows[..., ::2] + rows[..., 1::2] + 2) >> 2
    return result.reshape(n, -1)


def train_fastmlp(recipe, data_dir, seed, threads=None, trial_epochs=None):
    """A network by a recipe, with fastmlp."""
    from fastmlp.backend import resolve
    from fastmlp.data.standardize import Standardizer
    from fastmlp.evaluation import evaluate
    from fastmlp.examples import Examples
    from fastmlp.layout import NetworkSpec
    from fastmlp.network import Network
    from fastmlp.optimizers import SGD
    from fastmlp.trainer import Trainer

    watch = Stopwatch()
    images, labels = read_parts([TRAIN_BATCHES], data_dir)[0]
    watch.done("reading")
    kept, _ = split(labels, seed)
    x, labels = prepared(images[kept], recipe), labels[kept]
    standardizer, backend = Standardizer.fit(x, "feature"), resolve("cpu", threads=threads)
    watch.done("preparing")
    network = Network(NetworkSpec(x.shape[1], recipe.hidden, CLASSES), backend, l2=recipe.l2)
    network.initialize([seed])
    rates = recipe.rates(len(x), trial_epochs)
    trainer = Trainer(network, Examples(x, labels, CLASSES, standardizer, backend), SGD(recipe.momentum),
                      lambda step: rates[step], batch_size=recipe.batch, seed=seed)
    while trainer.step < len(rates):
        trainer.run_epoch()
    watch.done("training")

    def accuracy(images, labels):
        examples = Examples(prepared(images, recipe), labels, CLASSES, standardizer, backend)
        return float(evaluate(network, examples).accuracy[0])

    return Run(watch.seconds, accuracy)


def train_torch(recipe, data_dir, seed, threads=None, trial_epochs=None):
    """The same with PyTorch, as its user would write it: all data standardised in memory, modules, a fused update."""
    import torch

    torch.manual_seed(seed)
    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))
    watch = Stopwatch()
    images, labels = read_for_torch(data_dir)
    watch.done("reading")
    kept = torch.from_numpy(split(labels.numpy(), seed)[0])
    x, labels = _inputs(images[kept], recipe), labels[kept]
    mean = x.mean(0)
    std = x.sub_(mean).square().mean(0).sqrt()          # seven times as fast as x.std(0)
    x.div_(std)
    watch.done("preparing")
    network = torch_network(recipe, x.shape[1])
    optimizer = torch_optimizer(network, recipe)
    for rates in recipe.rates(len(x), trial_epochs).reshape(-1, -(-len(x) // recipe.batch)).tolist():       # an epoch's
        for rate, rows in zip(rates, torch.randperm(len(x)).split(recipe.batch), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.zero_grad(set_to_none=True)
            torch.nn.functional.cross_entropy(network(x[rows]), labels[rows]).backward()
            optimizer.step()
    watch.done("training")

    def accuracy(images, labels):
        network.eval()
        with torch.inference_mode():
            inputs = _inputs(torch.from_numpy(images), recipe).sub_(mean).div_(std)
            return float((network(inputs).argmax(1) == torch.from_numpy(labels)).double().mean())

    return Run(watch.seconds, accuracy)


def read_for_torch(data_dir):
    """Images and labels of the training files as tensors of bytes (50,000, 3072) and int64."""
    import torch

    from fastmlp.data.cifar10 import BINARY

    folder = data_dir / BINARY.folder if (data_dir / BINARY.folder).is_dir() else data_dir
    records = torch.cat([torch.from_numpy(np.fromfile(folder / f"{name}.bin", np.uint8)) for name in TRAIN_BATCHES])
    records = records.reshape(len(TRAIN_BATCHES) * ROWS_PER_BATCH, -1)
    return records[:, 1:], records[:, 0].long()


def _inputs(images, recipe):
    """Bytes (n, 3072) as the floats that a recipe wants."""
    import torch

    if not recipe.pooled:
        return images.float()
    return torch.nn.functional.avg_pool2d(images.reshape(-1, COLOURS, SIDE, SIDE).float(), 2).flatten(1)


def torch_network(recipe, inputs):
    """Linear without bias, batch norm, ReLU, layer by layer; weights as He draws them."""
    import torch

    layers = []
    for width in recipe.hidden:
        layers += [torch.nn.Linear(inputs, width, bias=False), torch.nn.BatchNorm1d(width), torch.nn.ReLU()]
        inputs = width
    network = torch.nn.Sequential(*layers, torch.nn.Linear(inputs, CLASSES))
    for layer in network:
        if isinstance(layer, torch.nn.Linear):
            torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    torch.nn.init.zeros_(network[-1].bias)
    return network


def torch_optimizer(network, recipe):
    """One fused update; the penalty acts on the weights alone."""
    import torch

    weights = [p for p in network.parameters() if p.ndim == 2]
    others = [p for p in network.parameters() if p.ndim < 2]
    groups = [{"params": weights, "weight_decay": 2 * recipe.l2}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.SGD(groups, lr=0.0, momentum=recipe.momentum, fused=True)
