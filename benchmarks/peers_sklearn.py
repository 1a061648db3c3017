"""The same training by scikit-learn's MLPClassifier: an epoch is one `partial_fit` on standardised float32 data.

It has no batch norm, no schedule of our kind (its rate stays) and no populations. A part of an epoch is one on the
first rows only. It also checks the data and keeps the loss's mean, as it always does.
"""

from functools import partial

import numpy as np
from problem import CLASSES


def makers(case, problem, device):
    """What makes the contenders of a case, by name; see `contenders.makers`."""
    if device == "gpu" or case.batch_norm or case.section == "populations":
        return {}
    return {"scikit-learn": partial(make, case, problem)}


def make(case, problem):
    from sklearn.neural_network import MLPClassifier

    # Its penalty is alpha / 2 times the squares, over the number of examples in a batch.
    model = MLPClassifier(case.hidden, solver="sgd", momentum=0.0, nesterovs_momentum=False, batch_size=problem.batch,
                          alpha=2 * problem.l2 * problem.batch, learning_rate_init=float(problem.rate(problem.steps)))
    rows = slice(0, problem.steps * problem.batch)
    data, labels, classes = problem.standardised[rows], problem.labels[rows], np.arange(CLASSES)
    model.partial_fit(data[:problem.batch], labels[:problem.batch], classes=classes)      # makes its arrays
    for ours, theirs in zip(problem.weights(case)[0], model.coefs_, strict=True):
        theirs[...] = ours
    for biases in model.intercepts_:
        biases[...] = 0.0

    def run():
        model.partial_fit(data, labels)

    run.model = model
    return run
