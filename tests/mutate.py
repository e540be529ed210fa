"""Mutation testing of the kernels and the gradients: `python tests/mutate.py` makes a hundred random mutations of one
token each (`mutations.py` says which), runs the tests on each, and says which the tests did not catch. It fails if
fewer than 95 % were caught.

All mutants are in one build. In a copy of the repository the body that holds a mutated token, a function's or a row's
of THE TABLE, becomes `if crate::mutant::is(17) { mutated } else { original }`, and the environment variable OXON_MUTANT
chooses. A mutant which does not compile is replaced by the next one of the draw, which depends on the seed and the
sources alone.

A mutant is caught by a test that fails, a crash, or a run that takes many times as long as without it. The Rust tests
of its own module come first, then Python's, then the rest of Rust's. They run on this processor: a mutant in a loop for
another instruction set is caught only by tests that run every set there is. A mutant that nothing could tell from the
original, and that no rule leaves out, counts as one that survived.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from mutations import Body, Mutant, Site, Source, draw, mutant, ranges, render, sources

ROOT = Path(__file__).parents[1]
WANTED = 0.95

# Read sources instead of results, need a GPU, or take minutes.
NOT_RUN = ("test_house.py", "test_gpu.py", "test_examples.py")
# The broad ones, which catch most; the others follow in their order.
FIRST = ("test_elementwise.py", "test_structured.py", "test_autograd.py", "test_tensor.py", "test_fusion.py")

PYTEST = (sys.executable, "-m", "pytest", "-x", "--tb=no", "-rfE", "-p", "no:cacheprovider")

MODULE = """//! Which mutant runs: the number in OXON_MUTANT, 0 for none.
use std::sync::atomic::{AtomicU32, Ordering};

static ACTIVE: AtomicU32 = AtomicU32::new(u32::MAX);

#[inline(always)]
pub fn is(mutant: u32) -> bool {
    let active = ACTIVE.load(Ordering::Relaxed);
    (if active == u32::MAX { read() } else { active }) == mutant
}

