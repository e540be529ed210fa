"""Files: the IDX reader, the classic sets, downloads. No test needs the network."""

import gzip
import hashlib
import http.server
import os
import pathlib
import threading

import numpy as np
import oxon as ox
import pytest
from oxon.data import classic
from oxon.data.download import download
from oxon.data.idx import read_idx

# -- IDX -----------------------------------------------------------------------------------------------------


def idx(array, code):
    head = bytes([0, 0, code, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return head + array.tobytes()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("code", "kind"), [(0x08, "u1"), (0x09, "i1"), (0x0B, ">i2"), (0x0C, ">i4"), (0x0D, ">f4"), (0x0E, ">f8")]
)
def test_idx_of_every_type(tmp_path, code, kind, packed):
    array = np.arange(-6 if kind != "u1" else 0, 18 if kind != "u1" else 24).astype(kind).reshape(2, 3, 4)
    path = tmp_path / "a"
    path.write_bytes(gzip.compress(idx(array, code)) if packed else idx(array, code))
    got = read_idx(path)
    assert got.shape == (2, 3, 4)
    np.testing.assert_array_equal(got.numpy(), array)


GOOD = idx(np.arange(6, dtype=np.uint8).reshape(2, 3), 8)
FORGED = bytes([0, 0, 8, 4]) + b"\xff\xff\xff\xff" * 4 + b"x" * 10


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "begins with nothing"),
        (b"\0\0\x08", "begins with 00 00 08"),
        (b"PNG" + GOOD, "not an IDX file: it begins with 50 4e 47"),
        (b"\0\0\x07\x01" + GOOD, "unknown type 0x07"),
        (b"\0\0\x08\0" + GOOD, "0 dimensions"),
        (GOOD[:9], "header cut short: 2 dimensions, 1 sizes"),
        (GOOD[:-1], r"truncated: shape \(2, 3\) needs 6 bytes, the file holds 5"),
        (GOOD + b"\0", "more data than the 6 bytes"),
        (FORGED, "truncated: .* the file holds 10"),
        (gzip.compress(FORGED), "truncated: .* the file holds 10"),
        (gzip.compress(GOOD)[:-9], "damaged gzip"),
        (gzip.compress(GOOD)[:12] + b"\xff\xff\xff" + gzip.compress(GOOD)[15:], "damaged gzip"),
        (gzip.compress(GOOD + b"\0"), "more data"),
    ],
)
def test_idx_refuses_malformed_files(tmp_path, content, message):
    path = tmp_path / "bad"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)


def test_idx_of_size_zero_and_missing(tmp_path):
    (tmp_path / "empty").write_bytes(idx(np.zeros((0, 3), np.uint8), 8))
    assert read_idx(tmp_path / "empty").shape == (0, 3)
    with pytest.raises(FileNotFoundError):
        read_idx(tmp_path / "none")


# -- the classic sets ----------------------------------------------------------------------------------------


def test_digits_are_the_ones_that_we_say():
    folder = pathlib.Path(classic.__file__).parent / "files"
    readme = (folder / "README.md").read_text(encoding="utf-8")
    files = sorted(folder.glob("*.gz"))
    assert len(files) == 3
    for path in files:
        assert hashlib.sha256(path.read_bytes()).hexdigest() in readme
    every = ox.data.digits(normalize=False)
    images, labels = every.tensors
    assert images.shape == (1797, 1, 8, 8)
    assert images.dtype == ox.uint8
    assert labels.shape == (1797,)
    assert labels.dtype == ox.int64
    assert (images.min().item(), images.max().item()) == (0, 16)
    assert np.bincount(labels.numpy()).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert images.numpy().sum(dtype=np.int64) == 561718


def test_digits_split_is_a_stratified_partition():
    train, test = ox.data.digits("train", normalize=False), ox.data.digits("test", normalize=False)
    assert (len(train), len(test)) == (1437, 360)
    assert np.bincount(test.tensors[1].numpy()).tolist() == [36, 37, 35, 37, 36, 36, 36, 36, 35, 36]
    both = np.concatenate([part.tensors[0].numpy().reshape(-1, 64) for part in (train, test)])
    every = ox.data.digits(normalize=False).tensors[0].numpy().reshape(-1, 64)
    assert sorted(map(bytes, both)) == sorted(map(bytes, every))
    scaled = ox.data.digits("test").tensors[0]
    assert scaled.dtype == ox.float32
    np.testing.assert_array_equal(scaled.numpy() * 16, test.tensors[0].numpy())
    with pytest.raises(ValueError, match="'all'"):
        ox.data.digits("all")


