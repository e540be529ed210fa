"""Data sets, loaders and transforms: everything between files and batches."""

from . import transforms as transforms
from .classic import digits as digits
from .classic import fashion_mnist as fashion_mnist
from .classic import mnist as mnist
from .dataset import ConcatDataset as ConcatDataset
from .dataset import Dataset as Dataset
from .dataset import Subset as Subset
from .dataset import TensorDataset as TensorDataset
from .dataset import as_tensor as as_tensor
from .dataset import random_split as random_split
from .idx import read_idx as read_idx
from .loader import DataLoader as DataLoader
from .loader import default_collate as default_collate
