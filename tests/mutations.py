"""What `mutate.py` may mutate: reads Rust as far as that needs, finds the tokens of kernels and gradients and what each
could become, draws at random, and writes sources that hold many mutants at once.

The mutations:

    arithmetic    + - * / %, << >>, & | ^ for one another; the same of += -= and so on, which also become =
    comparison    < <= > >= == != for one another
    logic         && for ||, true for false, a `!` or a unary minus removed
    range         .. for ..=
    literal       n ± 1; a float also negated or 0
    function      its sibling: min for max, sin for cos, eq for ne, add for sub, any for all, ... (SIBLINGS)
    call          two neighbouring arguments exchanged

What cannot change a result is left out by the rules in `Source.exempt`, each with its reason.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

# Where kernels and gradients live, and what in there is neither.
SOURCES: tuple[str, ...] = ("rust/cpu/**/*.rs", "rust/ops/*.rs", "rust/autograd/*.rs", "rust/graph/record.rs")
SOURCES += tuple(f"rust/ir/{name}.rs" for name in ("elementwise", "sym", "conv"))
PLUMBING = {
    "tests",
    "reference",  # the tests' own
    "neon",  # not compiled here, as far as processors go
    "isa",  # which instructions to use
    "threads",
    "work",
    "memory",
    "scratch",
}
TABLE = "rust/ir/elementwise.rs"


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


SIBLINGS = """
    min max, minimum maximum, sin cos, sinh cosh, asin acos, exp exp2, log log2, sqrt rsqrt, floor ceil, lt le, gt ge,
    eq ne, both either, and or, add sub, mul div, any all, first last, is_none is_some, with_sign flip_sign,
    wrapping_add wrapping_sub, saturating_add saturating_sub, div_ceil div_euclid, take skip, shl shr,
    is_nan is_inf, sum product, mul_add neg_mul_add, trunc round
