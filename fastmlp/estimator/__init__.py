"""`MLPClassifier` for scikit-learn's users; importing it imports scikit-learn."""

from fastmlp.estimator.classifier import MLPClassifier

__all__ = ["MLPClassifier"]
