"""Cache what Beam finds out about options and functions: that takes half of the time of a small job.

For each step Beam parses the command line again for each group of options, inspects each method of a DoFn some ten
times, and reads the source of each function. The answers do not change: all views of options share one dictionary of
values, a function keeps its parameters, and all DoFns of a class have its methods.
"""

from types import CodeType, MethodType
from typing import Any
from weakref import WeakKeyDictionary

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms import core, userstate

view_as, inspect_function = PipelineOptions.view_as, core.get_function_args_defaults
list_states, yields_and_returns = userstate.get_dofn_specs, core._check_fn_use_yield_and_return
_views: WeakKeyDictionary[PipelineOptions, dict[type, PipelineOptions]] = WeakKeyDictionary()
_functions: WeakKeyDictionary[Any, tuple[list[str], list[Any]]] = WeakKeyDictionary()
_methods: WeakKeyDictionary[Any, tuple[list[str], list[Any]]] = WeakKeyDictionary()
_states: WeakKeyDictionary[type, tuple[set[Any], set[Any]]] = WeakKeyDictionary()
_bodies: dict[CodeType, bool] = {}


def install() -> None:
    """Make Beam use the caches, in this process and its forks."""
    PipelineOptions.view_as = cached_view_as
    core.get_function_args_defaults = cached_inspect_function
    userstate.get_dofn_specs = cached_list_states
    core._check_fn_use_yield_and_return = cached_yields_and_returns


def cached_view_as(options: PipelineOptions, cls: type[PipelineOptions]) -> PipelineOptions:
    """Return what `options.view_as(cls)` returned first."""
    views = _views.setdefault(options, {})
    if cls not in views:
        views[cls] = view_as(options, cls)
    return views[cls]


def cached_inspect_function(function: Any) -> tuple[list[str], list[Any]]:
    """Return the names and defaults of a function's parameters; of a method, without `self`."""
    is_method = isinstance(function, MethodType)
    known, key = (_methods, function.__func__) if is_method else (_functions, function)
    if key not in known:
        known[key] = inspect_function(function)
    names, defaults = known[key]
    return list(names), list(defaults)


def cached_list_states(dofn: Any) -> tuple[set[Any], set[Any]]:
    """Return the states and the timers that the methods of a DoFn ask for."""
    if any(isinstance(value, MethodType) for value in vars(dofn).values()):
        states, timers = list_states(dofn)  # beam.FlatMap of a method
        return states, timers
    if type(dofn) not in _states:
        _states[type(dofn)] = list_states(dofn)
    states, timers = _states[type(dofn)]
    return set(states), set(timers)


def cached_yields_and_returns(function: Any) -> bool:
    """Tell whether a function both yields and returns values."""
    code = getattr(function, "__code__", None)
    if code is None:
        return bool(yields_and_returns(function))
    if code not in _bodies:
        _bodies[code] = yields_and_returns(function)
    return _bodies[code]
