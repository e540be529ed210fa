"""Modules as trees: registration, walking, state dicts, hooks, repr, error notes; not the layers."""

import copy
import doctest
import importlib
import pickle
import pkgutil

import numpy as np
import oxon as ox
import pytest
from numeric import assert_close, t64
from oxon import nn, optim


class Block(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.fc = nn.Linear(size, size)
        self.norm = nn.BatchNorm1d(size)

    def forward(self, x):
        return self.norm(self.fc(x)).relu()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(ox.ones(1))
        self.blocks = nn.ModuleList([Block(4), Block(4)])
        self.heads = nn.ModuleDict({"a": nn.Linear(4, 2), "b": nn.Linear(4, 3, bias=False)})
        self.register_buffer("mask", ox.ones(4))
        self.register_buffer("scratch", ox.zeros(2), persistent=False)

    def forward(self, x):
        for block in self.blocks:
            x = block(x * self.mask)
        return self.heads["a"](x) * self.scale


KEYS = [
    "scale",
    "mask",
    "blocks.0.fc.weight",
    "blocks.0.fc.bias",
    "blocks.0.norm.weight",
    "blocks.0.norm.bias",
    "blocks.0.norm.running_mean",
    "blocks.0.norm.running_var",
    "blocks.0.norm.num_batches_tracked",
    "blocks.1.fc.weight",
    "blocks.1.fc.bias",
    "blocks.1.norm.weight",
    "blocks.1.norm.bias",
    "blocks.1.norm.running_mean",
    "blocks.1.norm.running_var",
    "blocks.1.norm.num_batches_tracked",
    "heads.a.weight",
    "heads.a.bias",
    "heads.b.weight",
]


@pytest.mark.parametrize(
    "name",
    [
        m.name
        for package in (nn, optim)
        for m in pkgutil.walk_packages(package.__path__, package.__name__ + ".")
    ],
)
def test_doctests(name):
    module = importlib.import_module(name)
    ox.manual_seed(0)
    result = doctest.testmod(module, extraglobs={"ox": ox, "nn": nn, "optim": optim})
    assert result.failed == 0


@pytest.mark.parametrize("package", [nn, optim, nn.functional, nn.init, nn.utils])
def test_everything_public_is_documented(package):
    names = getattr(package, "__all__", None) or [n for n in vars(package) if n.endswith("_") and n[0] != "_"]
    for name in names:
        thing = getattr(package, name)
        assert thing.__doc__, f"{name} has no docstring"
        if isinstance(thing, type) and thing is not nn.Module:
            assert ">>>" in thing.__doc__, f"{name} has no example"


# -- registration ----------------------------------------------------------------------------------


def test_names_and_order_are_pytorchs():
    net = Net()
    assert list(net.state_dict()) == KEYS
    parameters = [
        key for key in KEYS if not key.startswith("mask") and "running" not in key and "num_b" not in key
    ]
    assert [name for name, _ in net.named_parameters()] == parameters
    assert len(list(net.parameters())) == len(parameters)
    assert "scratch" in dict(net.named_buffers())
    assert "scratch" not in net.state_dict()
    assert [name for name, _ in net.named_children()] == ["blocks", "heads"]
    assert [name for name, _ in net.named_modules()][:4] == ["", "blocks", "blocks.0", "blocks.0.fc"]
    assert [n for n, _ in net.named_parameters(prefix="net", recurse=False)] == ["net.scale"]
    assert len(list(net.children())) == 2


def test_super_init_is_optional():
    class Bare(nn.Module):
        def __init__(self):
            self.fc = nn.Linear(2, 2)

    assert list(Bare().state_dict()) == ["fc.weight", "fc.bias"]
    assert Bare().training


def test_parameter():
    source = ox.ones(3)
    p = nn.Parameter(source)
    assert isinstance(p, ox.Tensor)
    assert p.requires_grad
    assert p.is_leaf
    assert not source.requires_grad
    with ox.no_grad():
        source.fill_(5.0)
    assert p.tolist() == [1.0, 1.0, 1.0]
    assert not nn.Parameter(ox.ones(2), requires_grad=False).requires_grad
    assert nn.Parameter([1.0, 2.0]).shape == (2,)
    assert type(p * 2) is ox.Tensor
    assert repr(p).startswith("Parameter([1")
    for twin in (copy.deepcopy(p), copy.copy(p), pickle.loads(pickle.dumps(p))):
        assert type(twin) is nn.Parameter
        assert twin is not p
        assert twin.requires_grad
        assert twin.tolist() == p.tolist()
    with pytest.raises((TypeError, RuntimeError)):
        nn.Parameter(ox.tensor([1, 2]))  # integers have no gradient


def test_a_parameter_does_not_become_a_plain_tensor():
    layer = nn.Linear(2, 2)
    with pytest.raises(TypeError, match=r"Linear\.weight is a parameter .*nn\.Parameter\(value\)"):
        layer.weight = ox.zeros(2, 2)
    layer.weight = nn.Parameter(ox.zeros(2, 2))
    layer.bias = None
    assert list(layer.state_dict()) == ["weight"]
    assert layer(ox.ones(1, 2)).tolist() == [[0.0, 0.0]]
    del layer.weight
    assert list(layer.parameters()) == []


def test_register_errors():
    module = nn.Module()
    with pytest.raises(TypeError, match="must be a tensor or None, not int"):
        module.register_buffer("x", 3)
    with pytest.raises(TypeError, match=r"must be an nn.Parameter or None, not Tensor"):
        module.register_parameter("x", ox.ones(1))
    with pytest.raises(TypeError, match="must be a Module or None, not int"):
        module.add_module("x", 3)
    with pytest.raises(KeyError, match="hold a dot"):
        module.add_module("a.b", nn.ReLU())
    with pytest.raises(KeyError, match="must not be empty"):
        module.register_buffer("", ox.ones(1))
    with pytest.raises(KeyError, match="already has an attribute 'forward'"):
        module.register_buffer("forward", ox.ones(1))
    with pytest.raises(TypeError, match="must be a str"):
        module.add_module(3, nn.ReLU())
    module.register_buffer("x", None)
    assert module.x is None
    assert not list(module.named_buffers())
    assert not module.state_dict()
    module.x = ox.ones(2)
    assert list(module.state_dict()) == ["x"]
    with pytest.raises(TypeError, match=r"Module\.x is a buffer and takes a tensor or None"):
        module.x = 3
    del module.x
    module.x = ox.ones(2)  # only a tensor from now on
    assert not module.state_dict()
    with pytest.raises(NotImplementedError, match="Module does not define forward"):
        module(1)


def test_shared_parameters_are_listed_once_and_saved_twice():
    first, second = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
    second.weight = first.weight
    model = nn.Sequential(first, second, first)
    assert [name for name, _ in model.named_parameters()] == ["0.weight"]
    assert [n for n, _ in model.named_parameters(remove_duplicate=False)] == [
        "0.weight",
        "1.weight",
        "2.weight",
    ]
    assert list(model.state_dict()) == ["0.weight", "1.weight", "2.weight"]
    assert len(list(model.modules())) == 3
    twin = copy.deepcopy(model)
    assert twin[0].weight is twin[1].weight
    assert twin[0] is twin[2]
    assert twin[0].weight is not first.weight


def test_get_by_path():
    net = Net()
    assert net.get_submodule("") is net
    assert net.get_submodule("blocks.1.fc") is net.blocks[1].fc
    assert net.get_parameter("heads.a.weight") is net.heads["a"].weight
    assert net.get_buffer("blocks.0.norm.running_mean") is net.blocks[0].norm.running_mean
    with pytest.raises(AttributeError, match=r"Net: no 'blocks.7.fc', because blocks has no '7'"):
        net.get_submodule("blocks.7.fc")
    with pytest.raises(AttributeError, match="'scale' is not a module"):
        net.get_submodule("scale")
    with pytest.raises(AttributeError, match="'mask' is not a parameter"):
        net.get_parameter("mask")
    with pytest.raises(AttributeError, match="'scale' is not a buffer"):
        net.get_buffer("scale")


# -- state -----------------------------------------------------------------------------------------


def test_state_dict_is_a_snapshot_and_loads_back():
    net = Net()
    saved = net.state_dict()
    before = {key: value.numpy().copy() for key, value in saved.items()}
    optimizer = optim.SGD(net.parameters(), lr=0.5)
    (net(ox.randn(6, 4)) ** 2).sum().backward()
    optimizer.step()
    assert not np.allclose(net.state_dict()["blocks.0.fc.weight"].numpy(), before["blocks.0.fc.weight"])
    assert net.state_dict()["blocks.0.norm.num_batches_tracked"].item() == 1
    for key, value in saved.items():
        np.testing.assert_array_equal(value.numpy(), before[key])
        assert not value.requires_grad
    identities = [id(p) for p in net.parameters()]
    result = net.load_state_dict(saved)
    assert (result.missing_keys, result.unexpected_keys) == ([], [])
    assert repr(result) == "<All keys matched successfully>"
    for key, value in net.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[key])
    assert [id(p) for p in net.parameters()] == identities
    assert net.state_dict(prefix="net.", keep_vars=True)["net.scale"] is net.scale


