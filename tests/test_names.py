"""Other names of the same operations, and whether whole tensors are alike."""

from __future__ import annotations

import oxon as ox
import pytest
from oxon import _core


@pytest.mark.parametrize("name", list(_core.ALIASES))
def test_another_name_is_the_same_thing(name: str) -> None:
    of = _core.ALIASES[name]
    assert getattr(ox, name) is getattr(ox, of)
    assert hasattr(ox.Tensor, name) == hasattr(ox.Tensor, of)
    if hasattr(ox.Tensor, of):
        assert getattr(ox.Tensor, name) is getattr(ox.Tensor, of)


def test_names_of_the_array_api_and_of_pytorch_compute() -> None:
    x = ox.arange(6.0).reshape(2, 3)
    assert ox.permute_dims(x, (1, 0)).shape == x.swapaxes(0, 1).shape == (3, 2)
    assert ox.concat([x, x]).shape == ox.concatenate([x, x]).shape == (4, 3)
    assert x.mm(x.T).tolist() == (x @ x.T).tolist()
    assert x.clip(1, 2).tolist() == [[1, 1, 2], [2, 2, 2]]
    assert ox.greater(x, 4).sum().item() == 1


def test_logical_connectives_take_any_dtype() -> None:
    x = ox.tensor([0.0, -0.0, 2.0, float("nan")])
    assert x.logical_not().tolist() == [True, True, False, False]
    assert ox.logical_and(x, ox.tensor([1, 1, 0, 1])).tolist() == [False, False, False, True]
    assert x.logical_or(False).tolist() == [False, False, True, True]
    assert x.logical_xor(1).tolist() == [True, True, False, False]
    with pytest.raises(TypeError, match="logical_and: expected a tensor"):
        x.logical_and("yes")


def test_whole_tensors_are_compared() -> None:
    x = ox.tensor([1.0, 2.0])
    assert x.equal(ox.tensor([1, 2]))
    assert not ox.equal(x, ox.tensor([1.0, 2.5]))
    assert not x.equal(ox.tensor([[1.0, 2.0]]))
    assert ox.zeros(0).equal(ox.ones(0))
    assert ox.allclose(x, x + 1e-6)
    assert not x.allclose(x + 1e-3)
    assert x.allclose(x + 1e-3, atol=1e-2)
    nan = ox.tensor([float("nan")])
    assert not nan.allclose(nan)
    assert nan.allclose(nan, equal_nan=True)
    assert ox.tensor([2**53 + 1]).isclose(2**53 + 1).item()


def test_distinct_elements() -> None:
    x = ox.tensor([[3, 1], [1, 2]])
    assert x.unique().tolist() == [1, 2, 3]
    values, inverse, counts = ox.unique(x, return_inverse=True, return_counts=True)
    assert values[inverse].tolist() == x.tolist()
    assert counts.tolist() == [2, 1, 1]
    assert len(x.unique(return_counts=True)) == 2


def test_shapes_of_others() -> None:
    x = ox.ones(1, 3)
    assert x.expand_as(ox.zeros(2, 3)).shape == (2, 3)
    assert x.view_as(ox.zeros(3)).shape == (3,)
    with pytest.raises(ox.ShapeError):
        x.view_as(ox.zeros(4))


def test_what_comes_with_its_place_has_names() -> None:
    x = ox.tensor([[1.0, 3.0, 2.0]])
    for found in (x.max(1), x.topk(1), x.kthvalue(3), x.sort(descending=True)):
        assert found.values[0, 0].item() == 3 if found.values.ndim == 2 else found.values.item() == 3
        assert found.indices.reshape(-1)[0].item() == 1
        assert isinstance(found, tuple)
    values, indices = x.median(1)
    assert (values.item(), indices.item()) == (2, 2)


def test_one_number_is_formatted_as_it() -> None:
    loss = ox.tensor(0.123456)
    assert f"{loss:.3f}" == "0.123"
    assert f"{ox.tensor(7):03d} {ox.tensor(True)}" == "007 True"
    assert f"{ox.ones(2)}" == repr(ox.ones(2))
    with pytest.raises(TypeError, match=r"format: .* is for one number, and the tensor has the shape \(2,\)"):
        f"{ox.ones(2):.3f}"


def test_the_number_of_values_has_two_names() -> None:
    assert ox.linspace(0, 1, 3).tolist() == ox.linspace(0, 1, steps=3).tolist() == [0, 0.5, 1]
    for wrong in ({}, {"num": 2, "steps": 2}):
        with pytest.raises(TypeError, match="linspace: give the number of values"):
            ox.linspace(0, 1, **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name", ["all", "amax", "amin", "any", "argmax", "logsumexp", "mean", "prod", "std", "sum", "var"]
)
def test_axes_have_two_names(name: str) -> None:
    x = ox.arange(6.0).reshape(2, 3)
    call = getattr(ox, name)
    assert call(x, axis=1, keepdims=True).tolist() == call(x, dim=1, keepdim=True).tolist()
    assert getattr(x, name)(axis=0).tolist() == call(x, 0).tolist()
    with pytest.raises(TypeError, match=f"{name}: dim and axis are two names of one argument"):
        call(x, dim=0, axis=0)
