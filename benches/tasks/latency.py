"""Inference at batch 1, beside PyTorch and ONNX Runtime: a perceptron, ResNet-18 at 224 × 224, and one token
of a GPT whose cache holds 128 (6 layers, 6 heads, width 384)."""

from __future__ import annotations

import io
import os
from typing import Any

from measure import Task, Tasks

from .networks import VOCABULARY, sequential, torch_gpt, torch_resnet18

LAYERS, HEADS, WIDTH, BLOCK, PAST = 6, 6, 384, 256, 128


def session(lib: dict[str, Any], module: Any, inputs: tuple[Any, ...], names: list[str]) -> Any:
    """ONNX Runtime's session of a module of PyTorch, on as many threads as everybody."""
    file = io.BytesIO()
    lib["torch"].onnx.export(module, inputs, file, input_names=names, dynamo=False)
    options = lib["ort"].SessionOptions()
    options.intra_op_num_threads = int(os.environ["OMP_NUM_THREADS"])
    return lib["ort"].InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])


def forward(lib: dict[str, Any], name: str) -> dict[str, Task]:
    """A network on one input."""
    np, ox = lib["numpy"], lib["oxon"]
    large = name == "resnet18"
    a = np.random.default_rng(0).standard_normal((1, 3, 224, 224) if large else (1, 784), dtype=np.float32)
    model = ox.models.resnet18(10) if large else sequential(ox.nn, "mlp")
    x = ox.tensor(a)
    model.eval()

    def run() -> Any:
        with ox.no_grad():
            return model(x).numpy()

    tasks: dict[str, Task] = {"oxon": run}
    if torch := lib.get("torch"):
        peer = torch_resnet18(torch, cifar=False) if large else sequential(torch.nn, "mlp")
        weights = {key: torch.tensor(value.numpy()) for key, value in model.state_dict().items()}
        peer.load_state_dict(weights, strict=False)
        peer.eval()
        t = torch.tensor(a)
        add(lib, tasks, torch, peer, (t,), large)
    agree(np, name, tasks)
    return tasks


def add(
    lib: dict[str, Any],
    tasks: dict[str, Task],
    torch: Any,
    peer: Any,
    inputs: tuple[Any, ...],
    images: bool = False,
) -> None:
    """PyTorch's module, for images in both memory formats, and ONNX Runtime's of the same."""

    def of(module: Any, given: tuple[Any, ...]) -> Task:
        def run() -> Any:
            with torch.inference_mode():
                found = module(*given)
                return (found if isinstance(found, torch.Tensor) else found[0]).numpy()

        return run

    tasks["torch"] = of(peer, inputs)
    if "ort" in lib:
        names = [f"in{i}" for i in range(len(inputs))]
        runtime = session(lib, peer, inputs, names)
        given = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
        tasks["ort"] = lambda: runtime.run(None, given)[0]
    if images:
        last = torch.channels_last
        other = torch_resnet18(torch, cifar=False).eval()
        other.load_state_dict(peer.state_dict())
        tasks["torch nhwc"] = of(other.to(memory_format=last), (inputs[0].to(memory_format=last),))


def token(lib: dict[str, Any]) -> dict[str, Task]:
    """The next token's logits, beside the keys and values of those before it."""
    np, ox = lib["numpy"], lib["oxon"]
    rng = np.random.default_rng(0)
    config = ox.models.GPTConfig(VOCABULARY, BLOCK, LAYERS, HEADS, WIDTH)
    model = ox.models.GPT(config).eval()
    before = rng.integers(0, VOCABULARY, (1, PAST))
    cache = ox.models.KVCache(LAYERS)
    x = ox.tensor(rng.integers(0, VOCABULARY, (1, 1)))
    with ox.no_grad():
        model(ox.tensor(before), cache).numpy()
    held = [[part.numpy() for part in parts] for parts in (cache.keys, cache.values)]

    def run() -> Any:
        cache.truncate(PAST)
        with ox.no_grad():
            return model(x, cache).numpy()

    tasks: dict[str, Task] = {"oxon": run}
    if torch := lib.get("torch"):
        F = torch.nn.functional
        gpt = torch_gpt(torch, LAYERS, HEADS, WIDTH, BLOCK)
        gpt.load_state_dict({key: torch.tensor(v.numpy()) for key, v in model.state_dict().items()})

        class Next(torch.nn.Module):  # type: ignore[misc]
            """One step of the same decoder: logits, then all keys and values."""

            def __init__(self) -> None:
                super().__init__()
                self.gpt = gpt

            def forward(self, tokens: Any, keys: Any, values: Any) -> Any:
                g = self.gpt
                x, k_all, v_all = g.tokens(tokens) + g.places.weight[PAST : PAST + 1], [], []
                for i, layer in enumerate(g.blocks):
                    parts = layer.qkv(layer.norm1(x)).unflatten(-1, (3, HEADS, WIDTH // HEADS)).unbind(2)
                    q, k, v = (part.transpose(1, 2) for part in parts)
                    k, v = torch.cat([keys[i], k], 2), torch.cat([values[i], v], 2)
                    k_all.append(k)
                    v_all.append(v)
                    y = F.scaled_dot_product_attention(q, k, v)
                    x = x + layer.out(y.transpose(1, 2).flatten(2))
                    x = x + layer.down(F.gelu(layer.up(layer.norm2(x))))
                return F.linear(g.norm(x), g.tokens.weight), *k_all, *v_all

        k, v = (torch.tensor(np.stack(parts)) for parts in held)
        add(lib, tasks, torch, Next().eval(), (torch.tensor(x.numpy()), k, v))
    agree(np, "token", tasks)
    return tasks


def agree(np: Any, name: str, tasks: dict[str, Task]) -> None:
    """All libraries must say the same."""
    want = tasks["oxon"]()
    for library, task in tasks.items():
        np.testing.assert_allclose(task(), want, rtol=1e-2, atol=1e-3, err_msg=f"{name}: {library}")


TASKS: Tasks = {
    "infer mlp b1": lambda lib: forward(lib, "mlp"),
    "infer resnet18 224 b1": lambda lib: forward(lib, "resnet18"),
    "infer gpt token": token,
}
