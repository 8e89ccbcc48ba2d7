"""Classes with exactly the methods and properties that a surface names, played by a base class.

A base plays the method `name` by `_name`, and keeps the values of its properties in `_values`. What
it does not play is a `Misuse`, remembered by the driver of its `_network`.
"""

from __future__ import annotations

import inspect
from typing import Any

_TYPES = {"int": int, "str": str, "tuple": tuple, "list": list, "buffer": bytes, "bool": bool}


def generated(base: type, surface: Any) -> type:
    """The class of that surface; what is not in it is an AttributeError."""
    members: dict[str, Any] = {"__setattr__": _only(surface)}
    for method, overloads in surface["methods"].items():
        members[method] = _method(method, overloads)
    for one in surface["read"].split():
        members[one] = property(_reader(one))
    for one in surface["written"].split():
        members[one] = property(_reader(one), _writer(one))
    return type(base.__name__, (base,), members)


def _only(surface: Any) -> Any:
    known = {*surface["read"].split(), *surface["written"].split()}

    def assign(self: Any, name: str, value: Any) -> None:
        if not name.startswith("_") and name not in known:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        object.__setattr__(self, name, value)

    return assign


def _reader(name: str) -> Any:
    def read(self: Any) -> Any:
        if name not in self._values:
            raise self._network[0].wrong(f"{type(self).__name__}.{name} is not played here")
        return self._values[name]

    return read


def _writer(name: str) -> Any:
    def write(self: Any, value: Any) -> None:
        self._values[name] = value

    return write


def _method(name: str, overloads: list[str]) -> Any:
    signatures = [_signature(one) for one in overloads]

    def call(self: Any, *arguments: Any, **named: Any) -> Any:
        if not any(_fits(self, one, arguments, named) for one in signatures):
            raise TypeError(f"{name}(): incompatible function arguments: {arguments} {named}")
        played = getattr(self, "_" + name, None)
        if played is None:
            raise self._network[0].wrong(f"{type(self).__name__}.{name} is not played here")
        return played(*arguments, **named)

    return call


def _signature(text: str) -> inspect.Signature:
    parameters = []
    for part in text.split(", ") if text else []:
        name, _, kind = part.partition(": ")
        kind, optional, _ = kind.partition(" = ")
        default = None if optional else inspect.Parameter.empty
        place = inspect.Parameter.POSITIONAL_OR_KEYWORD
        parameters.append(inspect.Parameter(name, place, annotation=kind, default=default))
    return inspect.Signature(parameters)


def _fits(self: Any, signature: inspect.Signature, arguments: Any, named: Any) -> bool:
    try:
        bound = signature.bind(*arguments, **named).arguments
    except TypeError:
        return False
    kinds = {name: signature.parameters[name].annotation for name in bound}
    return all(
        isinstance(value, _TYPES.get(kinds[name]) or vars(self._trt).get(kinds[name], ()))
        for name, value in bound.items()
    )
