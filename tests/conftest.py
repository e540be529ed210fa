"""What holds for every test: hypothesis draws the same examples on every machine, and no test leaves a switch
of the process turned, or depends on one that the environment turned."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# Fusing and threads are what some tests turn themselves; OXON_ISA and OXON_DATA stay what the caller chose.
for _name in ("OXON_FUSE", "OXON_NUM_THREADS"):
    os.environ.pop(_name, None)

settings.register_profile(
    "oxon",
    derandomize=True,
    deadline=None,
    max_examples=50,
    database=None,
    print_blob=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
# For a longer search: `pytest --hypothesis-profile=search tests/test_fusion.py`.
settings.register_profile("search", settings.get_profile("oxon"), derandomize=False, max_examples=2000)
settings.load_profile("oxon")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", choices=("cpu", "gpu"), help="where tests make their tensors")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--device") == "gpu":
        import on_gpu

        reason = on_gpu.missing()
        if reason is None:
            on_gpu.turn_on()
        elif os.environ.get("OXON_REQUIRE_GPU") == "1":
            raise pytest.UsageError(f"OXON_REQUIRE_GPU is set, and there is no GPU: {reason}")
        else:
            pytest.exit(f"--device gpu: skipped, since there is no GPU: {reason}", returncode=0)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--device") != "gpu":
        return
    for item in items:
        for mark in item.iter_markers("cpu"):
            item.add_marker(pytest.mark.skip(reason=f"on the CPU alone: {mark.args[0]}"))
        parameters = getattr(item, "callspec", None)
        if parameters and "float64" in map(str, parameters.params.values()):
            item.add_marker(pytest.mark.skip(reason="no GPU shader has float64"))


@pytest.fixture(autouse=True)
def switches() -> Iterator[None]:
    """The process's switches stand after a test as they stood before it."""
    import oxon as ox

    threads, device, grad = ox.get_num_threads(), ox.get_default_device(), ox.is_grad_enabled()
    fuse = ox.set_fuse(True)
    yield
    ox.set_num_threads(threads)
    ox.set_default_device(device)
    ox._core._set_grad_enabled(grad)
    ox.set_fuse(fuse)
