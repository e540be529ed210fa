"""The IDX format of MNIST and its relatives, plain or gzipped, read with every field of the header
checked."""

from __future__ import annotations

import os

from .._core import Tensor, from_numpy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, BinaryIO

# The third byte of the file: the type of the values, big-endian.
_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_CHUNK = 1 << 24


def read_idx(path: str | os.PathLike[str]) -> Tensor:
    """The array of an IDX file, whose dtype and shape stand in its header.

    The header is two zero bytes, a byte for the type, a byte for the number of dimensions, and each
    dimension as a big-endian uint32. Raises ValueError where the file is not IDX, is truncated, or holds
    more than its header says.

    >>> import gzip, os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "a-idx1-ubyte.gz")
    >>> with gzip.open(path, "wb") as file:
    ...     _ = file.write(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9]))
    >>> read_idx(path).tolist()
    [7, 8, 9]
    """
    import gzip
    import zlib

    name = os.fspath(path)
    with open(name, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        try:
            with gzip.GzipFile(fileobj=file) if packed else file as stream:
                return _read(stream, name)  # type: ignore[arg-type]
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{name}: damaged gzip file: {error}") from error


def _read(stream: BinaryIO, name: str) -> Tensor:
    head = _read_up_to(stream, 4)
    if len(head) < 4 or head[:2] != b"\0\0":
        raise ValueError(
            f"{name}: not an IDX file: it begins with {head.hex(' ') or 'nothing'}, not with 00 00"
        )
    if head[2] not in _TYPES:
        raise ValueError(f"{name}: not an IDX file: unknown type 0x{head[2]:02x}")
    dimensions = head[3]
    sizes = _read_up_to(stream, 4 * dimensions)
    if dimensions == 0 or len(sizes) < 4 * dimensions:
        raise ValueError(f"{name}: IDX header cut short: {dimensions} dimensions, {len(sizes) // 4} sizes")
    shape = tuple(int.from_bytes(sizes[at : at + 4], "big") for at in range(0, len(sizes), 4))
    kind = _TYPES[head[2]]
    expected = int(kind[-1])
    for size in shape:
        expected *= size
    data = _read_up_to(stream, expected)
    if len(data) < expected:
        raise ValueError(
            f"{name}: truncated: shape {shape} needs {expected} bytes, the file holds {len(data)}"
        )
    if stream.read(1):
        raise ValueError(f"{name}: more data than the {expected} bytes of shape {shape}")
    return _to_tensor(data, kind, shape)


def _read_up_to(stream: BinaryIO, count: int) -> bytes:
    """`stream.read(count)`, in pieces: a forged header must not make us allocate what the file cannot
    fill."""
    pieces = []
    while count > 0 and (piece := stream.read(min(count, _CHUNK))):
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


def _to_tensor(data: bytes, kind: str, shape: tuple[int, ...]) -> Tensor:
    import numpy

    array: Any = numpy.frombuffer(data, dtype=kind).reshape(shape)
    return from_numpy(array if kind[-1] == "1" else array.astype(array.dtype.newbyteorder("=")))