def test_load_casts_and_takes_arrays():
    layer = nn.Linear(2, 1)
    layer.load_state_dict({"weight": np.array([[1.0, 2.0]]), "bias": ox.tensor([3], dtype=ox.int64)})
    assert layer.weight.dtype == ox.float32
    assert layer.bias.dtype == ox.float32
    assert layer(ox.ones(1, 2)).tolist() == [[6.0]]


def test_load_errors_say_everything_and_change_nothing():
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    state = model.state_dict()
    state["2.weigth"] = state.pop("2.weight")
    state["0.bias"] = ox.full((5,), 7.0)
    state["0.weight"] = ox.full((3, 4), 7.0)
    before = model[0].weight.tolist()
    with pytest.raises(RuntimeError) as caught:
        model.load_state_dict(state)
    assert str(caught.value).split("\n") == [
        "load_state_dict of Sequential:",
        "  missing: 2.weight (2, 3)",
        "  unexpected: 2.weigth (did you mean 2.weight?)",
        "  shape: 0.bias is (3,) in the model, (5,) in the state dict",
    ]
    assert model[0].weight.tolist() == before
    with pytest.raises(RuntimeError, match=r"shape: 0.bias"):
        model.load_state_dict(state, strict=False)
    del state["0.bias"]
    result = model.load_state_dict(state, strict=False)
    assert result.missing_keys == ["0.bias", "2.weight"]
    assert result.unexpected_keys == ["2.weigth"]
    assert "missing_keys=['0.bias'" in repr(result)
    assert model[0].weight.tolist() == [[7.0] * 4] * 3


