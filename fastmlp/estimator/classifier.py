"""`MLPClassifier`: the trainer behind scikit-learn's interface."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from fastmlp.backend import host_array, resolve
from fastmlp.data.standardize import Standardizer
from fastmlp.errors import ConfigError, DataError
from fastmlp.estimator.fit import Learner, prepare, train_epochs
from fastmlp.estimator.fitted import FittedClassifier
from fastmlp.estimator.inputs import Data, Labels, checked, distinct, draw_seed, hold_out, make_data, member_seeds
from fastmlp.estimator.options import check_parameters, network_dtype, network_spec
from fastmlp.network import Network


class MLPClassifier(FittedClassifier):
    """Multi-layer perceptron classifier, trained by mini-batch gradient descent.

    Parameters that `sklearn.neural_network.MLPClassifier` has too carry its names, meanings and defaults. It lacks
    `solver="lbfgs"` (and so `max_fun`), sparse input and multi-label targets.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int, default=(100,)
        Widths of the hidden layers; `()` is the softmax classifier.
    activation : {"relu", "tanh", "logistic", "identity", "leaky-relu", "gelu"}, default="relu"
        Non-linearity of the hidden layers.
    solver : {"adam", "sgd", "adamw"}, default="adam"
        "adam" has the penalty in its gradient, "adamw" shrinks the weights beside it.
    alpha : float, default=0.0001
        The cost is the mean loss + alpha / (2 S) * sum of squared weights, S being the examples in a batch (or the sum
        of their weights). Biases, gamma and beta carry no penalty.
    batch_size : int or "auto", default="auto"
        Examples a step; "auto" is min(200, n). More than n are clipped with a warning. Under batch norm it is changed
        (with a warning, if it was given) where a batch of a single example would remain.
    learning_rate : str, default="constant"
        "constant": learning_rate_init. "invscaling": learning_rate_init / (examples seen + 1) ** power_t, by epoch.
        "adaptive": divided by 5 instead of stopping, down to 1e-6. "step": a tenth after every `step_size` steps.
        "cyclical", "one-cycle", "cosine": between `lr_min` and `lr_max`, through all of max_iter: these stop early
        only under early_stopping and never warn about convergence. As in scikit-learn, "adam" treats "invscaling"
        and "adaptive" as "constant". "one-cycle" and "cosine" begin anew with every `fit`; "cyclical" and "step" go
        on where a warm start or `partial_fit` left off.
    learning_rate_init : float, default=0.001
        Rate of "constant", "invscaling", "adaptive", "step".
    power_t : float, default=0.5
        Exponent of "invscaling".
    max_iter : int, default=200
        Epochs at most.
    shuffle : bool, default=True
        A new order every epoch.
    random_state : int, RandomState instance or None, default=None
        Of weights, order and validation split, drawn on at the first fit; warm starts and `partial_fit` continue the
        sequence instead of repeating it.
    tol : float, default=1e-4
        Training stops after more than `n_iter_no_change` epochs in which the loss (under early_stopping the
        validation accuracy) was not better than the best by `tol`.
    verbose : bool, default=False
        Show progress on standard error.
    warm_start : bool, default=False
        `fit` continues from the weights and from the optimizer's state: ten fits of one epoch are one fit of ten,
        unless early_stopping ends each of them with its own best epoch's weights.
    momentum : float, default=0.9
        Of "sgd".
    nesterovs_momentum : bool, default=True
        Nesterov's momentum rather than the classical one.
    early_stopping : bool, default=False
        Watch the accuracy on X_val, y_val, or else on a part held out of the training data by class, and end with the
        best epoch's weights. `partial_fit` takes no notice of it.
    validation_fraction : float, default=0.1
        Of the examples, to be held out.
    beta_1, beta_2, epsilon : float, defaults 0.9, 0.999, 1e-8
        Of "adam" and "adamw".
    n_iter_no_change : int or inf, default=10
        Patience; see `tol`.
    batch_norm : bool, default=False
        Batch norm before each hidden activation. Sample weights count in its statistics too.
    loss : {"cross-entropy", "hinge"}, default="cross-entropy"
        "hinge" is the multi-class support vector loss; `predict_proba` is then the softmax of the scores, which ranks
        the classes but is not fitted as a probability.
    init : {"he", "xavier", "normal"}, default="he"
        Initial weights: normal with deviation sqrt(2 / inputs), 1 / sqrt(inputs) or `init_std`; biases are 0.
        (scikit-learn draws weights and biases from a uniform distribution.)
    init_std : float, default=0.01
        For init="normal".
    lr_min, lr_max : float, defaults 1e-5 and 0.1
        Bounds of "cyclical", "one-cycle" and "cosine". The defaults suit "sgd"; with "adam" try lr_max=0.003.
    step_size : int or None, default=None
        Steps from the lowest to the highest rate of "cyclical" (None: 5 epochs), or between the drops of "step"
        (None: 10 epochs).
    bn_decay : float, default=0.9
        Fraction of batch norm's running statistics that is kept each step.
    standardize : {"none", "feature", "scale"}, default="none"
        "feature": subtract the training mean of each column and divide by its deviation; "scale": divide by 255.
    dtype : {"auto", "float32", "float64"}, default="auto"
        Precision; "auto" is float32 for float32 data and float64 for any other. float32 is up to twice as fast.
    class_weight : dict, "balanced" or None, default=None
        Multiplies the sample weights by class; "balanced" is n / (classes * examples of the class).
    device : {"cpu", "auto", "gpu"}, default="cpu"
        Where to compute; "auto" takes a GPU where one can be used. Results are NumPy arrays in any case.
    n_members : int, default=1
        Networks that are trained at once, on the same batches from different initial weights; their probabilities are
        averaged. One that diverges is left out of the average from then on, with a RuntimeWarning.

    Attributes
    ----------
    classes_ : ndarray (C,)
        Labels, sorted.
    n_features_in_, feature_names_in_
        Columns of X, and their names if they are text.
    n_iter_ : int
        Epochs of the last `fit` or `partial_fit`.
    t_ : int
        Examples seen in all epochs.
    n_layers_, n_outputs_, out_activation_ : int, int, "softmax"
        Layers, the input among them, and outputs: one a class, also for two classes.
    loss_, loss_curve_, best_loss_
        Cost of the last, of every epoch, and the lowest (None under early_stopping). Each is the mean of the batches'
        losses plus the penalty at the epoch's beginning, and of several members the mean.
    validation_scores_, validation_loss_curve_, best_validation_score_
        Accuracies (as of `score`, by the averaged probabilities) and losses (without penalty; the members' mean) after
        every epoch, if there is a validation part, and the highest accuracy of the last fit; else None.
    coefs_, intercepts_ : list of ndarray (D, H), (H,)
        Weights and biases by layer, views of the network's own. With batch norm: copies, in which it is folded into
        the layers, so that the plain network with these weights predicts the same. Of M members (M, D, H), (M, H).
    diverged_members_ : list of int
        Which members are left out of the average.

    Notes
    -----
    The formulas differ from scikit-learn's in three places. The momentum's velocity does not contain the learning rate,
    so a change of the rate acts at once. Adam's `epsilon` is added to the bias-corrected root, as in the paper. The S
    of `alpha` is that of a full batch of average weights, also for the smaller last batch.

    References
    ----------
    Kingma & Ba, "Adam: a method for stochastic optimization", 2015. Loshchilov & Hutter, "Decoupled weight decay
    regularization", 2019. Ioffe & Szegedy, "Batch normalization", 2015. Smith, "Cyclical learning rates for training
    neural networks", 2017. He et al., "Delving deep into rectifiers", 2015.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> model = MLPClassifier(50, batch_norm=True, learning_rate="one-cycle", lr_max=0.01, max_iter=10, random_state=0)
    >>> model.fit(X[:1500], y[:1500]).score(X[1500:], y[1500:]) > 0.9
    True
    """

    def __init__(
        self, hidden_layer_sizes: Any = (100,), activation: str = "relu", *, solver: str = "adam",
        alpha: float = 0.0001, batch_size: int | str = "auto", learning_rate: str = "constant",
        learning_rate_init: float = 0.001, power_t: float = 0.5, max_iter: int = 200, shuffle: bool = True,
        random_state: Any = None, tol: float = 1e-4, verbose: bool = False, warm_start: bool = False,
        momentum: float = 0.9, nesterovs_momentum: bool = True, early_stopping: bool = False,
        validation_fraction: float = 0.1, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-8,
        n_iter_no_change: float = 10, batch_norm: bool = False, loss: str = "cross-entropy", init: str = "he",
        init_std: float = 0.01, lr_min: float = 1e-5, lr_max: float = 1e-1, step_size: int | None = None,
        bn_decay: float = 0.9, standardize: str = "none", dtype: str = "auto", class_weight: Any = None,
        device: str = "cpu", n_members: int = 1,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.batch_norm = batch_norm
        self.loss = loss
        self.init = init
        self.init_std = init_std
        self.lr_min = lr_min
        self.lr_max = lr_max
        self.step_size = step_size
        self.bn_decay = bn_decay
        self.standardize = standardize
        self.dtype = dtype
        self.class_weight = class_weight
        self.device = device
        self.n_members = n_members

    def fit(self, X: Any, y: Any, sample_weight: Any = None, X_val: Any = None, y_val: Any = None) -> Self:
        """Train until a stopping rule or `max_iter` ends it.

        Parameters
        ----------
        X : array or data frame (n, D)
            Training examples as rows; NumPy, CuPy, pandas or anything that NumPy can convert. It is not changed.
        y : array (n,)
            Labels: numbers or text.
        sample_weight : array (n,), optional
            Weight 2 is the same as two equal rows, weight 0 the same as none.
        X_val, y_val : arrays (m, D) and (m,), optional
            Measured after every epoch, as `score` would, without class weights; under early_stopping they decide.

        Returns
        -------
        self

        Raises
        ------
        ConfigError, DataError
            Both are ValueErrors; the sentence names the parameter, or the place in the data.
        DivergenceError
            The loss of the only or last member became NaN or infinite. The estimator holds the state before that epoch.
        """
        check_parameters(self)
        first = not (self.warm_start and self.__sklearn_is_fitted__())
        X, y = checked(self, X, y, reset=first)
        classes = distinct(y) if first else self.classes_
        data = make_data(self.class_weight, X, y, classes, sample_weight)
        if (data.codes == data.codes[0]).all():
            counting = "" if len(data.codes) == len(y) else "of the rows that have a weight "
            raise DataError(f"the labels {counting}hold one class only, {classes.tolist()[data.codes[0]]!r}: at least "
                            f"two classes are needed")
        if (X_val is None) != (y_val is None):
            raise ConfigError("X_val and y_val belong together: give both or neither")
        validation = None
        if X_val is not None:
            validation = make_data(None, *checked(self, X_val, y_val, reset=False), classes)
        return self._train(data, validation, classes, first=first, incremental=False)

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train for one epoch on these examples; the optimizer's state is kept from call to call.

        Give `classes` and `sample_weight` by name: their order is that of most estimators, not of scikit-learn's own
        MLPClassifier.

        Parameters
        ----------
        X, y, sample_weight
            See `fit`.
        classes : array (C,), optional
            All labels that will ever come; needed in the first call.

        Returns
        -------
        self
        """
        check_parameters(self)
        if isinstance(self.class_weight, str):
            raise ConfigError(f"class_weight = {self.class_weight!r} needs all labels at once: give partial_fit a dict")
        first = not self.__sklearn_is_fitted__()
        given = None if classes is None else distinct(np.asarray(host_array(classes)), "classes")
        if first and given is None:
            raise ConfigError("classes must be passed on the first call to partial_fit")
        known: Labels = given if first else self.classes_       # type: ignore[assignment]
        if given is not None and not np.array_equal(given, known):
            raise DataError(f"classes = {given.tolist()} are not those of the first call, {known.tolist()}")
        if len(known) < 2:
            raise DataError("classes holds one class only: at least two classes are needed")
        X, y = checked(self, X, y, reset=first)
        data = make_data(self.class_weight, X, y, known, sample_weight)
        return self._train(data, None, known, first=first, incremental=True)

    def _train(self, data: Data, validation: Data | None, classes: Labels, *, first: bool, incremental: bool) -> Self:
        """Set up or go on with the learner, and let it train."""
        seed = draw_seed(self.random_state) if first else self._learner.seed
        if self.early_stopping and validation is None and not incremental:
            data, validation = hold_out(data, self.validation_fraction, seed)
        if first:
            learner = self._new_learner(data, len(classes), seed)
        else:
            learner = self._learner
            learner.adopt(self, self.n_features_in_, len(classes))
        trainer, watched = prepare(self, learner, data, validation, incremental=incremental)
        if first:                                           # nothing can be refused any more
            self._install(learner, classes)
            self.t_, self.loss_, self.loss_curve_ = 0, float("nan"), []
            self.validation_scores_ = self.validation_loss_curve_ = None
        if watched is not None and self.validation_scores_ is None:
            self.validation_scores_, self.validation_loss_curve_ = [], []
        self.n_iter_, self.best_loss_, self.best_validation_score_ = 0, None, None
        try:
            train_epochs(self, learner, trainer, watched, incremental=incremental)
        finally:
            if not self.early_stopping:
                self.best_loss_ = min(self.loss_curve_, default=None)
        return self

    def _new_learner(self, data: Data, n_classes: int, seed: int) -> Learner:
        spec = network_spec(self, data.x.shape[1], n_classes)
        network = Network(spec, resolve(self.device), members=int(self.n_members),
                          dtype=network_dtype(self.dtype, data.x.dtype))
        network.initialize(member_seeds(seed, network.members), self.init, float(self.init_std))
        standardizer = Standardizer.fit(data.x, self.standardize, data.weights)     # type: ignore[arg-type]
        return Learner.create(self, network, standardizer, seed)
