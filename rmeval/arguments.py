"""`-a key=value` arguments: scoped by room (`scorer.label=good`, `engine.dtype=bfloat16`, `metric.ties=win`).

Values are TOML scalars or arrays; anything that is not one is taken as a string.

What this module does not know: which keys a room accepts.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rmeval import strict_toml
from rmeval.errors import UsageError, near_miss

SCOPES = ("scorer", "engine", "judge", "metric")


def parse(arguments: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Scope -> key -> value. A key without a scope belongs to the scorer.

    >>> parse(["engine.batch_size=8", "metric.ties=win"])
    {'scorer': {}, 'engine': {'batch_size': 8}, 'judge': {}, 'metric': {'ties': 'win'}}
    """
    found: dict[str, dict[str, Any]] = {scope: {} for scope in SCOPES}
    for argument in arguments:
        key, equals, text = argument.partition("=")
        scope, dot, name = key.strip().partition(".")
        if not dot:
            scope, name = "scorer", scope
        if not equals or not name:
            raise UsageError(f"-a {argument}: write -a scope.key=value, for instance -a engine.batch_size=8")
        if scope not in SCOPES:
            raise UsageError(f"-a {argument}: unknown scope {scope!r}. {_or_list(scope, SCOPES)}")
        found[scope][name] = _value(text)
    return found


def call(make: Callable[..., Any], scope: str, given: Mapping[str, Any], **fixed: Any) -> Any:
    """`make(**fixed, **given)` after checking every given key and value against its signature."""
    accepted = [
        name
        for name, p in inspect.signature(make).parameters.items()
        if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD) and name not in fixed
    ]
    for key in given:
        if key not in accepted:
            raise UsageError(f"-a {scope}.{key}: no such argument. {_or_list(key, accepted)}")
        _check_type(make, scope, key, given[key])
    return make(**fixed, **given)


def _check_type(make: Callable[..., Any], scope: str, key: str, value: Any) -> None:
    """Refuse a value that the annotation of the parameter, where there is one, does not allow."""
    from pydantic import TypeAdapter, ValidationError

    try:
        hints = typing.get_type_hints(make.__init__ if inspect.isclass(make) else make)
    except NameError:  # a plugin that imports its types for checkers only
        return
    if key not in hints:
        return
    try:
        TypeAdapter(hints[key]).validate_python(value, strict=True)
    except ValidationError as fault:
        wanted = " or ".join(dict.fromkeys(error["msg"].removeprefix("Input should be ") for error in fault.errors()))
        raise UsageError(f"-a {scope}.{key}={value}: should be {wanted}") from None


def _value(text: str) -> Any:
    try:
        value = strict_toml.loads(f"v = {text}", text)["v"]
    except UsageError:
        return text
    return value if isinstance(value, bool | int | float | str | list) else text


def _or_list(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    return near_miss(name, names) or (f"Known: {', '.join(names)}." if names else "There are none.")
