"""Labeled images for training and evaluation: built-in data, folders, archives and the data sets of timm."""

from sasa.data.checks import check_classes
from sasa.data.dataset_factory import create_dataset, is_stream
from sasa.data.datasets import ImageDataset, find_broken
from sasa.data.fashion_mnist import CLASSES as FASHION_MNIST_CLASSES
from sasa.data.fashion_mnist import MEAN as FASHION_MNIST_MEAN
from sasa.data.fashion_mnist import STD as FASHION_MNIST_STD
from sasa.data.fashion_mnist import load_fashion_mnist
from sasa.data.images import BrokenImageError, read_image
from sasa.data.splits import train_test_split, train_val_split
from sasa.data.streams import ImageStream
from sasa.data.transforms import evaluation_transform, training_transform

__all__ = [
    "FASHION_MNIST_CLASSES",
    "FASHION_MNIST_MEAN",
    "FASHION_MNIST_STD",
    "BrokenImageError",
    "ImageDataset",
    "ImageStream",
    "check_classes",
    "create_dataset",
    "evaluation_transform",
    "find_broken",
    "is_stream",
    "load_fashion_mnist",
    "read_image",
    "train_test_split",
    "train_val_split",
    "training_transform",
]
