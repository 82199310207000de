"""Test calls that run ahead of their use."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from shards.prefetch import OrderedCalls, PushedStream, iterate_in_background, map_prefetched


@pytest.fixture
def has_threads():
    """Return whether a thread that prefetches has been started by the test and still runs."""
    before = set(threading.enumerate())
    return lambda: any(thread.name.startswith("prefetch") for thread in set(threading.enumerate()) - before)


def wait_and_double(number):
    time.sleep(0.01 * (number % 3))
    return 2 * number


@pytest.mark.parametrize(("num_threads", "depth"), [(1, 1), (4, 2), (4, 20)])
def test_results_come_in_the_order_of_the_items(num_threads, depth, has_threads):
    assert list(map_prefetched(wait_and_double, range(10), num_threads, depth)) == list(range(0, 20, 2))
    assert not has_threads()


def test_no_items_give_no_results():
    assert list(map_prefetched(wait_and_double, [], 2, 2)) == []


def test_at_most_depth_items_are_taken_ahead():
    taken = []

    def items():
        for number in range(10):
            taken.append(number)
            yield number

    results = map_prefetched(wait_and_double, items(), 2, 3)
    for number in range(6):
        assert next(results) == 2 * number
        assert len(taken) == number + 4
    results.close()


def test_an_exception_is_raised_where_its_result_is_due(has_threads):
    def fail_at_two(number):
        if number == 2:
            raise ValueError("third item")
        return number

    results = map_prefetched(fail_at_two, range(5), 4, 4)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="third item"):
        next(results)
    assert not has_threads()


def test_calls_that_have_not_begun_are_cancelled_when_the_consumer_stops(has_threads):
    begun = []

    def begin(number):
        begun.append(number)
        time.sleep(0.05)

    results = map_prefetched(begin, range(100), 1, 50)
    next(results)
    results.close()
    assert len(begun) <= 3
    assert not has_threads()


def test_ordered_calls_return_a_result_once_more_than_depth_are_under_way():
    with ThreadPoolExecutor(1) as pool:
        calls = OrderedCalls[int](pool, 2)
        assert [calls.submit(wait_and_double, number) for number in range(4)] == [[], [], [0], [2]]
        assert list(calls.finish()) == [4, 6]


def test_a_background_iterator_raises_its_exception_where_the_item_was_due():
    def items():
        yield 1
        raise ValueError("second item")

    found = iterate_in_background(items())
    assert next(found) == 1
    with pytest.raises(ValueError, match="second item"):
        next(found)


def test_a_background_iterator_yields_all_items_in_order(has_threads):
    assert list(iterate_in_background(iter(range(50)))) == list(range(50))
    assert not has_threads()


def test_leaving_the_loop_early_ends_the_thread_and_closes_the_iterator(has_threads):
    closed = []

    def items():
        try:
            for number in range(1000):
                time.sleep(0.001)
                yield number
        finally:
            closed.append(True)

    found = iterate_in_background(items())
    assert next(found) == 0
    found.close()
    assert closed == [True]
    assert not has_threads()


def test_the_stages_of_a_chain_end_with_its_last_one(has_threads):
    closed = []

    def items():
        try:
            yield from range(100)
        finally:
            closed.append(True)

    first = map_prefetched(wait_and_double, items(), 2, 2)
    last = map_prefetched(wait_and_double, (number for number in first), 1, 1)
    assert next(last) == 0
    last.close()
    del first
    assert closed == [True]
    assert not has_threads()


def add_up_in_pairs(numbers):
    """A stream that gives fewer results than it takes items, each after a later item was taken."""
    before = None
    for number in numbers:
        if before is None:
            before = number
        else:
            yield before + number
            before = None
    if before is not None:
        yield before


def test_what_is_pushed_comes_out_in_order_and_the_rest_at_the_end():
    stream = PushedStream(add_up_in_pairs)
    found = [result for number in range(7) for result in stream.push(number)]
    assert [*found, *stream.finish()] == [1, 5, 9, 6]


def test_a_push_waits_until_the_item_before_it_is_taken():
    taken, go_on = [], threading.Event()

    def stream_of(items):
        for item in items:
            taken.append(item)
            go_on.wait(10)
            yield item

    stream = PushedStream(stream_of)
    stream.push(0)
    stream.push(1)
    pushed = threading.Thread(target=stream.push, args=(2,))
    pushed.start()
    pushed.join(0.1)
    assert pushed.is_alive() and taken == [0]
    go_on.set()
    pushed.join(10)
    assert not pushed.is_alive()
    list(stream.finish())
    assert taken == [0, 1, 2]


@pytest.mark.parametrize("num_pushed", [1, 2, 5])
def test_the_exception_of_a_pushed_stream_is_raised_and_nobody_waits(num_pushed):
    def fail(items):
        for item in items:
            raise ValueError(f"item {item}")
        yield

    stream = PushedStream(fail)
    with pytest.raises(ValueError, match="item 0"):
        for number in range(num_pushed):
            stream.push(number)
        list(stream.finish())


def test_a_stream_that_fails_when_its_items_end_raises_too():
    def fail(items):
        yield from items
        raise ValueError("after the last")

    stream = PushedStream(fail)
    found = stream.push(1)
    with pytest.raises(ValueError, match="after the last"):
        found += stream.finish()