def test_load_takes_only_tensors_by_name():
    layer = nn.Linear(2, 1)
    with pytest.raises(TypeError, match="load_state_dict takes tensors by name, not list"):
        layer.load_state_dict([1, 2])
    with pytest.raises(TypeError, match="load_state_dict: bias is no tensor but str"):
        layer.load_state_dict({"weight": np.ones((1, 2)), "bias": "x"})


def test_train_eval_freeze_zero_grad_apply():
    net = Net()
    assert net.eval() is net
    assert not any(module.training for module in net.modules())
    assert net.train() is net
    assert all(module.training for module in net.modules())
    net.requires_grad_(False)
    assert not any(p.requires_grad for p in net.parameters())
    net.requires_grad_()
    net(ox.randn(5, 4)).sum().backward()
    assert net.scale.grad is not None
    net.zero_grad(set_to_none=False)
    assert net.scale.grad.tolist() == [0.0]
    net.zero_grad()
    assert net.scale.grad is None
    seen = []
    assert net.apply(lambda module: seen.append(type(module).__name__)) is net
    assert seen[:3] == ["Linear", "BatchNorm1d", "Block"]
    assert seen[-1] == "Net"


@pytest.mark.cpu("float64")
def test_to_keeps_identity_and_casts_floats_only():
    net = Net()
    identities = [id(p) for p in net.parameters()]
    net(ox.randn(5, 4)).sum().backward()
    assert net.double() is net
    assert net.scale.dtype == ox.float64
    assert net.scale.grad.dtype == ox.float64
    assert net.mask.dtype == ox.float64
    assert net.blocks[0].norm.num_batches_tracked.dtype == ox.int64
    assert net.to(ox.float32).scale.dtype == ox.float32
    assert net.to("cpu", ox.float16).scale.dtype == ox.float16
    assert net.to(device="cpu", dtype=ox.float64).scale.dtype == ox.float64
    assert net.half().scale.dtype == ox.float16
    assert net.bfloat16().scale.dtype == ox.bfloat16
    assert net.float().scale.dtype == ox.float32
    assert net.cpu().scale.device == ox.ones(1).device
    assert [id(p) for p in net.parameters()] == identities
    assert all(p.is_leaf and p.requires_grad for p in net.parameters())
    with pytest.raises(TypeError, match="floating-point dtypes only"):
        net.to(ox.int64)


