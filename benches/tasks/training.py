"""Training steps: forward, loss, backward, Adam. All libraries start from the same weights, and their first
losses must agree. With `--autocast` products run in bfloat16."""

from __future__ import annotations

from typing import Any

from measure import Task, Tasks

from .networks import GPTS, VOCABULARY, recurrent, sequential, torch_gpt, torch_resnet18


def data(np: Any, name: str) -> tuple[Any, Any]:
    """Inputs and labels."""
    rng = np.random.default_rng(0)
    if name in GPTS:
        *_, block, batch = GPTS[name]
        tokens = rng.integers(0, VOCABULARY, (batch, block + 1))
        return tokens[:, :-1].copy(), tokens[:, 1:].copy()
    shape = {
        "mlp": (128, 784),
        "tiny": (4, 16),
        "cnn": (64, 1, 28, 28),
        "resnet18": (32, 3, 32, 32),
        "lstm": (32, 64, 64),
        "gru": (32, 64, 64),
    }[name]
    x = rng.standard_normal(shape, dtype=np.float32)
    if name == "tiny":
        return x, rng.standard_normal((4, 1), dtype=np.float32)
    return x, rng.integers(0, 10, shape[0])


def network(lib: dict[str, Any], library: str, name: str) -> Any:
    """The network in one of the libraries that have modules."""
    module = lib[library]
    if name in ("lstm", "gru"):
        return recurrent(module.nn, name)
    if name == "resnet18":
        return torch_resnet18(module) if library == "torch" else module.models.resnet18(10, cifar=True)
    if name in GPTS:
        layers, heads, width, block, _ = GPTS[name]
        if library == "torch":
            return torch_gpt(module, layers, heads, width, block)
        return module.models.GPT(module.models.GPTConfig(VOCABULARY, block, layers, heads, width))
    return sequential(module.nn, name)


def step(module: Any, model: Any, name: str, x: Any, y: Any, forward: Any, low: bool) -> Task:
    """One step of training, which gives its loss."""
    F = module.nn.functional
    optimizer = module.optim.Adam(model.parameters(), lr=1e-3)

    def loss_of(z: Any) -> Any:
        if name == "tiny":
            return F.mse_loss(z, y)
        return F.cross_entropy(z.flatten(0, -2), y.flatten()) if name in GPTS else F.cross_entropy(z, y)

    def run() -> Any:
        optimizer.zero_grad()
        with module.autocast("cpu", dtype=module.bfloat16, enabled=low):
            loss = loss_of(forward(x))
        loss.backward()
        optimizer.step()
        return loss.detach()

    return run


def training(lib: dict[str, Any], name: str) -> dict[str, Task]:
    """The step in all libraries; PyTorch as it comes, with channels last, and compiled."""
    a, b = data(lib["numpy"], name)
    ox, low = lib["oxon"], lib.get("autocast", False)
    model = network(lib, "oxon", name)
    start = {key: value.cpu().numpy().copy() for key, value in model.state_dict().items()}
    tasks = {"oxon": step(ox, model, name, ox.tensor(a), ox.tensor(b), model, low)}
    if torch := lib.get("torch"):
        kinds = (
            ["torch"] + ["torch nhwc"] * (name in ("cnn", "resnet18")) + ["torch compile"] * lib["compile"]
        )
        for kind in kinds:
            peer = network(lib, "torch", name)
            given = {key: torch.tensor(start[key]) for key in peer.state_dict() if key in start}
            peer.load_state_dict(given, strict=False)
            x, y = torch.tensor(a), torch.tensor(b)
            if kind == "torch nhwc":
                peer, x = (v.to(memory_format=torch.channels_last) for v in (peer, x))
            forward = torch.compile(peer) if kind == "torch compile" else peer
            tasks[kind] = step(torch, peer, name, x, y, forward, low)
    if "jax" in lib and name in ("mlp", "tiny") and not low:
        tasks["jax"] = jax_step(lib, start, a, b, name)
    agree(lib["numpy"], tasks, name, 2e-2 if low else 1e-4)
    return tasks


def agree(np: Any, tasks: dict[str, Task], name: str, rtol: float) -> None:
    """Runs three steps of each library; the losses must be the same."""
    losses = {library: [float(task()) for _ in range(3)] for library, task in tasks.items()}
    for library, got in losses.items():
        np.testing.assert_allclose(
            got, losses["oxon"], rtol=max(2e-2, 5 * rtol), err_msg=f"{name}: {library} and oxon differ"
        )
        np.testing.assert_allclose(
            got[0], losses["oxon"][0], rtol=rtol, err_msg=f"{name}: {library} and oxon differ"
        )


def jax_step(lib: dict[str, Any], start: dict[str, Any], a: Any, b: Any, name: str) -> Task:
    """A multilayer perceptron's step with Adam, compiled as one function."""
    jax = lib["jax"]
    jnp = jax.numpy
    layers = sorted({key.split(".")[0] for key in start}, key=int)
    weights = [(jnp.asarray(start[f"{k}.weight"]), jnp.asarray(start[f"{k}.bias"])) for k in layers]
    x, y = jnp.asarray(a), jnp.asarray(b)

    def loss_of(weights: Any) -> Any:
        h = x
        for i, (w, c) in enumerate(weights):
            h = h @ w.T + c
            h = h if i + 1 == len(weights) else jnp.maximum(h, 0)
        if name == "tiny":
            return ((h - y) ** 2).mean()
        return -jnp.take_along_axis(jax.nn.log_softmax(h), y[:, None], 1).mean()

    def adam(state: Any) -> Any:
        weights, m, v, t = state
        loss, grads = jax.value_and_grad(loss_of)(weights)
        t = t + 1
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, grads)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, grads)
        weights = jax.tree.map(
            lambda w, m, v: w - 1e-3 * (m / (1 - 0.9**t)) / (jnp.sqrt(v / (1 - 0.999**t)) + 1e-8),
            weights,
            m,
            v,
        )
        return (weights, m, v, t), loss

    compiled = jax.jit(adam, donate_argnums=0)
    zeros = jax.tree.map(jnp.zeros_like, weights)
    state = [(weights, zeros, jax.tree.map(jnp.zeros_like, weights), jnp.float32(0))]

    def run() -> Any:
        state[0], loss = compiled(state[0])
        return loss.block_until_ready()

    return run


NAMES = {
    "mlp b128": "mlp",
    "cnn b64": "cnn",
    "resnet18 b32": "resnet18",
    "lstm b32": "lstm",
    "gru b32": "gru",
    **{name: name for name in GPTS},
    "16-16-1 b4": "tiny",
}

TASKS: Tasks = {
    f"step {_label}": lambda lib, name=_name: training(lib, name) for _label, _name in NAMES.items()
}
