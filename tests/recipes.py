"""The optimizers that trainings are tested with, by name."""

from fastmlp.optimizers import SGD, Adam

OPTIMIZERS = {
    "sgd": lambda: SGD(),
    "momentum": lambda: SGD(momentum=0.9),
    "nesterov": lambda: SGD(momentum=0.9, nesterov=True),
    "adam": lambda: Adam(decoupled=False),
    "adamw": lambda: Adam(),
}
