"""How is work done ahead of need? Calls in a pool some batches ahead, and a whole iterator in a thread of its own."""

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

_AHEAD = 2
T = TypeVar("T")


def map_prefetched(
    pool: ThreadPoolExecutor, function: Callable[[int], T], batches: Sequence[Iterable[int]], ahead: int = _AHEAD
) -> Generator[list[T], None, None]:
    """Yield the results of each batch in order, the calls of the next batches being under way."""
    waiting = iter(batches)
    pending: deque[list[Future[T]]] = deque()
    try:
        while True:
            while len(pending) <= ahead and (batch := next(waiting, None)) is not None:
                pending.append([pool.submit(function, int(argument)) for argument in batch])
            if not pending:
                return
            yield [future.result() for future in pending.popleft()]
    finally:
        for future in (future for futures in pending for future in futures):
            future.cancel()


def iterate_in_background(items: Iterator[T], ahead: int = _AHEAD) -> Generator[T, None, None]:
    """Yield what `items` yields, computed in a thread up to `ahead` items ahead; its errors are raised here.

    Leaving the loop early stops the thread after the item it is at and closes `items`.
    """
    ready: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(ahead)
    stopped = threading.Event()

    def produce() -> None:
        failure: BaseException | None = None
        try:
            for item in items:
                if not _put(ready, (item, None), stopped):
                    if isinstance(items, Generator):
                        items.close()
                    return
        except BaseException as error:
            failure = error
        _put(ready, (None, failure), stopped)

    thread = threading.Thread(target=produce, name="feed", daemon=True)
    thread.start()
    try:
        while True:
            item, failure = ready.get()
            if failure is not None:
                raise failure
            if item is None:
                return
            yield item
    finally:
        stopped.set()
        thread.join()


def _put(ready: "queue.Queue[Any]", item: Any, stopped: threading.Event) -> bool:
    while not stopped.is_set():
        with suppress(queue.Full):
            ready.put(item, timeout=0.1)
            return True
    return False
