"""Tests that Beam finds out with the tests' caches what it finds out without them."""

import apache_beam as beam
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec, TimerSpec, on_timer

from tests.beam_cache import (
    cached_inspect_function,
    cached_list_states,
    cached_view_as,
    cached_yields_and_returns,
    inspect_function,
    list_states,
    view_as,
    yields_and_returns,
)


class Timed(beam.DoFn):
    def process(self, element, at=beam.DoFn.TimestampParam, *, more=3):
        yield element


LAST = beam.DoFn.StateParam(ReadModifyWriteStateSpec("last", beam.coders.VarIntCoder()))
EXPIRY = TimerSpec("expiry", beam.TimeDomain.WATERMARK)
TIMER = beam.DoFn.TimerParam(EXPIRY)


class Stateful(beam.DoFn):
    def process(self, element, last=LAST, expiry=TIMER):
        yield element
        return last

    @on_timer(EXPIRY)
    def expire(self):
        return []

    def remember(self, element, last=LAST):
        return [element]


def test_parameters_of_functions_and_methods_are_those_that_beam_finds():
    functions = [Timed.process, Timed().process, Timed().process, len, PipelineOptions, lambda scan, size_px=4: scan]
    for function in functions * 2:
        assert cached_inspect_function(function) == inspect_function(function)


def test_what_a_caller_does_with_the_parameters_stays_with_it():
    cached_inspect_function(Timed.process)[0].clear()
    assert cached_inspect_function(Timed.process) == inspect_function(Timed.process)


def test_a_value_that_is_set_in_any_view_is_seen_in_all():
    options = PipelineOptions(["--direct_num_workers=3"])
    for view in (cached_view_as, view_as, cached_view_as):
        assert view(options, DirectOptions).direct_num_workers == 3
    cached_view_as(options, DirectOptions).direct_num_workers = 2
    cached_view_as(options, StandardOptions).runner = "Prism"
    for view in (cached_view_as, view_as):
        assert view(options, DirectOptions).direct_num_workers == 2
        assert view(options, StandardOptions).runner == "Prism"
    assert cached_view_as(PipelineOptions([]), DirectOptions).direct_num_workers == 1


def test_states_and_timers_are_those_that_beam_finds():
    dofns = [Stateful(), beam.FlatMap(Stateful().remember).fn, beam.Map(len).fn, Timed(), Stateful()]
    for dofn in dofns * 2:
        assert cached_list_states(dofn) == list_states(dofn)
    assert len(cached_list_states(dofns[1])[0]) == 1
    cached_list_states(Stateful())[0].clear()
    assert cached_list_states(Stateful()) == list_states(Stateful())


def test_functions_that_yield_and_return_are_those_that_beam_finds():
    functions = [Timed.process, Timed().process, Stateful.process, Stateful().process, len, lambda scan: scan]
    for function in functions * 2:
        assert cached_yields_and_returns(function) == bool(yields_and_returns(function))
    assert cached_yields_and_returns(Stateful().process)
