"""Run calls ahead of their use: results in order, a bounded number under way."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import closing
from itertools import repeat
from typing import Any, Generic, TypeVar, cast

T = TypeVar("T")
R = TypeVar("R")


class OrderedCalls(Generic[R]):
    """Calls in an executor whose results are taken in the order of the calls."""

    def __init__(self, executor: Executor, depth: int) -> None:
        self._executor = executor
        self._depth = depth
        self._pending: deque[Future[R]] = deque()

    def submit(self, function: Callable[..., R], *args: Any) -> list[R]:
        """Start a call; if more than `depth` calls are under way then, wait for the oldest and return its result."""
        self._pending.append(self._executor.submit(function, *args))
        return [self._pending.popleft().result()] if len(self._pending) > self._depth else []

    def finish(self) -> Iterator[R]:
        """Yield the results that are left."""
        while self._pending:
            yield self._pending.popleft().result()


def map_prefetched(
    function: Callable[[T], R], items: Iterable[T], num_threads: int, depth: int
) -> Generator[R, None, None]:
    """Yield `function(item)` of each item in order, computed by threads up to `depth` items ahead.

    The exception of a call is raised where its result is due. Once the generator is closed, no thread runs any more.
    """
    pool = ThreadPoolExecutor(num_threads, thread_name_prefix="prefetch")
    try:
        calls = OrderedCalls[R](pool, depth)
        for item in items:
            yield from calls.submit(function, item)
        yield from calls.finish()
    finally:
        pool.shutdown(cancel_futures=True)


def iterate_in_background(items: Iterator[T], depth: int = 3) -> Generator[T, None, None]:
    """Yield what `items` yields, computed in one thread up to `depth` items ahead.

    Its exception is raised where the item was due. Closing the generator stops the thread and closes `items`.
    """
    end = object()
    try:
        with closing(map_prefetched(lambda _: next(items, end), repeat(None), 1, depth)) as found:
            for item in found:
                if item is end:
                    return
                yield cast(T, item)
    finally:
        if isinstance(items, Generator):
            items.close()
