"""The classic image sets: MNIST and Fashion-MNIST from files, and the handwritten digits that the wheel
carries."""

from __future__ import annotations

import os

from .._core import Tensor, float32, int64, nonzero
from .dataset import TensorDataset
from .download import cache_folder, download, sha256_of
from .idx import read_idx

_MNIST_URLS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
_MNIST_FILES = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
_FASHION_URLS = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
)
_FASHION_FILES = {
    "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
}
_FASHION_CLASSES = (
    "T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
_DIGITS = tuple("0123456789")


def mnist(
    train: bool = True,
    root: str | os.PathLike[str] | None = None,
    *,
    download: bool = True,
    normalize: bool = True,
) -> TensorDataset:
    """MNIST: 60,000 training or 10,000 test images of handwritten digits (LeCun, Cortes and Burges 1998).

    Images `(N, 1, 28, 28)`, labels `(N,)` int64. With `normalize` the images are float32, scaled to 0..1,
    less the mean 0.1307, divided by the standard deviation 0.3081; without it they are uint8 as in the
    file.

    The four files are looked for in `root`, or else in `$OXON_DATA/mnist` and then in
    `~/.cache/oxon/mnist`; what is not there is downloaded (11 MB) with its checksum verified. Raises
    FileNotFoundError with `download=False`, OSError where no address answers, ValueError where a file's
    checksum is wrong.

    >>> import oxon as ox
    >>> train, test = ox.data.mnist(), ox.data.mnist(train=False)  # doctest: +SKIP
    """
    return _load(
        "mnist",
        _MNIST_FILES,
        _MNIST_URLS,
        train,
        root,
        download,
        (0.1307, 0.3081) if normalize else None,
        _DIGITS,
    )


def fashion_mnist(
    train: bool = True,
    root: str | os.PathLike[str] | None = None,
    *,
    download: bool = True,
    normalize: bool = True,
) -> TensorDataset:
    """Fashion-MNIST: 60,000 training or 10,000 test images of clothes in ten classes (Xiao, Rasul and
    Vollgraf 2017).

    As `mnist` in every respect: the folder is `fashion-mnist`, the download 31 MB, the mean 0.2860, the
    standard deviation 0.3530. `classes` names the classes.

    >>> import oxon as ox
    >>> ox.data.fashion_mnist(train=False).classes[9]  # doctest: +SKIP
    'ankle boot'
    """
    scale = (0.2860, 0.3530) if normalize else None
    return _load(
        "fashion-mnist", _FASHION_FILES, _FASHION_URLS, train, root, download, scale, _FASHION_CLASSES
    )


def digits(split: str | None = None, *, normalize: bool = True) -> TensorDataset:
    """Handwritten digits, 8 × 8 pixels, that come with the package (Alpaydin and Kaynak 1998, doi
    10.24432/C50P49).

    `split` is "train" (1,437 images), "test" (360) or None (all 1,797 in their original order). The split
    is fixed and stratified. Images `(N, 1, 8, 8)`, labels `(N,)` int64. With `normalize` the images are
    float32 in 0..1, without it uint8 in 0..16. Raises ValueError for another split.

    >>> import oxon as ox
    >>> ox.data.digits("train")
    TensorDataset((1437, 1, 8, 8) oxon.float32, (1437,) oxon.int64)
    """
    folder = os.path.join(os.path.dirname(__file__), "files")
    images, labels, held_out = (
        read_idx(os.path.join(folder, name))
        for name in (
            "digits-images-idx3-ubyte.gz",
            "digits-labels-idx1-ubyte.gz",
            "digits-test-idx1-ubyte.gz",
        )
    )
    if split is not None:
        if split not in ("train", "test"):
            raise ValueError(f'digits: split must be "train", "test" or None, got {split!r}')
        chosen = nonzero(held_out == (1 if split == "test" else 0)).reshape(-1)
        images, labels = images[chosen], labels[chosen]
    images = images.reshape(-1, 1, 8, 8)
    return TensorDataset(images.to(float32) / 16 if normalize else images, labels.to(int64), classes=_DIGITS)


def _load(
    name: str,
    files: dict[str, str],
    urls: tuple[str, ...],
    train: bool,
    root: str | os.PathLike[str] | None,
    fetch: bool,
    scale: tuple[float, float] | None,
    classes: tuple[str, ...],
) -> TensorDataset:
    part = "train" if train else "t10k"

    def read(file: str) -> Tensor:
        return read_idx(_find(name, file, files[file], urls, root, fetch))

    images = read(f"{part}-images-idx3-ubyte.gz").reshape(-1, 1, 28, 28)
    labels = read(f"{part}-labels-idx1-ubyte.gz").to(int64)
    if scale is not None:
        mean, std = scale
        images = (images.to(float32) / 255 - mean) / std
    return TensorDataset(images, labels, classes=classes)


def _find(
    name: str, file: str, sha256: str, urls: tuple[str, ...], root: str | os.PathLike[str] | None, fetch: bool
) -> str:
    """The path of a file whose checksum is right, downloaded if need be."""
    if root is not None:
        path = os.path.join(os.fspath(root), file)
    else:
        path = os.path.join(cache_folder(), name, file)
        given = os.environ.get("OXON_DATA")
        if given and os.path.exists(os.path.join(given, name, file)):
            path, fetch = os.path.join(given, name, file), False
    if not os.path.exists(path) and not fetch:
        raise FileNotFoundError(f"{name}: {path} does not exist, and download=False")
    if fetch:
        return download([url + file for url in urls], path, sha256)
    if (found := sha256_of(path)) != sha256:
        raise ValueError(f"{name}: {path} is damaged: sha256 {found}, expected {sha256}")
    return path