def test_copy_and_pickle():
    net = Net()
    x = ox.randn(3, 4)
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert list(twin.state_dict()) == KEYS
        assert_close(twin.eval()(x), net.eval()(x).detach().numpy())
        with ox.no_grad():
            twin.scale.fill_(0.0)
        assert net.scale.item() == 1.0


# -- hooks -----------------------------------------------------------------------------------------


def test_forward_hooks():
    layer = nn.Identity()
    calls = []
    first = layer.register_forward_pre_hook(lambda module, args: calls.append("pre"))
    layer.register_forward_pre_hook(lambda module, args: args[0] + 1)
    layer.register_forward_hook(lambda module, args, output: output * 10)
    layer.register_forward_hook(lambda module, args, output: calls.append(output.item()), prepend=True)
    assert layer(ox.tensor(1.0)).item() == 20.0
    assert calls == ["pre", 2.0]
    first.remove()
    first.remove()
    assert layer(ox.tensor(2.0)).item() == 30.0
    assert calls == ["pre", 2.0, 3.0]
    with layer.register_forward_hook(lambda module, args, output: output + 1):
        assert layer(ox.tensor(1.0)).item() == 21.0
    assert layer(ox.tensor(1.0)).item() == 20.0
    assert nn.Identity()(ox.tensor(1.0)).item() == 1.0  # hooks belong to an instance


def test_full_backward_hooks_see_and_change_gradients():
    layer = nn.Linear(2, 1, bias=False)
    with ox.no_grad():
        layer.weight.copy_(ox.tensor([[2.0, 3.0]]))
    calls = []
    layer.register_full_backward_pre_hook(lambda module, grad: calls.append(("pre", grad[0].item())))
    layer.register_full_backward_pre_hook(lambda module, grad: (grad[0] * 10,))
    handle = layer.register_full_backward_hook(
        lambda module, inputs, outputs: calls.append((module is layer, inputs[0].tolist(), outputs[0].item()))
    )
    layer.register_full_backward_hook(lambda module, inputs, outputs: inputs[0] * 0 + 1)
    layer.register_full_backward_hook(lambda *args: calls.append("first"), prepend=True)
    x = ox.tensor([[1.0, 1.0]], requires_grad=True)
    layer(x).backward()
    assert calls == [("pre", 1.0), "first", (True, [[20.0, 30.0]], 10.0)]
    assert x.grad.tolist() == [[1, 1]]
    assert layer.weight.grad.tolist() == [[10, 10]]
    handle.remove()
    calls.clear()
    layer(x).backward()
    assert calls == [("pre", 1.0), "first"]