#[cold]
#[inline(never)]
fn read() -> u32 {
    let active = std::env::var("OXON_MUTANT").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    ACTIVE.store(active, Ordering::Relaxed);
    active
}
"""


def write(path: Path, text: str) -> None:
    """Leaves a file alone that has the text already, so that Cargo need not look at it."""
    if not path.exists() or path.read_text() != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


class Workshop:
    """The copy of the repository in which mutants are built and run."""

    def __init__(self, work: Path, jobs: int) -> None:
        self.work, self.jobs = work, jobs
        self.tree, self.target = work / "tree", work / "target"
        self.env = {
            **os.environ,
            "CARGO_INCREMENTAL": "0",
            "CARGO_TARGET_DIR": str(self.target),
            "PYTHONPATH": str(self.tree / "python"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "MPLBACKEND": "Agg",
            "RUST_TEST_THREADS": "1",
            "RUST_BACKTRACE": "0",
        }

    def copy(self, files: dict[str, Source]) -> None:
        """The files as they are now, but for those that mutants will be written into."""
        listed = subprocess.run(
            ["git", "ls-files", "-coz", "--exclude-standard"],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split("\0")
        for name in (name for name in listed if name and name not in files):
            here, there = ROOT / name, self.tree / name
            if here.is_file() and (not there.exists() or here.read_bytes() != there.read_bytes()):
                there.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(here, there)
        write(self.tree / "rust/mutant.rs", MODULE)
        write(self.tree / "rust/lib.rs", (ROOT / "rust/lib.rs").read_text() + "pub mod mutant;\n")

    def write_mutants(self, files: dict[str, Source], mutants: list[Mutant]) -> None:
        for name, source in files.items():
            write(self.tree / name, render(source, [m for m in mutants if m.site.file == name]))

    def cargo(self, *arguments: str) -> tuple[bool, list[dict[str, object]]]:
        """Whether Cargo succeeded, and its messages."""
        done = subprocess.run(
            ["cargo", *arguments, "--locked", "--message-format=json"],
            cwd=self.tree,
            env=self.env,
            stdout=subprocess.PIPE,
            text=True,
        )
        messages = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        return done.returncode == 0, messages

    def refused(self, messages: list[dict[str, object]]) -> set[int]:
        """The mutants that the compiler's errors speak of."""
        marks: dict[str, list[tuple[int, int, set[int], bool]]] = {}
        found: set[int] = set()
        for message in messages:
            told = message.get("message")
            if not isinstance(told, dict) or told["level"] != "error" or not told["spans"]:
                continue
            places = {place for s in told["spans"] for place in places_of(s)}
            copies: set[int] = set()
            chains: set[int] = set()
            for file, line in places:
                if file not in marks and (self.tree / file).is_file():
                    marks[file] = ranges((self.tree / file).read_text())
                for first, last, numbers, whole in marks.get(file, []):
                    if first <= line <= last:
                        (chains if whole else copies).update(numbers)
            if not copies and not chains:
                raise SystemExit(told["rendered"])
            found |= copies or chains
        return found

    def choose(self, files: dict[str, Source], seed: int, count: int) -> list[Mutant]:
        """The first `count` of the draw that compile."""
        order = iter(draw(files, seed))
        pool: list[Mutant] = []
        while True:
            while len(pool) < 2 * count:
                site = next(order, None)
                if site is None:
                    break
                last = pool[-1].number if pool else 0
                pool.append(mutant(last + 1, files[site.file], site))
            self.write_mutants(files, pool)
            good, messages = self.cargo("check", "--lib", "--no-default-features", "--features", "python")
            if good:
                return pool[:count]
            refused = self.refused(messages)
            if not refused:
                raise SystemExit("the compiler fails, and names no line")
            print(f"{len(refused)} of {len(pool)} do not compile", flush=True)
            pool = [m for m in pool if m.number not in refused]

    def build(self) -> None:
        """The extension and the Rust tests."""
        good, messages = self.cargo("build", "--lib", "--no-default-features", "--features", "python")
        if not good:
            raise SystemExit(f"the extension does not build: mutants {sorted(self.refused(messages))}")
        names = [str(name) for m in messages for name in listed(m.get("filenames"))]
        library = next(Path(n) for n in names if re.search(r"oxon\.(so|dylib|dll)$", n))
        shutil.copy(library, self.tree / "python/oxon/_core.abi3.so")
        good, messages = self.cargo("test", "--lib", "--no-run", "--no-default-features")
        if not good:
            raise SystemExit(f"the tests do not build: mutants {sorted(self.refused(messages))}")
        tests = next(str(m["executable"]) for m in messages if m.get("executable"))
        shutil.copy(tests, self.work / "rust-tests")

    def stages(self, file: str) -> dict[str, list[str]]:
        """Commands that test a mutant of this file, in order, by what they run."""
        folder = self.tree / "tests"
        rest = sorted(p.name for p in folder.glob("test_*.py") if p.name not in (*FIRST, *NOT_RUN))
        python = {
            "Python, broad": [*PYTEST, *(f"tests/{name}" for name in FIRST)],
            "Python, the rest": [*PYTEST, *(f"tests/{name}" for name in rest)],
        }
        rust = [str(self.work / "rust-tests"), "-q"]
        _, room, name, *_ = Path(file).with_suffix("").parts
        if room == "ir" or name == "lanes":
            modules = ["ir::", "cpu::pointwise::", "cpu::math::"]
        else:
            modules = [f"cpu::{name}::"] if room == "cpu" else ["ops::", "autograd::"]
        return {f"Rust, {' and '.join(modules)}": [*rust, *modules], **python, "Rust, all": rust}

    def run(self, command: list[str], number: int, limit: float) -> tuple[str, str]:
        """How the tests of a stage ended with this mutant: passed, failed, crashed or hung; and where."""
        env = {**self.env, "OXON_MUTANT": str(number)}
        # A mutant may ask for all the memory there is.
        limited = ["sh", "-c", 'ulimit -v 12000000; exec "$@"', "sh", *command]
        with tempfile.TemporaryFile("w+", errors="replace") as output:
            child = subprocess.Popen(
                limited,
                cwd=self.tree,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                status = child.wait(limit)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
                return "hung", f"{limit:.0f} s"
            output.seek(0)
            text = output.read()[-20_000:]
        if status == 0:
            return "passed", ""
        if status < 0 or status > 128:
            return "crashed", f"signal {-status if status < 0 else status - 128}"
        found = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$|^    (\S+::\S+)$", text, re.M)
        return "failed", (found[1] or found[2]) if found else text[-300:]

    def fails_again(self, test: str, number: int, limit: float) -> bool:
        """Whether a test that failed with this mutant does so alone: one that fails now and then catches nothing."""
        command = [*PYTEST, test] if ".py" in test else [str(self.work / "rust-tests"), "--exact", test]
        return self.run(command, number, limit)[0] != "passed"


def places_of(span: object) -> Iterator[tuple[str, int]]:
    """File and line of a compiler's span, and of the macros through which it came to be."""
    while isinstance(span, dict):
        for line in range(span["line_start"], min(span["line_end"], span["line_start"] + 3) + 1):
            yield span["file_name"], line
        span = span["expansion"]["span"] if span["expansion"] else None


def listed(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def examine(shop: Workshop, m: Mutant, limits: dict[str, float]) -> dict[str, object]:
    """Runs the tests on one mutant until one fails."""
    began = time.monotonic()
    how, where, stage = "passed", "", ""
    for stage, command in shop.stages(m.site.file).items():
        how, where = shop.run(command, m.number, limits[stage])
        if how == "failed" and not shop.fails_again(where, m.number, limits[stage]):
            aside = "--deselect" if stage.startswith("Python") else "--skip"
            how, where = shop.run([*command, aside, where], m.number, limits[stage])
        if how != "passed":
            break
    site = {k: v for k, v in asdict(m).items() if k != "site"}
    return {
        "file": m.site.file,
        **site,
        "caught": how != "passed",
        "how": how,
        "where": where,
        "stage": stage,
        "seconds": round(time.monotonic() - began, 1),
    }


def measure(shop: Workshop, mutants: list[Mutant]) -> dict[str, float]:
    """How long each stage may take: several times as long as without a mutant, when all tests must pass."""
    limits = {}
    stages = {stage: command for m in mutants for stage, command in shop.stages(m.site.file).items()}
    for stage, command in stages.items():
        began = time.monotonic()
        how, where = shop.run(command, 0, 3600)
        if how != "passed":
            raise SystemExit(f"{stage}: without a mutant, {how}: {where}")
        took = time.monotonic() - began
        print(f"{took:6.1f} s without a mutant: {stage}", flush=True)
        limits[stage] = 20 + 4 * took
    return limits


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--seed", type=int, default=0, help="which mutants are drawn")
    parser.add_argument("--count", type=int, default=100, help="how many")
    parser.add_argument("--only", help="numbers of the mutants to run, as 3,17")
    parser.add_argument("--jobs", type=int, default=2, help="mutants that are tested at a time")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "oxon-mutants")
    parser.add_argument("--resume", action="store_true", help="go on with what was built and logged")
    parser.add_argument("--list", action="store_true", help="print the draw, compiled or not, and stop")
    options = parser.parse_args()

    files = sources(ROOT)
    if options.list:
        for number, site in enumerate(draw(files, options.seed)[: options.count], 1):
            print(mutant(number, files[site.file], site))
        return 0

    shop = Workshop(options.work.resolve(), options.jobs)
    shop.work.mkdir(parents=True, exist_ok=True)
    log, plan = shop.work / "log.jsonl", shop.work / "plan.json"
    if options.resume and plan.exists():
        kept = json.loads(plan.read_text())
        limits = kept["limits"]
        mutants = []
        for m in kept["mutants"]:
            site = Site(**{**m["site"], "body": Body(**m["site"]["body"])})
            mutants.append(Mutant(**{**m, "site": site}))
    else:
        shop.copy(files)
        mutants = shop.choose(files, options.seed, options.count)
        shop.write_mutants(files, mutants)
        shop.build()
        limits = measure(shop, mutants)
        plan.write_text(json.dumps({"limits": limits, "mutants": [asdict(m) for m in mutants]}))
        log.write_text("")

    results = {r["number"]: r for r in map(json.loads, log.read_text().splitlines())}
    only = {int(n) for n in options.only.split(",")} if options.only else None
    todo = [m for m in mutants if (m.number in only if only else m.number not in results)]

    def one(m: Mutant) -> None:
        result = examine(shop, m, limits)
        results[m.number] = result
        with log.open("a") as file:
            file.write(json.dumps(result) + "\n")
        print(f"{m}\n     {result['how']}: {result['where']} ({result['seconds']} s)", flush=True)

    with ThreadPoolExecutor(shop.jobs) as pool:
        list(pool.map(one, todo))

    shown = [m for m in mutants if m.number in results and (only is None or m.number in only)]
    survivors = [m for m in shown if not results[m.number]["caught"]]
    caught = len(shown) - len(survivors)
    print(f"\n{caught} of {len(shown)} mutants caught (seed {options.seed})")
    for m in survivors:
        print(f"survived {m}")
    return 0 if caught >= WANTED * len(shown) else 1


if __name__ == "__main__":
    sys.exit(main())
