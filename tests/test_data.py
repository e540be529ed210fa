"""Data sets, loaders and transforms."""

import gc
import subprocess
import sys
import threading
from itertools import chain

import numpy as np
import oxon as ox
import pytest
from oxon.data import DataLoader, TensorDataset, transforms


def values(loader):
    """The first part of every batch as lists."""
    return [(batch[0] if isinstance(batch, tuple) else batch).tolist() for batch in loader]


def flat(loader):
    return list(chain(*values(loader)))


class Squares(ox.data.Dataset):
    def __init__(self, size, bad=None):
        self.size = size
        self.bad = bad
        self.threads = set()

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        self.threads.add(threading.current_thread())
        if index == self.bad:
            raise RuntimeError("a broken sample")
        return index, float(index**2)


def loader_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("oxon-loader")]


# -- data sets -----------------------------------------------------------------------------------------------


def test_tensor_dataset_indexes_all_parts_together():
    x, y = np.arange(12, dtype=np.float32).reshape(4, 3), [3, 2, 1, 0]
    dataset = TensorDataset(x, y)
    assert len(dataset) == 4
    first, label = dataset[2]
    assert first.tolist() == [6.0, 7.0, 8.0]
    assert label.item() == 1
    assert [label.item() for _, label in dataset] == y
    assert dataset[1:3][1].tolist() == [2, 1]
    assert dataset.batch(ox.tensor([3, 0]))[1].tolist() == [0, 3]


def test_float64_arrays_become_the_floats_of_layers_and_tensors_stay():
    assert TensorDataset(np.zeros(3)).tensors[0].dtype == ox.float32
    assert TensorDataset([0.5, 1.5]).tensors[0].dtype == ox.float32
    assert TensorDataset(ox.zeros(3, dtype=ox.float64)).tensors[0].dtype == ox.float64
    assert TensorDataset(np.zeros(3, np.int32)).tensors[0].dtype == ox.int32


def test_tensor_dataset_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match=r"first dimensions differ.*\(3, 2\).*\(4,\)"):
        TensorDataset(ox.zeros(3, 2), ox.zeros(4))
    with pytest.raises(ValueError, match="needs a first dimension"):
        TensorDataset(ox.tensor(1.0))
    with pytest.raises(ValueError, match="at least one"):
        TensorDataset()
    with pytest.raises(IndexError, match="index 3 is out of range for 3 samples"):
        TensorDataset(ox.zeros(3))[3]


def test_subset_and_concat():
    subset = ox.data.Subset(Squares(10), [7, 1, 7])
    assert [sample[0] for sample in subset] == [7, 1, 7]
    with pytest.raises(IndexError, match="index 10 is out of range for 10"):
        ox.data.Subset(Squares(10), [10])
    joined = subset + Squares(2)
    assert [sample[0] for sample in joined] == [7, 1, 7, 0, 1]
    assert joined[-1] == (1, 1.0)
    for index in (5, -6):
        with pytest.raises(IndexError, match="out of range for 5"):
            joined[index]
    with pytest.raises(ValueError, match="at least one"):
        ox.data.ConcatDataset([])


def test_concat_skips_empty_parts():
    joined = ox.data.ConcatDataset([[], "ab", [], "c", []])
    assert list(joined) == ["a", "b", "c"]


def test_a_subset_of_tensors_gathers_through_both():
    dataset = ox.data.Subset(ox.data.Subset(TensorDataset(ox.arange(10) * 10), [9, 8, 7, 6]), [3, 0, 1])
    assert values(DataLoader(dataset, 2)) == [[60, 90], [80]]
    assert sorted(flat(DataLoader(dataset, 2, shuffle=True, seed=0))) == [60, 80, 90]
    assert not hasattr(ox.data.Subset(Squares(4), [0]), "batch")


