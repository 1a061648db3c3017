"""Data sets: readers for digits, CIFAR-10, .npz, CSV and Parquet, splits, checks and standardising."""

from fastmlp.data.dataset import Dataset, ExampleSet
from fastmlp.data.loading import load_dataset, read_examples

__all__ = ["Dataset", "ExampleSet", "load_dataset", "read_examples"]
