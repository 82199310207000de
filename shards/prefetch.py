"""Run calls ahead of their use: results in order, a bounded number under way."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import closing
from itertools import repeat
from queue import Queue, SimpleQueue
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

    The exception of a call is raised where its result is due. Once the generator is closed, no thread runs any more;
    `items` is closed too if it is a generator, so that all stages of a chain end with its last one.
    """
    pool = ThreadPoolExecutor(num_threads, thread_name_prefix="prefetch")
    try:
        calls = OrderedCalls[R](pool, depth)
        for item in items:
            yield from calls.submit(function, item)
        yield from calls.finish()
    finally:
        pool.shutdown(cancel_futures=True)
        if isinstance(items, Generator):
            items.close()


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


class PushedStream(Generic[T, R]):
    """Feed a function over an iterator item by item, for a caller that is itself called for each, as a Beam `DoFn` is.

    The function runs in a thread of its own and may take items ahead of its results.
    """

    _END = object()

    def __init__(self, stream: Callable[[Iterator[T]], Iterable[R]]) -> None:
        self._items: Queue[Any] = Queue(maxsize=1)
        self._results: SimpleQueue[Future[R] | None] = SimpleQueue()
        threading.Thread(target=self._run, args=(stream,), name="pushed-stream", daemon=True).start()

    def push(self, item: T) -> list[R]:
        """Wait until the function has taken the item before this one; return the results that are ready."""
        self._items.put(item)
        ready = []
        while not self._results.empty():
            ready += self._take()
        return ready

    def finish(self) -> Iterator[R]:
        """Yield all results that are left, as they come."""
        self._items.put(self._END)
        while found := self._take():
            yield from found

    def _take(self) -> list[R]:
        future = self._results.get()
        try:
            return [] if future is None else [future.result()]
        except BaseException:
            self._items.put(self._END)  # nothing more will be pushed
            raise

    def _run(self, stream: Callable[[Iterator[T]], Iterable[R]]) -> None:
        items = iter(self._items.get, self._END)
        try:
            for result in stream(cast(Iterator[T], items)):
                future: Future[R] = Future()
                future.set_result(result)
                self._results.put(future)
        except BaseException as error:
            failed: Future[R] = Future()
            failed.set_exception(error)
            self._results.put(failed)
            for _ in items:  # whoever pushes must not wait for ever
                pass
        finally:
            self._results.put(None)
