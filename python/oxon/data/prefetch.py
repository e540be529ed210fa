"""Threads that work ahead of their consumer and hand the results over in order. Knows nothing about data
sets."""

from __future__ import annotations

import atexit
import threading
import weakref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any


class _Work:
    """What the consumer and its threads share. The threads hold this and never the consumer's iterator, so
    that an iterator that nobody wants any more is collected, and with it the threads."""

    def __init__(self, function: Callable[[int, Any], Any], items: Iterable[Any], ahead: int) -> None:
        self.function = function
        self.items = iter(items)
        self.ahead = ahead
        self.changed = threading.Condition()
        self.results: dict[int, tuple[Any, BaseException | None]] = {}
        self.taken = 0  # items that a thread has begun
        self.given = 0  # results that the consumer has received
        self.ended = False  # no further item will be taken
        self.threads: list[threading.Thread] = []

    def start(self, threads: int) -> None:
        for number in range(threads):
            # Daemons: a data set that blocks for ever must not keep the interpreter from exiting.
            self.threads.append(threading.Thread(target=self.run, name=f"oxon-loader-{number}", daemon=True))
        for thread in self.threads:
            thread.start()

    def run(self) -> None:
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.ended or self.taken - self.given < self.ahead)
                if self.ended:
                    return
                number = self.taken
                try:
                    item = next(self.items)
                except StopIteration:
                    self.end()
                    return
                except BaseException as error:
                    self.taken += 1
                    self.results[number] = None, error
                    self.end()
                    return
                self.taken += 1
            result: tuple[Any, BaseException | None]
            try:
                result = self.function(number, item), None
            except BaseException as error:
                result = None, error
            with self.changed:
                self.results[number] = result
                self.changed.notify_all()
            del item, result  # not to be kept alive while this thread waits

    def end(self) -> None:
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def join(self, timeout: float | None = None) -> None:
        for thread in self.threads:
            # The collector may close an iterator from inside one of its own threads.
            if thread is not threading.current_thread():
                thread.join(timeout)

    def take(self) -> tuple[Any, BaseException | None] | None:
        """The next result in order; None after the last."""
        with self.changed:
            number = self.given
            self.changed.wait_for(lambda: number in self.results or (self.ended and number >= self.taken))
            if number not in self.results:
                return None
            self.given += 1
            self.changed.notify_all()
            return self.results.pop(number)


_live: weakref.WeakSet[_Work] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    """End what is still running while the interpreter is whole: a daemon that wakes up later would die
    half-way."""
    works = list(_live)
    for work in works:
        work.end()
    for work in works:
        work.join(timeout=5.0)


def ordered(
    function: Callable[[int, Any], Any], items: Iterable[Any], threads: int, ahead: int
) -> Iterator[Any]:
    """`function(number, item)` of each item, computed by `threads` threads at most `ahead` results in
    advance.

    The results come in the order of the items. An exception is raised where its result would have come.
    Closing the iterator, or dropping it, stops the threads.

    >>> list(ordered(lambda number, item: item.upper(), "abc", threads=2, ahead=4))
    ['A', 'B', 'C']
    """
    work = _Work(function, items, ahead)
    _live.add(work)
    try:
        work.start(threads)
        while (result := work.take()) is not None:
            value, error = result
            if error is not None:
                raise error
            del result
            yield value
            del value
    finally:
        work.end()
        work.join()
