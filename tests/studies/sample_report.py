"""A report with everything that a page can hold, made up; `python tests/studies/sample_report.py DIR` writes it."""

import sys
from pathlib import Path

import numpy as np

from fastmlp.studies import figures, interval_figures
from fastmlp.studies.findings import FAILS, HOLDS, UNDECIDED, Claim, Comparison, Finding, Report, Table
from fastmlp.studies.page import write_report

CIFAR = ("plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
HOSTILE = 'Does <script>alert("1")</script> & <b>"quoted"</b> | piped_text survive?'


def history(rng, best, *, epochs=20, cycles=2):
    step = np.arange(epochs + 1) * 450
    rise = best - 0.4 * np.exp(-np.arange(epochs + 1) / 3)
    loss = 2.3 - 2.4 * (rise - 0.1)
    phase = np.abs((np.arange(epochs + 1) * 2 * cycles / epochs + 1) % 2 - 1)
    return {"step": step, "lr": 1e-5 + 0.1 * phase, "train_loss": loss - 0.1 + rng.normal(0, 0.02, epochs + 1),
            "val_loss": loss + rng.normal(0, 0.03, epochs + 1), "train_cost": loss + 0.15, "val_cost": loss + 0.25,
            "train_accuracy": rise + 0.05, "val_accuracy": rise + rng.normal(0, 0.008, epochs + 1)}


def grid(rng):
    settings = [(eta, lam) for eta in (0.001, 0.01, 0.1, 1.0) for lam in (0, 0.01, 0.1, 1.0)]
    rows = [(f"η = {eta:g}, λ = {lam:g}", 0.40 - 0.06 * lam + rng.normal(0, 0.006)) for eta, lam in settings]
    comparisons = tuple(
        Comparison(f"{what}: test accuracy", round(accuracy, 3), accuracy + 0.002, 0.004, 5, True)
        for what, accuracy in rows[:9])
    return Finding(
        "001-eta-grid", "A softmax classifier: learning rate and penalty", "The report trains a network without hidden "
        "layers for 40 epochs with mini-batches of 100, for four pairs of learning rate and penalty, and shows its "
        "weights as images. We train the pairs with five seeds each.",
        (*comparisons, Comparison("η = 1, λ = 0: test accuracy", 0.2163, 0.3012, 0.011, 5, False,
                                  "The report's rate of 1 jumps between two minima; its last epoch is luck."),
         Comparison("η = 1, λ = 1: test accuracy, diverged in each of our seeds", 0.1, None, None, 0, None)),
        (Claim("A high learning rate makes training unstable.", HOLDS,
               "With η = 1 the loss varies by 0.9 between epochs, with η = 0.001 by 0.01."),
         Claim("More penalty always lowers test accuracy.", FAILS,
               "λ = 0.01 gives 0.402 ± 0.004; none 0.395 ± 0.004.")),
        (Table("Every pair", ("setting", "test accuracy", "validation accuracy", "training accuracy", "test loss",
                              "training cost", "seconds", "seeds"),
               tuple((what, f"{a:.4f}", f"{a + .002:.4f}", f"{a + .03:.4f}", f"{2.3 - a:.3f}", f"{2.5 - a:.3f}",
                      f"{12.3 + a:.1f}", "5") for what, a in rows)),),
        (figures.curves_figure("eta-grid-curves", "Loss, cost, accuracy and learning rate of the four pairs over five "
                               "seeds; bands are one standard deviation.",
                               [(f"η = {eta:g}, λ = 0", [history(rng, 0.38 + 0.02 * k) for _ in range(5)])
                                for k, eta in enumerate((0.001, 0.01, 0.1, 1.0))]),
         figures.images_figure("eta-grid-weights", "Weights of each class, each image scaled by itself.",
                               [(f"λ = {lam:g}", rng.normal(size=(3072, 10)), (3, 32, 32), CIFAR)
                                for lam in (0, 0.01, 0.1, 1.0)])),
        ("The validation part is 1,000 examples of the training files, chosen by the seed.",
         "Colours of images cannot be compared with one another."))


def search(rng):
    lambdas = np.logspace(-5, -1, 9)
    groups = {"coarse": [(lam, 0.51 - 3 * lam + rng.normal(0, 0.004, 3)) for lam in lambdas],
              "fine": [(lam, 0.52 - 3 * lam + rng.normal(0, 0.003, 5)) for lam in np.logspace(-4, -2.4, 7)]}
    rows = [(f"{number}", f"{10 ** rng.uniform(-5, -1):.3e}", f"{rng.uniform(0.47, 0.53):.4f}",
             f"{rng.uniform(1, 2):.3f}")
            for number in range(1, 61)]
    return Finding(
        "002-lambda-search", "Searching the penalty, coarse and then fine, with cyclical learning rates",
        "The report samples λ uniformly in its logarithm, first widely, then around the best three.",
        (Comparison("best of the fine search: test accuracy", 0.523, 0.5216, 0.0031, 5, True),),
        (Claim("The best λ lies between 0.001 and 0.01.", UNDECIDED, "The best three lie in it with 2 of 5 seeds."),),
        (Table("The sixty values tried", ("trial", "λ", "validation accuracy", "validation loss"), tuple(rows)),),
        (figures.scatter_figure("lambda-search", "Validation accuracy against λ; reported figures are crosses.", groups,
                                (1e-4, 3e-3), "λ", "validation accuracy", reported=[(1e-3, 0.519), (3e-3, 0.515)]),))


def depth(rng):
    layers = ("50-50", "50-50-50-50", "50-30-20-20-10-10-10-10")
    comparisons = tuple(
        Comparison(f"{hidden}, {words} batch normalisation, three cycles: test accuracy", round(0.53 - 0.02 * k, 3),
                   0.531 - 0.02 * k + rng.normal(0, 0.003), 0.003, 5, True)
        for k, hidden in enumerate(layers) for words in ("with", "without"))
    boxes = {f"layer {k} {tensor}": 10 ** rng.normal(-9, 0.6, 200) for k in range(1, 5)
             for tensor in ("w", "gamma", "beta")}
    return Finding(
        "003-depth-and-batch-norm", "Three, four and nine layers, with and without batch normalisation",
        "The report trains networks of growing depth and finds that nine layers need batch normalisation.",
        comparisons, (Claim("Batch normalisation makes training of deep networks stable.", HOLDS,
                            "Nine layers reach 0.513 ± 0.003 with it and 0.462 ± 0.011 without."),
                      Claim("Batch normalisation helps three layers.", HOLDS,
                            "0.534 ± 0.002 against 0.527 ± 0.003.")), (),
        (figures.curves_figure("depth-batch-norm", "Nine layers with and without batch normalisation.",
                               [("with batch norm", [history(rng, 0.53) for _ in range(5)]),
                                ("without", [history(rng, 0.46) for _ in range(5)])], ("loss", "accuracy")),
         interval_figures.comparison_figure("depth-comparisons", "Reported figures beside ours.", comparisons),
         figures.box_figure("depth-gradients", "Relative errors of gradients of the first four layers.", boxes)))


def hostile():
    return Finding(
        "004-odd-text", HOSTILE, HOSTILE,
        (Comparison(HOSTILE, 0.5, 0.5, None, 1, None, HOSTILE),), (Claim(HOSTILE, UNDECIDED, HOSTILE),),
        (Table(HOSTILE, ("a_very_long_identifier_that_has_no_place_to_break_a_line_anywhere", HOSTILE),
               ((HOSTILE, "A" * 90),)),), (), (HOSTILE, "=1+1 is how a formula would begin."))


def sample():
    rng = np.random.default_rng(0)
    return Report("Studies of multi-layer perceptrons on CIFAR-10",
                  (("data set", "CIFAR-10: 45,000 training, 5,000 validation, 10,000 test images"), ("seeds", "0 to 4"),
                   ("device", "CPU, 2 threads of AMD EPYC 7B13"), ("seconds", "1,312"),
                   ("command", "fastmlp study --all --data cifar10 --data-dir /data/cifar-10-batches-py --seeds 5")),
                  (grid(rng), search(rng), depth(rng), hostile()))


if __name__ == "__main__":
    write_report(sample(), Path(sys.argv[1]))
