"""A task as plain JSON data and back: the one schema that both stores keep; and what else is kept as records.

What is None or equal to its default is left out. What is unknown on reading is ignored, and kept where it is the
task's own, so that a row written by the version before or after this one can be read, and written again, by either.
"""

import json
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass, replace
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from core.task import Task

T = TypeVar("T")

_KNOWN = frozenset(field.name for field in fields(Task)) - {"unread"}


def dumps(task: Task) -> str:
    known = {name: value for name, value in _plain(task).items() if name != "unread"}
    return json.dumps({**task.unread, **known}, ensure_ascii=False, separators=(",", ":"))


def loads(text: str) -> Task:
    data = json.loads(text)
    task: Task = _reader(Task)({name: value for name, value in data.items() if name in _KNOWN})
    unread = {name: value for name, value in data.items() if name not in _KNOWN}
    return replace(task, unread=unread) if unread else task


def write(value: Any) -> str:
    """Any other dataclass of ours, as JSON."""
    return json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"))


def read(kind: type[T], text: str) -> T:
    """What `write` was given; of a field that this version does not know, nothing is kept."""
    value: T = _reader(cast(Any, kind))(json.loads(text))
    return value


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        pairs = ((field, getattr(value, field.name)) for field in fields(value))
        return {field.name: _plain(item) for field, item in pairs if not _is_default(field, item)}
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def _is_default(field: Field[Any], value: Any) -> bool:
    if field.default_factory is not MISSING:
        return bool(field.default_factory() == value)
    return value is None or (field.default is not MISSING and field.default == value)


@cache
def _reader(kind: Any) -> Callable[[Any], Any]:
    """A function that turns plain data into a value of the type `kind`."""
    if get_origin(kind) in (Union, types.UnionType):
        (kind,) = (part for part in get_args(kind) if part is not type(None))
    if is_dataclass(kind):
        return _dataclass_reader(kind)
    if kind is datetime:
        return datetime.fromisoformat
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind
    if get_origin(kind) is tuple:
        item = _reader(get_args(kind)[0])
        return lambda data: tuple(item(part) for part in data)
    return lambda data: data


def _dataclass_reader(kind: Any) -> Callable[[Any], Any]:
    hints = get_type_hints(kind)
    readers = {field.name: _reader(hints[field.name]) for field in fields(kind)}

    def read(data: Mapping[str, Any]) -> Any:
        return kind(**{name: readers[name](item) for name, item in data.items() if name in readers})

    return read
