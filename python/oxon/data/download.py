"""Fetch a file once and keep it: cache folder, checksum, temporary name, progress."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


def cache_folder() -> str:
    """Where downloads are kept: `$XDG_CACHE_HOME/oxon`, else `~/.cache/oxon`."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "oxon")


def sha256_of(path: str) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    import hashlib

    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(urls: Sequence[str], path: str, sha256: str, timeout: float = 30.0) -> str:
    """Fetch the file with this checksum from the first of `urls` that has it, and return `path`.

    A file that is already there with the right checksum is left alone. The data goes to a temporary name
    beside `path`, which is renamed when the checksum is right, so that an interrupted download leaves
    nothing half-done. Raises OSError that says what went wrong with each address.

    >>> import hashlib, os, pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (folder / "a").write_bytes(b"abc")
    >>> path = download([(folder / "a").as_uri()], str(folder / "b"), hashlib.sha256(b"abc").hexdigest())
    >>> pathlib.Path(path).read_bytes()
    b'abc'
    """
    import tempfile

    if os.path.exists(path) and sha256_of(path) == sha256:
        return path
    folder = os.path.dirname(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    failures = []
    for url in urls:
        handle, temporary = tempfile.mkstemp(prefix=os.path.basename(path) + ".", suffix=".part", dir=folder)
        try:
            with os.fdopen(handle, "wb") as file:
                found = _copy(url, file, timeout)
            if found == sha256:
                os.chmod(temporary, 0o644)  # mkstemp gives 0600
                os.replace(temporary, path)
                return path
            failures.append(f"{url}: wrong checksum: sha256 {found}, expected {sha256}")
        except (OSError, ValueError) as error:  # URLError is an OSError; a bad address is a ValueError
            failures.append(f"{url}: {error}")
        finally:
            if os.path.exists(temporary):
                os.remove(temporary)
    name = os.path.basename(path)
    raise OSError(
        f"could not download {name}:\n  "
        + "\n  ".join(failures)
        + f"\nWithout network, put the file at {path}, or set "
        "OXON_DATA to a folder that holds it."
    )


def _copy(url: str, file: Any, timeout: float) -> str:
    """Copy the address's content into `file`; return its SHA-256."""
    import hashlib
    import http.client
    import urllib.request

    digest = hashlib.sha256()
    request = urllib.request.Request(url, headers={"User-Agent": "oxon"})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            total = int(answer.headers.get("Content-Length") or 0)
            done = 0
            while piece := answer.read(1 << 18):
                file.write(piece)
                digest.update(piece)
                done += len(piece)
                _report(url, done, total)
    except http.client.HTTPException as error:
        raise OSError(f"{type(error).__name__}: {error}") from error
    finally:
        if sys.stderr.isatty():
            print(file=sys.stderr)
    if total and done != total:
        raise OSError(f"the connection ended after {done} of {total} bytes")
    return digest.hexdigest()


def _report(url: str, done: int, total: int) -> None:
    if sys.stderr.isatty():
        share = f" of {total / 1e6:.1f} MB ({100 * done // total} %)" if total else " MB"
        print(
            f"\rdownloading {url.rsplit('/', 1)[-1]}: {done / 1e6:.1f}{share}",
            end="",
            file=sys.stderr,
            flush=True,
        )