"""
SIBLING = {a: b for pair in SIBLINGS.split(",") for a, b in [pair.split(), pair.split()[::-1]]}
COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")
OPERATORS: dict[str, tuple[str, ...]] = {
    **{op: tuple(other for other in COMPARISONS if other != op) for op in COMPARISONS},
    "+": ("-", "*"),
    "-": ("+", "*"),
    "*": ("/", "+"),
    "/": ("*", "-"),
    "%": ("/", "*"),
    "<<": (">>",),
    ">>": ("<<",),
    "&": ("|", "^"),
    "|": ("&", "^"),
    "^": ("|", "&"),
    "&&": ("||",),
    "||": ("&&",),
    "+=": ("-=", "="),
    "-=": ("+=", "="),
    "*=": ("/=", "="),
    "/=": ("*=", "="),
    "|=": ("&=", "="),
    "&=": ("|=", "="),
    "^=": ("|=", "="),
    "..": ("..=",),
    "..=": ("..",),
}
KEYWORDS = words("as break else if in let loop match move mut ref return while unsafe")

# Sizes by which work is divided and caches are filled. What is computed does not depend on them.
SIZES = words(
    "AHEAD APART BATCH BLOCK CHUNKS DEPTH FEW FINISHED GRAIN GROUP KEEP LINES LONG OUTPUT PACK PANELS PART PLANE"
    " POSITIONS READ ROWS RUN SHORT SMALL STRIP TASK TILE TURN WIDENED WORK"
)
# Functions that choose among ways to the same result, or hint.
CHOICES = words("packing_a_pays packing_b_pays packing_pays apart_by_pages pays is_depthwise transposes work")
# Local names for how work is divided and how much is taken at a time: anything but nothing will do.
SHARES = words("by_cache chunk_work cut each strips_at_once target tasks together want")
# Macros that state what holds, or word an error.
WORDS = words("assert assert_eq debug_assert debug_assert_eq unreachable panic bail")
# Calls that compute nothing.
HINTS = words("prefetch with_capacity reserve")
# The order of these arguments does not matter, unless taking one changes the other.
SYMMETRIC = words("add mul wide maximum minimum eq ne both either and or xor hypot join")

# Mutants that were drawn, survived, and were found to compute the same whatever the input: the file, and what the
# line became. No test can catch them, so others are drawn in their place.
EQUIVALENT = {
    ("rust/cpu/fill.rs", "let mut bits = 1u64;"): "all bytes that count are written before they are read",
    (
        "rust/cpu/softmax.rs",
        "_ if size_of::<T>() != size_of::<T::Real>() => length,",
    ): "elements are never larger than what they are computed in",
    ("rust/cpu/pool/average.rs", "if from != to {"): "`inside` gives no end before its start",
    (
        "rust/cpu/pointwise/eval.rs",
        "if stride == 1 && start * axes.run() + len <= axes.run() {",
    ): "the short way is taken less often, where it was right before",
    (
        "rust/cpu/pointwise/mod.rs",
        "let mut splats = [[std::mem::MaybeUninit::<u64>::uninit(); Evaluator::BLOCK]; 3];",
    ): "room that is not used",
    (
        "rust/cpu/pointwise/mod.rs",
        "let mut splats = [[std::mem::MaybeUninit::<u64>::uninit(); Evaluator::BLOCK]; 1];",
    ): "without room the long way is taken",
}

TOKEN = re.compile(
    r"""
    (?P<space> \s+ | //[^\n]* | /\*.*?\*/ )
  | (?P<text> [bc]?r(?P<hashes>\#*)".*?"(?P=hashes) | [bc]?"(?:\\.|[^"\\])*" | b?'(?:\\[^']+|\\'|[^\\'])' )
  | (?P<lifetime> '\w+ )
  | (?P<number> 0[xb][\da-fA-F_]+ | \d[\d_]*(?:\.\d[\d_]*)?(?:[eE][+-]?\d+)?(?:[iuf](?:8|16|32|64|128|size))? )
  | (?P<word> (?:r\#)?[^\W\d]\w* )
  | (?P<op> <<=|>>=|\.\.=|\.\.\.|::|->|=>|==|!=|<=|>=|&&|\|\||[-+*/%&|^]=|<<|>>|\.\.|. )
    """,
    re.X | re.S,
)
OPEN, CLOSE = "([{", ")]}"


@dataclass(frozen=True)
class Token:
    kind: str
    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Body:
    """What is written twice: the inside of a function, or an expression of THE TABLE."""

    name: str
    start: int
    end: int


@dataclass(frozen=True)
class Site:
    """A mutation: these characters of a file become others."""

    file: str
    start: int
    end: int
    after: str
    body: Body


class Source:
    """A file of Rust: its tokens, its bodies, and the mutations that it could undergo."""

    def __init__(self, name: str, text: str) -> None:
        self.name, self.text = name, text
        self.tokens = [
            Token(str(m.lastgroup), m[0], m.start(), m.end())
            for m in TOKEN.finditer(text)
            if m.lastgroup != "space"
        ]
        self.pairs = self._pairs()
        self.closed = list(self._closed())
        self.bodies = list(self._functions()) + (list(self._rows()) if name == TABLE else [])

    def is_at(self, i: int, *texts: str) -> bool:
        return tuple(t.text for t in self.tokens[i : i + len(texts)]) == texts

    def _pairs(self) -> dict[int, int]:
        """Where the bracket that opens at a token closes."""
        pairs, opened = {}, []
        for i, token in enumerate(self.tokens):
            if token.kind == "op" and token.text in OPEN:
                opened.append(i)
            elif token.kind == "op" and token.text in CLOSE:
                pairs[opened.pop()] = i
        return pairs

    def _end_of_item(self, i: int) -> int:
        """The last token of the item, arm or statement that begins here."""
        while i < len(self.tokens) - 1:
            token = self.tokens[i].text
            if token in (";", ","):
                return i
            if token in OPEN:
                i = self.pairs[i]
                if token == "{":
                    return i
            i += 1
        return i

    def _closed(self) -> Iterator[tuple[int, int]]:
        """Ranges of tokens that are not to be touched."""
        for i, token in enumerate(self.tokens):
            if self.is_at(i, "#", "[") or self.is_at(i, "#", "!", "["):
                end = self.pairs[i + 1 if self.is_at(i, "#", "[") else i + 2]
                yield i, end
                attribute = self.text[token.start : self.tokens[end].end]
                if re.search(r"cfg\((test|target_arch = \"aarch64\"|feature = \"gpu\")\)", attribute):
                    yield i, self._end_of_item(end + 1)
            if token.text in WORDS and self.is_at(i + 1, "!"):
                yield i, self.pairs[i + 2]
            if token.text in HINTS and self.is_at(i + 1, "("):
                first, last = i, self.pairs[i + 1]
                while self.pairs.get(first - 1) == last + 1 + self.is_at(last + 1, ";"):
                    # It alone is in a block. If that is a loop, the loop computes nothing either.
                    head = next(k for k in range(first - 2, 0, -1) if self.tokens[k].text in ("for", *";{}"))
                    if not self.is_at(head, "for"):
                        break
                    first, last = head, self.pairs[first - 1]
                yield first, last
            if token.text == "macro_rules":
                # The patterns of its arms; what they are replaced by is code.
                last = self.pairs[i + 3]
                at = i + 4
                while at < last:
                    yield at, self.pairs[at]
                    at = self.pairs[self.pairs[at] + 2] + 1
                    at += self.is_at(at, ";")

    def _functions(self) -> Iterator[Body]:
        for i, token in enumerate(self.tokens):
            if token.text != "fn" or self.is_at(i + 1, "("):
                continue
            before = i
            while self.tokens[before - 1].text in ("unsafe", "extern", "async"):
                before -= 1
            if self.tokens[before - 1].text == "const":
                continue  # knows no environment
            at = i + 1
            while self.tokens[at].text not in ("{", ";"):
                at = self.pairs.get(at, at) + 1
            if self.tokens[at].text == "{":
                name = self.tokens[i + 1].text if self.tokens[i + 1].text != "$" else self.tokens[i + 2].text
                yield Body(name, self.tokens[at].end, self.tokens[self.pairs[at]].start)

    def _rows(self) -> Iterator[Body]:
        """Forwards and gradients of THE TABLE, which is the first macro of its file."""
        first = next(i for i, t in enumerate(self.tokens) if t.text == "macro_rules") + 3
        for i in range(first, self.pairs[first]):
            if self.tokens[i].kind != "word" or not self.is_at(i + 1, "("):
                continue
            brace = self.pairs[i + 1] + 1
            if not self.is_at(brace, "{"):
                continue
            at = start = brace + 1
            while at <= self.pairs[brace]:
                if at == self.pairs[brace] or self.tokens[at].text == ",":
                    yield Body(self.tokens[i].text, self.tokens[start].start, self.tokens[at - 1].end)
                    start = at + 1
                at = self.pairs.get(at, at) + 1

    def sites(self) -> Iterator[Site]:
        closed = {i for first, last in self.closed for i in range(first, last + 1)}
        for i, token in enumerate(self.tokens):
            holders = [b for b in self.bodies if b.start <= token.start and token.end <= b.end]
            if i in closed or not holders:
                continue
            body = min(holders, key=lambda b: b.end - b.start)
            for start, end, after in self._mutations(i):
                if not self.exempt(i, body, after):
                    yield Site(self.name, start, end, after, body)

    def _mutations(self, i: int) -> Iterator[tuple[int, int, str]]:
        before, token, after = self.tokens[i - 1], self.tokens[i], self.tokens[i + 1]
        here = token.start, token.end
        value = before.kind in ("number", "text") or before.text in (")", "]")
        value |= before.kind == "word" and before.text not in KEYWORDS
        # Formatted code has spaces around what is an operator of two, and none around generics.
        called = before.kind == "word" and before.end == token.start
        binary = value and before.end < token.start and token.end < after.start
        if token.kind == "op":
            if binary or (token.text in ("..", "..=") and after.text not in CLOSE + "," and value):
                yield from ((*here, other) for other in OPERATORS.get(token.text, ()))
            elif (token.text == "-" and not value) or (token.text == "!" and not called):
                yield *here, ""
            elif token.text == "(" and before.kind == "word" and before.text not in KEYWORDS:
                yield from self._exchanges(i)
        elif token.kind == "number" and before.text != ".":
            yield from ((*here, other) for other in other_numbers(token.text))
        elif token.text in ("true", "false"):
            yield *here, "false" if token.text == "true" else "true"
        elif token.kind == "word" and token.text in SIBLING and (after.text == "(" or before.text == "::"):
            yield *here, SIBLING[token.text]

    def _exchanges(self, i: int) -> Iterator[tuple[int, int, str]]:
        """Neighbouring arguments of the call whose bracket opens here, exchanged."""
        last = self.pairs[i]
        arguments, at, start = [], i + 1, i + 1
        while at <= last:
            if at == last or self.tokens[at].text == ",":
                if at > start:
                    arguments.append((self.tokens[start].start, self.tokens[at - 1].end))
                start = at + 1
            at = self.pairs.get(at, at) + 1
        for (a, b), (c, d) in pairwise(arguments):
            one, two = self.text[a:b], self.text[c:d]
            if one != two:
                yield a, d, two + self.text[b:c] + one

    def exempt(self, i: int, body: Body, after: str) -> bool:
        """What cannot change a result, or is no kernel and no gradient."""
        token = self.tokens[i].text
        if body.name in CHOICES:
            return True
        start = self.text.rfind("\n", 0, self.tokens[i].start) + 1
        named = re.match(r"\s*(?:let|let mut|const) (\w+)(?:: usize)? = ", self.text[start : start + 200])
        if named and named[1] in SHARES | SIZES:
            return True
        if token in COMPARISONS and after in (token + "=", token[:1]):
            # Whether something is one block or several; it is computed alike. Turned round it does harm.
            if SIZES & (set(self._factors(i - 1)) | set(self._factors(i + 1))):
                return True
        elif self.tokens[i].kind == "number" or token in ("*", "/"):
            # A multiple or a fraction of a size.
            factors = self._factors(i)
            sizes = [k for k, factor in enumerate(factors) if factor in SIZES]
            if sizes and (re.search(r"\b\d", " ".join(factors)) or factors[sizes[0] + 1 :][:1] == ["/"]):
                return True
        if self.tokens[i - 1].text == ";" and re.search(
            r"SmallVec<\[[^;]*;\s*$", self.text[: self.tokens[i].start]
        ):
            return True  # room without an allocation
        if token == "(":
            called = self.tokens[i + 3 if self.is_at(i + 1, "E", "::") else i - 1].text
            one_by_one = "mem::" in self.text[self.tokens[i].start : self.tokens[self.pairs[i]].end]
            if re.sub(r"^_mm\d*_(add|mul|and|or|xor)_\w+$", r"\1", called) in SYMMETRIC and not one_by_one:
                return True
        return False

    def _factors(self, i: int) -> list[str]:
        """The names and numbers about here that are multiplied and divided, with their operators."""

        def joined(at: int) -> bool:
            return self.tokens[at].kind in ("word", "number") or self.tokens[at].text in ("*", "/")

        first, last = i, i
        while joined(first - 1):
            first -= 1
        while joined(last + 1):
            last += 1
        return [t.text for t in self.tokens[first : last + 1]]

    def line(self, at: int) -> int:
        return self.text.count("\n", 0, at) + 1


def other_numbers(text: str) -> list[str]:
    """Other values for a literal, of the same type."""
    if re.match(r"0[xb]", text):
        base = 16 if text[1] == "x" else 2
        return [f"{text[:2]}{format(int(text.replace('_', ''), base) ^ 1, 'x' if base == 16 else 'b')}"]
    found = re.fullmatch(r"([\d_.]+(?:[eE][+-]?\d+)?)((?:[iuf]\w+)?)", text)
    assert found, text
    digits, suffix = found[1].replace("_", ""), found[2]
    if digits.isdigit() and not suffix.startswith("f"):
        n = int(digits)
        return [f"{n + 1}{suffix}"] + ([f"{n - 1}{suffix}"] if n else [])
    x = float(digits)
    return [f"{x + 1.0!r}{suffix}"] + ([f"-{text}", f"0.0{suffix}"] if x else [])


@dataclass(frozen=True)
class Mutant:
    number: int
    site: Site
    line: int
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.number:4} {self.site.file}:{self.line}  {self.before}  →  {self.after}"


def sources(root: Path) -> dict[str, Source]:
    names = sorted({path for pattern in SOURCES for path in root.glob(pattern)})
    names = [p for p in names if not PLUMBING & set(p.relative_to(root).with_suffix("").parts)]
    return {
        name: Source(name, path.read_text()) for path in names for name in [path.relative_to(root).as_posix()]
    }


def draw(files: dict[str, Source], seed: int) -> list[Site]:
    """Lines in random order, and of each one mutation. A line's place and its mutation depend on the seed and on what
    it says, so that a change elsewhere leaves the draw as it was."""
    drawn: list[tuple[float, Site]] = []
    for source in files.values():
        texts = source.text.splitlines()
        lines: dict[int, dict[int, list[Site]]] = {}
        for site in source.sites():
            lines.setdefault(source.line(site.start), {}).setdefault(site.start, []).append(site)
        seen: dict[str, int] = {}
        for line, tokens in sorted(lines.items()):
            text = texts[line - 1].strip()
            seen[text] = seen.get(text, 0) + 1
            generator = random.Random(f"{seed} {source.name} {seen[text]} {text}")
            place = generator.random()
            site = generator.choice(generator.choice(list(tokens.values())))
            if (source.name, mutant(0, source, site).after) not in EQUIVALENT:
                drawn.append((place, site))
    return [site for _, site in sorted(drawn, key=lambda d: d[0])]


def mutant(number: int, source: Source, site: Site) -> Mutant:
    start = source.text.rfind("\n", 0, site.start) + 1
    end = source.text.find("\n", site.end)
    texts = (
        source.text[start:end],
        source.text[start : site.start] + site.after + source.text[site.end : end],
    )
    before, after = (" ".join(text.split()) for text in texts)
    return Mutant(number, site, source.line(site.start), before, after)


def render(source: Source, mutants: list[Mutant]) -> str:
    """The file with all its mutants in it, each between marks in comments."""

    def body(owner: Body) -> str:
        text = span(owner.start, owner.end, owner)
        own = [m for m in mutants if m.site.body == owner]
        if not own:
            return text
        chain = ""
        for m in own:
            at, to = m.site.start, m.site.end
            copy = source.text[owner.start : at] + m.site.after + source.text[to : owner.end]
            chain += f"if crate::mutant::is({m.number}) {{\n/*<{m.number}*/{copy}\n/*>{m.number}*/\n}} else "
        numbers = ",".join(str(m.number) for m in own)
        return f" /*[{numbers}*/ {chain}{{\n{text}\n}} /*]{numbers}*/ "

    def span(start: int, end: int, within: Body | None) -> str:
        inner = [b for b in source.bodies if b != within and start <= b.start and b.end <= end]
        outer = [b for b in inner if not any(c != b and c.start <= b.start and b.end <= c.end for c in inner)]
        text, at = "", start
        for b in sorted(outer, key=lambda b: b.start):
            text += source.text[at : b.start] + body(b)
            at = b.end
        return text + source.text[at:end]

    return span(0, len(source.text), None)


def ranges(text: str) -> list[tuple[int, int, set[int], bool]]:
    """Lines between the marks of mutants, and of chains of mutants."""
    opened: dict[str, int] = {}
    found = []
    for mark in re.finditer(r"/\*([<>\[\]])([\d,]+)\*/", text):
        line = text.count("\n", 0, mark.start()) + 1
        whole = mark[1] in "[]"
        key = f"{whole}{mark[2]}"
        if mark[1] in "<[":
            opened[key] = line
        else:
            found.append((opened[key], line, {int(n) for n in mark[2].split(",")}, whole))
    return found