def test_random_split_is_a_partition_and_repeats():
    parts = ox.data.random_split(range(11), [0.5, 0.3, 0.2], ox.Generator(3))
    assert [len(part) for part in parts] == [6, 3, 2]
    assert sorted(sample for part in parts for sample in part) == list(range(11))
    again = ox.data.random_split(range(11), [0.5, 0.3, 0.2], ox.Generator(3))
    other = ox.data.random_split(range(11), [0.5, 0.3, 0.2], ox.Generator(4))
    assert [part.indices for part in parts] == [part.indices for part in again]
    assert [part.indices for part in parts] != [part.indices for part in other]
    assert [len(part) for part in ox.data.random_split(range(11), [11, 0])] == [11, 0]
    with pytest.raises(ValueError, match="add up to 10, the data set has 11"):
        ox.data.random_split(range(11), [5, 5])
    with pytest.raises(ValueError, match="not 1"):
        ox.data.random_split(range(11), [0.5, 0.4])
    with pytest.raises(ValueError, match="negative"):
        ox.data.random_split(range(11), [12, -1])


# -- loader --------------------------------------------------------------------------------------------------

SOURCES = {
    "tensors": lambda n: (ox.arange(n), ox.arange(n) ** 2),
    "samples": Squares,
    "subset": lambda n: ox.data.Subset(TensorDataset(ox.arange(n)), list(range(n))),
    "list": lambda n: list(range(n)),
    "tensor": lambda n: ox.arange(n),
    "array": lambda n: np.arange(n),
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_come_in_order_and_lose_nothing(source, workers):
    data = SOURCES[source](10)
    assert values(DataLoader(data, 4, num_workers=workers)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    dropped = DataLoader(data, 4, drop_last=True, num_workers=workers)
    assert values(dropped) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert len(dropped) == 2
    assert len(DataLoader(data, 4)) == 3
    assert values(DataLoader(SOURCES[source](0), 4, num_workers=workers)) == []


@pytest.mark.parametrize("source", SOURCES)
def test_the_order_follows_seed_and_epoch_alone(source):
    def epochs(seed, workers):
        loader = DataLoader(SOURCES[source](32), 5, shuffle=True, seed=seed, num_workers=workers)
        return [values(loader) for _ in range(3)]

    first = epochs(1, 0)
    assert first == epochs(1, 1) == epochs(1, 4)
    assert first != epochs(2, 0)
    assert first[0] != first[1] != first[2]
    assert all(sorted(chain(*epoch)) == list(range(32)) for epoch in first)
    resumed = DataLoader(SOURCES[source](32), 5, shuffle=True, seed=1)
    resumed.set_epoch(2)
    assert values(resumed) == first[2]


def test_without_a_seed_manual_seed_governs():
    def epoch():
        ox.manual_seed(5)
        return values(DataLoader(list(range(20)), 20, shuffle=True))

    assert epoch() == epoch()
    ox.manual_seed(6)
    assert values(DataLoader(list(range(20)), 20, shuffle=True)) != epoch()


def test_an_unshuffled_loader_leaves_the_global_generator_alone():
    ox.manual_seed(1)
    expected = ox.rand(3).tolist()
    ox.manual_seed(1)
    list(DataLoader(ox.arange(4), 2))
    assert ox.rand(3).tolist() == expected


def test_generator_gives_each_epoch_its_order():
    def epochs():
        loader = DataLoader(list(range(20)), 20, shuffle=True, generator=ox.Generator(3))
        return values(loader), values(loader)

    first, second = epochs()
    assert first != second
    assert (first, second) == epochs()


def test_all_sources_share_one_order():
    orders = {name: values(DataLoader(make(16), 16, shuffle=True, seed=0)) for name, make in SOURCES.items()}
    assert len({str(order) for order in orders.values()}) == 1


@pytest.mark.parametrize("source", ["tensors", "samples"])
def test_sampler_gives_the_order(source):
    loader = DataLoader(SOURCES[source](10), 2, sampler=[9, 3, 3, 0, 1])
    assert values(loader) == [[9, 3], [3, 0], [1]]
    assert len(loader) == 3
    assert values(DataLoader(SOURCES[source](10), 2, sampler=[9, 3, 3], drop_last=True)) == [[9, 3]]


def test_collate():
    batch = ox.data.default_collate(
        [{"x": ox.ones(2), "y": (1, True), "s": "a"}, {"x": ox.zeros(2), "y": (2, False), "s": "b"}]
    )
    assert batch["x"].tolist() == [[1.0, 1.0], [0.0, 0.0]]
    assert batch["y"][0].tolist() == [1, 2]
    assert batch["y"][0].dtype == ox.int64
    assert batch["y"][1].tolist() == [True, False]
    assert batch["y"][1].dtype == ox.bool
    assert batch["s"] == ["a", "b"]
    assert ox.data.default_collate([0.5, 1]).dtype == ox.float32
    assert ox.data.default_collate([np.zeros(2), np.ones(2)]).shape == (2, 2)
    assert ox.data.default_collate([np.float64(1.0), np.float64(2.0)]).tolist() == [1.0, 2.0]
    assert isinstance(ox.data.default_collate([[1, 2], [3, 4]]), list)
    with pytest.raises(ValueError, match=r"differ in shape: \(2,\).*\(3,\) for number 1"):
        ox.data.default_collate([ox.ones(2), ox.ones(3)])
    with pytest.raises(ValueError, match="differ in length"):
        ox.data.default_collate([(1, 2), (1,)])
    with pytest.raises(ValueError, match="differ in keys"):
        ox.data.default_collate([{"a": 1}, {"b": 1}])
    with pytest.raises(TypeError, match="cannot join object"):
        ox.data.default_collate([object()])


def test_collate_fn_gets_the_samples():
    loader = DataLoader(Squares(4), 2, collate_fn=lambda samples: [index for index, _ in samples])
    assert list(loader) == [[0, 1], [2, 3]]


def test_a_users_own_batch_is_called_instead_of_items():
    class Fast(Squares):
        def batch(self, indices):
            return ox.arange(self.size, device="cpu")[indices]

        def __getitem__(self, index):
            raise AssertionError("item by item")

    assert values(DataLoader(Fast(5), 2)) == [[0, 1], [2, 3], [4]]
    assert sorted(flat(DataLoader(Fast(5), 2, shuffle=True))) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_an_exception_names_its_item_and_reaches_the_consumer_in_its_place(workers):
    batches = iter(DataLoader(Squares(20, bad=9), 4, num_workers=workers))
    assert next(batches)[0].tolist() == [0, 1, 2, 3]
    assert next(batches)[0].tolist() == [4, 5, 6, 7]
    with pytest.raises(RuntimeError, match="a broken sample") as caught:
        next(batches)
    assert caught.value.__notes__ == ["in DataLoader: item 9, batch 2"]
    assert loader_threads() == []


@pytest.mark.parametrize("workers", [0, 2])
def test_exceptions_in_collation_and_sampler(workers):
    ragged = DataLoader([[1], [1, 2]], 2, num_workers=workers)
    with pytest.raises(ValueError, match="differ in length") as caught:
        list(ragged)
    assert caught.value.__notes__ == ["in DataLoader: joining batch 0, items [0, 1]"]

    def sampler():
        yield 1
        raise OSError("no more")

    class Sampler:
        __iter__ = staticmethod(sampler)

    with pytest.raises(OSError, match="no more"):
        list(DataLoader(Squares(4), 1, sampler=Sampler(), num_workers=workers))


def test_items_are_made_in_the_background_and_not_too_far_ahead():
    data = Squares(100)
    seen = []

    class Counting(Squares):
        def __getitem__(self, index):
            seen.append(index)
            return super().__getitem__(index)

    data = Counting(100)
    batches = iter(DataLoader(data, 1, num_workers=1, prefetch=3))
    next(batches)
    for _ in range(200):
        if len(seen) >= 4:
            break
        threading.Event().wait(0.01)
    threading.Event().wait(0.05)
    assert seen == [0, 1, 2, 3], "one given out and three ahead"
    assert threading.main_thread() not in data.threads
    batches.close()


def test_a_half_consumed_iterator_cleans_up_its_threads():
    for _ in DataLoader(Squares(1000), 1, num_workers=3):
        assert len(loader_threads()) == 3
        break
    gc.collect()
    assert loader_threads() == []
    dropped = iter(DataLoader(Squares(1000), 1, num_workers=2))
    next(dropped)
    del dropped
    gc.collect()
    assert loader_threads() == []
    list(DataLoader(Squares(10), 1, num_workers=2))
    assert loader_threads() == []


def test_two_iterators_of_one_loader_are_independent():
    loader = DataLoader(list(range(6)), 2)
    first, second = iter(loader), iter(loader)
    assert [next(first).tolist(), next(second).tolist(), next(first).tolist()] == [[0, 1], [0, 1], [2, 3]]
    first.close()
    second.close()


def test_the_interpreter_exits_with_a_loader_half_way():
    script = """
import oxon as ox, time
class Slow:
    def __len__(self): return 10**6
    def __getitem__(self, index):
        time.sleep(0.001)
        return ox.ones(4) * index
batches = iter(ox.data.DataLoader(Slow(), 2, num_workers=3))
print(next(batches).shape[0])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "2\n", "")


def test_bad_arguments():
    for arguments, message in [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"shuffle": True, "sampler": [0]}, "exclude each other"),
        ({"seed": 1, "generator": ox.Generator(1)}, "not both"),
        ({"num_workers": -1}, "num_workers must lie between 0 and 1024, not -1"),
        ({"prefetch": 0}, "prefetch must lie between 1 and 4096, not 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            DataLoader([1, 2], **arguments)
    with pytest.raises(TypeError, match="generator has no __len__"):
        DataLoader(number for number in range(3))


# -- transforms ----------------------------------------------------------------------------------------------


def test_transforms_compute_what_they_say():
    x = ox.arange(24).reshape(2, 3, 2, 2).to(ox.float32)
    got = transforms.Normalize([0.0, 1.0, 2.0], [1.0, 2.0, 4.0])(x).numpy()
    want = (x.numpy() - np.array([0, 1, 2]).reshape(3, 1, 1)) / np.array([1, 2, 4]).reshape(3, 1, 1)
    np.testing.assert_allclose(got, want)
    flips = transforms.RandomFlip(0.5)(
        x.reshape(24, 1, 1, 1).broadcast_to((24, 1, 1, 3)) + ox.arange(3), ox.Generator(0)
    )
    steps = (flips[:, 0, 0, 1] - flips[:, 0, 0, 0]).tolist()
    assert set(steps) == {1.0, -1.0}
    with pytest.raises(ValueError, match="std must be positive"):
        transforms.Normalize(0.0, 0.0)
    with pytest.raises(ValueError, match=r"images \(N, C, H, W\), got shape \(3,\)"):
        transforms.RandomFlip()(ox.zeros(3))
    with pytest.raises(ValueError, match="larger than 2 with padding 1"):
        transforms.RandomCrop(5, padding=1)(x)


def test_every_crop_is_a_window_of_the_padded_image():
    images = np.arange(6 * 2 * 4 * 5, dtype=np.float32).reshape(6, 2, 4, 5)
    cuts = transforms.RandomCrop(3, padding=1, fill=-1.0)(ox.tensor(images), ox.Generator(2)).numpy()
    places = set()
    for image, cut in zip(
        np.pad(images, [(0, 0), (0, 0), (1, 1), (1, 1)], constant_values=-1), cuts, strict=True
    ):
        found = [(i, j) for i in range(4) for j in range(5) if (image[:, i : i + 3, j : j + 3] == cut).all()]
        assert found
        places.add(found[0])
    assert len(places) > 1


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_random_transforms_repeat_whatever_the_number_of_threads(workers):
    images = ox.rand(12, 1, 6, 6, generator=ox.Generator(0))
    loader = DataLoader(
        (images, ox.arange(12)), 4, shuffle=True, seed=3, num_workers=workers,
        transform=transforms.Compose(transforms.RandomCrop(6, padding=2), transforms.RandomFlip()),
    )  # fmt: skip
    epochs = [[x.numpy() for x, _ in loader] for _ in range(2)]
    plain = DataLoader(
        (images, ox.arange(12)), 4, shuffle=True, seed=3, num_workers=0, transform=loader.transform
    )
    for got, (want, _) in zip(epochs[0], plain, strict=True):
        np.testing.assert_array_equal(got, want.numpy())
    assert any((a != b).any() for a, b in zip(*epochs, strict=True))


def test_a_plain_function_transforms_the_inputs_only():
    loader = DataLoader((ox.arange(4), ox.arange(4)), 4, transform=lambda x: x * 10)
    ((x, y),) = loader
    assert x.tolist() == [0, 10, 20, 30]
    assert y.tolist() == [0, 1, 2, 3]


def test_importing_data_and_training_loads_nothing_heavy():
    script = (
        "import oxon.data, oxon.train, oxon.io, sys\n"
        "heavy = ('numpy', 'gzip', 'json', 'csv', 'urllib.request', 'matplotlib', 'threading')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