def test_full_backward_hooks_of_several_inputs_and_outputs():
    class Both(nn.Module):
        def forward(self, a, n, b):
            return a * b * n, "text", a + b

    module, seen = Both(), []
    module.register_full_backward_hook(lambda _, inputs, outputs: seen.append((inputs, outputs)))
    a, b = ox.tensor(2.0, requires_grad=True), ox.tensor(3.0)
    product, text, total = module(a, 5, b)
    assert text == "text"
    product.backward()
    ((inputs, outputs),) = seen
    assert [g and g.item() for g in inputs] == [15.0, None, None]
    assert [g and g.item() for g in outputs] == [1.0, None, None]
    assert total.item() == 5.0


def test_full_backward_hooks_without_a_differentiable_input_or_gradients():
    layer, seen = nn.Linear(2, 1), []
    layer.register_full_backward_hook(lambda _, inputs, outputs: seen.append((inputs, outputs[0].tolist())))
    layer(ox.ones(1, 2)).backward()
    assert seen == [((None,), [[1.0]])]
    with ox.no_grad():
        assert not layer(ox.ones(1, 2)).requires_grad
    twice = nn.Linear(1, 1)
    twice.register_full_backward_hook(lambda *args: None)
    x = ox.ones(1, 1, requires_grad=True)
    (slope,) = ox.grad((twice(x) ** 2).sum(), x, create_graph=True)
    (curve,) = ox.grad(slope.sum(), x)
    assert curve.item() == pytest.approx(2 * twice.weight.item() ** 2)


def test_full_backward_hooks_that_do_not_fit():
    layer = nn.Linear(2, 1)
    layer.register_full_backward_hook(lambda *args: (None, None))
    with pytest.raises(ValueError, match="register_full_backward_hook: the hook gave 2 gradients for 1"):
        layer(ox.ones(1, 2, requires_grad=True)).backward()


def test_hooks_with_kwargs():
    class Scale(nn.Module):
        def forward(self, x, by=1.0):
            return x * by

    layer = Scale()
    layer.register_forward_pre_hook(
        lambda m, args, kwargs: (args, {"by": kwargs["by"] + 1}), with_kwargs=True
    )
    layer.register_forward_hook(lambda m, args, kwargs, output: output + kwargs["by"], with_kwargs=True)
    assert layer(ox.tensor(3.0), by=1.0).item() == 8.0


# -- containers ------------------------------------------------------------------------------------


def test_sequential():
    a, b, c = nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)
    model = nn.Sequential(a, b, c)
    assert len(model) == 3
    assert list(model) == [a, b, c]
    assert model[-1] is c
    assert b in model
    assert isinstance(model[:2], nn.Sequential)
    assert list(model[:2]) == [a, b]
    assert list(model[1:].state_dict()) == ["2.weight", "2.bias"]
    x = ox.randn(4, 2)
    assert_close(model(x), c(b(a(x))).detach().numpy())
    model.append(nn.Tanh()).insert(0, nn.Identity())
    assert [type(m).__name__ for m in model] == ["Identity", "Linear", "ReLU", "Linear", "Tanh"]
    assert list(model.state_dict()) == ["1.weight", "1.bias", "3.weight", "3.bias"]
    del model[0]
    assert isinstance(model.pop(), nn.Tanh)
    model[1] = nn.Sigmoid()
    assert [name for name, _ in model.named_children()] == ["0", "1", "2"]
    assert isinstance(model[1], nn.Sigmoid)
    named = nn.Sequential({"first": a, "act": b})
    assert [name for name, _ in named.named_children()] == ["first", "act"]
    assert named[0] is a
    with pytest.raises(IndexError, match="index 3 is out of range for Sequential of length 3"):
        model[3]
    with pytest.raises(TypeError, match=r"Sequential holds modules, not type; pass an instance, ReLU\(...\)"):
        nn.Sequential(nn.ReLU)
    with pytest.raises(TypeError, match="Sequential holds modules, not function"):
        nn.Sequential(lambda x: x)


