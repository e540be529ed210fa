"""Saving and loading: what comes back, what other programs read, and what is refused."""

import os

import numpy as np
import oxon as ox
import pytest
from oxon import nn


def same(a, b):
    if isinstance(a, ox.Tensor):
        return a.dtype == b.dtype and a.tolist() == b.tolist()
    if isinstance(a, dict):
        return type(b) is dict and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (tuple, list)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"a": ox.ones(2), "b.c": ox.zeros(0, 3)},
        {
            "state": {0: {"step": ox.tensor(3.0), "m": ox.ones(2)}},
            "groups": [{"lr": 0.1, "betas": (0.9, 0.99)}],
        },
        {
            "a.b": ox.ones(1),
            "a": {"b": ox.zeros(1)},
            "n": None,
            "t": True,
            "s": "text é",
            "i": -3,
            "x": 1e-300,
        },
        [ox.arange(3), (), [], {"tensor": "x", "dict": []}],
        ox.tensor([1, 2], dtype=ox.uint8),
        float("inf"),
    ],
    ids=str,
)
def test_what_is_saved_comes_back(tmp_path, value):
    ox.save(value, tmp_path / "file")
    assert same(value, ox.load(tmp_path / "file"))
    assert os.listdir(tmp_path) == ["file"], "nothing temporary is left"


def test_a_flat_dict_is_a_plain_safetensors_file(tmp_path):
    reader = pytest.importorskip("safetensors.numpy")
    model = nn.Linear(3, 2)
    ox.save(model.state_dict(), tmp_path / "model.safetensors", metadata={"made by": "a test"})
    loaded = reader.load_file(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(loaded["weight"], model.weight.detach().numpy())
    reader.save_file(
        {"weight": loaded["weight"] * 2, "bias": loaded["bias"]}, tmp_path / "theirs.safetensors"
    )
    model.load_state_dict(ox.load(tmp_path / "theirs.safetensors"))
    np.testing.assert_array_equal(model.weight.detach().numpy(), loaded["weight"] * 2)


def test_save_names_what_it_cannot_store(tmp_path):
    for value, message in [
        ({"a": [1, {2: object()}]}, "a.1.2 is of type object"),
        (nn.Linear(1, 1), r"is of type Linear, which cannot be stored: save its state_dict\(\)"),
        ({"a": {(1, 2): 3}}, "a: a key is tuple, not str or int"),
        (b"bytes", "is of type bytes"),
    ]:
        with pytest.raises(TypeError, match=message):
            ox.save(value, tmp_path / "file")
    with pytest.raises(ValueError, match="is taken"):
        ox.save({}, tmp_path / "file", metadata={"oxon.tree": ""})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "tree",
    [
        "{",
        '{"tensor": "none"}',
        '{"dict": 3}',
        '{"list": [{"odd": 1}]}',
        '{"a": 1, "b": 2}',
        "[1]" * 2,
        '{"dict": [[[], 1]]}',
    ],
)
def test_a_forged_structure_is_an_error(tmp_path, tree):
    from oxon._core import save_safetensors

    save_safetensors(str(tmp_path / "file"), {"x": ox.ones(1)}, {"oxon.tree": tree})
    with pytest.raises(OSError, match="structure in its metadata is damaged"):
        ox.load(tmp_path / "file")


def test_load_refuses_what_is_no_safetensors_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        ox.load(tmp_path / "none")
    for content in (b"", b"\xff" * 8, b"\x10" + b"\0" * 7 + b"{", b"not a file at all, but text"):
        (tmp_path / "bad").write_bytes(content)
        with pytest.raises(OSError, match=r"safetensors.*bad"):
            ox.load(tmp_path / "bad")
