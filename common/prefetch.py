"""Batches made in a background thread while the previous one is trained on."""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")


def prefetch(make: Callable[[int], T], first: int, last: int, depth: int = 2) -> Iterator[T]:
    """Yields make(first), ..., make(last - 1), computed by a background thread.

    Args:
        make: makes the batch of a step; its exceptions are raised here.
        first, last: the range of steps.
        depth: how many batches the thread may be ahead.
    """
    ready = queue.Queue(depth)
    stopped = threading.Event()

    def put(item) -> None:
        while not stopped.is_set():
            try:
                return ready.put(item, timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        for step in range(first, last):
            if stopped.is_set():
                return
            try:
                put(make(step))
            except Exception as error:
                put(error)
                return

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        for _ in range(first, last):
            item = ready.get()
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()