def test_module_list_and_dict():
    layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(2))
    layers.extend([nn.ReLU()])
    assert len(layers) == 3
    assert isinstance(layers[2], nn.ReLU)
    with pytest.raises(NotImplementedError):
        layers(1)
    heads = nn.ModuleDict([("a", nn.ReLU())])
    heads["b"] = nn.Linear(1, 1)
    assert list(heads) == list(heads.keys()) == ["a", "b"]
    assert "a" in heads
    assert len(heads) == 2
    assert [name for name, _ in heads.items()] == ["a", "b"]
    assert next(iter(heads.values())) is heads["a"]
    assert isinstance(heads.pop("a"), nn.ReLU)
    assert list(heads.state_dict()) == ["b.weight", "b.bias"]
    with pytest.raises(KeyError):
        heads["zzz"]
    with pytest.raises(KeyError):
        del heads["zzz"]
    heads.clear()
    assert len(heads) == 0
    scales = nn.ParameterList([ox.ones(2)]).append(nn.Parameter(ox.zeros(1)))
    assert len(scales) == 2
    assert scales[1].tolist() == [0.0]
    assert list(scales.state_dict()) == ["0", "1"]


# -- showing and failing ---------------------------------------------------------------------------


def test_repr_is_pytorchs():
    assert repr(Net()) == "\n".join(
        [
            "Net(",
            "  (blocks): ModuleList(",
            "    (0-1): 2 x Block(",
            "      (fc): Linear(in_features=4, out_features=4, bias=True)",
            "      (norm): BatchNorm1d(4, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)",
            "    )",
            "  )",
            "  (heads): ModuleDict(",
            "    (a): Linear(in_features=4, out_features=2, bias=True)",
            "    (b): Linear(in_features=4, out_features=3, bias=False)",
            "  )",
            ")",
        ]
    )
    assert repr(nn.Sequential()) == "Sequential()"
    assert repr(nn.ModuleList([nn.ReLU(), nn.Tanh(), nn.Tanh()])) == (
        "ModuleList(\n  (0): ReLU()\n  (1-2): 2 x Tanh()\n)"
    )


def notes(call):
    with pytest.raises(Exception) as caught:
        call()
    return getattr(caught.value, "__notes__", [])


def test_an_error_says_in_which_module():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(9, 2))
    x = ox.ones(3, 4)
    assert notes(lambda: model(x)) == ["in model.2 Linear(9, 2)"]
    assert notes(lambda: model[2](x)) == ["in model Linear(9, 2)"]
    assert notes(lambda: nn.Sequential(nn.Tanh(), model)(x)) == ["in model.1.2 Linear(9, 2)"]
    assert notes(lambda: nn.Sequential(nn.Conv2d(3, 4, 3))(x)) == ["in model.0 Conv2d(3, 4)"]
    assert notes(lambda: nn.LayerNorm(7)(x)) == [
        "in model LayerNorm((7,), eps=1e-05, elementwise_affine=True, bias=True)"
    ]


def test_an_error_in_a_module_kept_outside_the_tree():
    class Hidden(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = [nn.Sequential(nn.Linear(1, 1))]

        def forward(self, x):
            return self.parts[0](x)

    assert notes(lambda: Hidden()(ox.ones(2, 2))) == ["in model.0 Linear(1, 1)"]


def test_a_caught_error_leaves_no_trace():
    class Retry(nn.Module):
        def __init__(self):
            super().__init__()
            self.wrong, self.right = nn.Linear(3, 1), nn.Linear(2, 1)

        def forward(self, x):
            try:
                return self.wrong(x)
            except ValueError:
                return self.right(x)

    assert Retry()(ox.ones(1, 2)).shape == (1, 1)


def test_summary():
    text = repr(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).summary((4,)))
    assert "58 parameters" in text


def test_training_learns_a_line():
    ox.manual_seed(0)
    x = t64(np.linspace(-1, 1, 20).reshape(20, 1))
    y = 3 * x - 1
    model = nn.Linear(1, 1).double()
    optimizer = optim.SGD(model.parameters(), lr=0.3, momentum=0.5)
    for _ in range(200):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
    assert_close(model.weight, [[3.0]], atol=1e-8)
    assert_close(model.bias, [-1.0], atol=1e-8)