@pytest.fixture
def tiny_mnist(tmp_path, monkeypatch):
    """Files that look like MNIST's, served from this machine, in place of the real addresses and
    checksums."""
    images = np.arange(3 * 784, dtype=np.int64).reshape(3, 28, 28).astype(np.uint8)
    labels = np.array([3, 1, 2], np.uint8)
    served = tmp_path / "served"
    served.mkdir()
    sums = {}
    for part in ("train", "t10k"):
        for name, array in (
            (f"{part}-images-idx3-ubyte.gz", images),
            (f"{part}-labels-idx1-ubyte.gz", labels),
        ):
            content = gzip.compress(idx(array, 8), mtime=0)
            (served / name).write_bytes(content)
            sums[name] = hashlib.sha256(content).hexdigest()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(served))

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_address[1]}/"
    monkeypatch.setattr(classic, "_MNIST_FILES", sums)
    monkeypatch.setattr(classic, "_MNIST_URLS", (url,))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("OXON_DATA", raising=False)
    yield served, tmp_path / "cache" / "oxon" / "mnist"
    server.shutdown()
    server.server_close()
    thread.join()


def test_mnist_is_downloaded_once_and_normalised(tiny_mnist):
    served, cache = tiny_mnist
    dataset = ox.data.mnist(train=False)
    x, y = dataset.tensors
    assert x.shape == (3, 1, 28, 28)
    assert x.dtype == ox.float32
    assert y.tolist() == [3, 1, 2]
    raw = ox.data.mnist(train=False, normalize=False).tensors[0]
    assert raw.dtype == ox.uint8
    np.testing.assert_allclose(x.numpy(), (raw.numpy() / 255 - 0.1307) / 0.3081, rtol=1e-5, atol=1e-6)
    assert sorted(os.listdir(cache)) == ["t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"]
    for path in served.iterdir():
        path.unlink()
    assert len(ox.data.mnist(train=False)) == 3, "from the cache"
    with pytest.raises(OSError, match=r"could not download train-images.*\n.*404.*\n.*OXON_DATA"):
        ox.data.mnist()
    assert sorted(os.listdir(cache)) == ["t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"], (
        "no leftovers"
    )


def test_a_damaged_cache_is_fetched_again_and_a_damaged_source_refused(tiny_mnist):
    served, cache = tiny_mnist
    ox.data.mnist()
    (cache / "train-labels-idx1-ubyte.gz").write_bytes(b"damaged")
    assert ox.data.mnist().tensors[1].tolist() == [3, 1, 2]
    (cache / "train-labels-idx1-ubyte.gz").unlink()
    (served / "train-labels-idx1-ubyte.gz").write_bytes(b"damaged")
    with pytest.raises(OSError, match=r"wrong checksum: sha256 [0-9a-f]{64}, expected [0-9a-f]{64}"):
        ox.data.mnist()
    assert os.listdir(cache) == ["train-images-idx3-ubyte.gz"]


def test_oxon_data_and_root_come_first(tiny_mnist, tmp_path, monkeypatch):
    served, cache = tiny_mnist
    given = tmp_path / "given" / "mnist"
    given.mkdir(parents=True)
    for path in served.iterdir():
        (given / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(classic, "_MNIST_URLS", ("http://127.0.0.1:9/",))
    monkeypatch.setenv("OXON_DATA", str(tmp_path / "given"))
    assert len(ox.data.mnist()) == 3
    assert not cache.exists()
    assert len(ox.data.mnist(root=given, download=False)) == 3
    with pytest.raises(FileNotFoundError, match="download=False"):
        ox.data.mnist(root=tmp_path, download=False)
    (given / "train-labels-idx1-ubyte.gz").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="is damaged: sha256"):
        ox.data.mnist()


def test_download_tries_the_next_address_and_leaves_no_debris(tmp_path):
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_bytes(b"right")
    bad.write_bytes(b"wrong")
    right = hashlib.sha256(b"right").hexdigest()
    target = tmp_path / "folder" / "file"
    assert download([bad.as_uri(), (tmp_path / "none").as_uri(), good.as_uri()], str(target), right) == str(
        target
    )
    assert target.read_bytes() == b"right"
    assert os.listdir(target.parent) == ["file"]
    with pytest.raises(OSError, match="unknown url type"):
        download(["nonsense"], str(tmp_path / "other"), right)
    assert not (tmp_path / "other").exists()


def test_real_mnist_where_it_lies_at_hand():
    folder = os.environ.get("OXON_DATA")
    if not folder or not os.path.isdir(os.path.join(folder, "mnist")):
        pytest.skip("OXON_DATA does not hold mnist")
    test = ox.data.mnist(train=False, normalize=False)
    assert test.tensors[0].shape == (10000, 1, 28, 28)
    assert test.tensors[1][:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
