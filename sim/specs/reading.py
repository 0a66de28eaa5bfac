"""YAML in, validated spec out: duplicate keys, unknown keys, units and sources are all reported at once, with lines."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from sim.specs.errors import InputError, Problem
from sim.specs.spec import ASSUMPTION_SOURCE, Document, Provenance, Spec

SpecType = TypeVar("SpecType", bound=Spec)
Location = tuple[str | int, ...]


@dataclass(frozen=True)
class RawDocument:
    """A YAML mapping as read, and where its parts stand."""

    file: str
    """File, as errors name it."""

    data: dict[str, Any]
    """The mapping."""

    lines: Mapping[Location, int] = field(default_factory=dict)
    """Path -> line, counted from 1."""


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice in one mapping."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> RawDocument:
    """Read a YAML mapping.

    Raises
    ------
    InputError
        File missing or unreadable, not YAML, a key given twice, or not a mapping.

    """
    file = str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not UTF-8 text"
        raise InputError([Problem(f"cannot be read: {reason}", file, remedy="Check the path.")]) from error
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        data = None if node is None else loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error)
        line = None if mark is None else mark.line + 1
        raise InputError([Problem(f"not valid YAML: {problem}", file, line=line)]) from error
    if node is None or not isinstance(data, dict):
        raise InputError([Problem("holds no mapping of keys to values", file, remedy="Start with `kind:`.")])
    return RawDocument(file, data, dict(_lines(node, ())))


def _lines(node: yaml.Node, path: Location) -> Iterator[tuple[Location, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*path, key.value), key.start_mark.line + 1
            yield from _lines(value, (*path, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*path, index), value.start_mark.line + 1
            yield from _lines(value, (*path, index))


def validate(raw: RawDocument, spec_type: type[SpecType]) -> SpecType:
    """Return a document as a spec.

    Raises
    ------
    InputError
        All problems of the document: types, units, unknown keys with near misses, sources that are not listed.

    """
    try:
        spec = spec_type.model_validate(raw.data)
    except ValidationError as error:
        raise InputError(_problems(raw, spec_type, error)) from None
    if isinstance(spec, Document):
        problems = list(_source_problems(raw, spec))
        if problems:
            raise InputError(problems)
    return spec


def suggest(name: str, known: Iterable[str]) -> str:
    """Return a remedy that names near misses, or all that is known where that is short."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return f"Did you mean {' or '.join(close)}?"
    return f"Known: {', '.join(names)}." if names else ""


def _problems(raw: RawDocument, spec_type: type[Spec], error: ValidationError) -> Iterator[Problem]:
    for detail in error.errors(include_url=False):
        location = _written_location(raw.data, detail["loc"])
        kind, remedy = detail["type"], ""
        message = detail["msg"].removeprefix("Value error, ")
        value = detail.get("input")
        if kind == "extra_forbidden":
            known = _known_keys(spec_type, detail["loc"][:-1])
            message, remedy, value = "unknown key", suggest(str(location[-1]), known), None
        elif kind == "missing":
            message, value = "missing", None
        elif isinstance(value, dict | list | tuple | BaseModel):
            value = None
        message = message[:1].lower() + message[1:]
        yield Problem(message.rstrip("."), raw.file, _dotted(location), value, remedy, _line(raw, location))


def _written_location(data: Any, loc: Iterable[str | int]) -> Location:
    """Return pydantic's location without the tags that it adds for unions."""
    written: list[str | int] = []
    parts = list(loc)
    for position, part in enumerate(parts):
        inside = (isinstance(data, dict) and part in data) or (
            isinstance(data, list) and isinstance(part, int) and part < len(data)
        )
        if inside:
            data = data[part]
            written.append(part)
        elif position == len(parts) - 1 and part != "[key]":
            written.append(part)
    return tuple(written)


def _line(raw: RawDocument, location: Location) -> int | None:
    for end in range(len(location), 0, -1):
        line = raw.lines.get(location[:end]) or raw.lines.get(tuple(str(part) for part in location[:end]))
        if line is not None:
            return line
    return None


def _dotted(location: Location) -> str:
    return ".".join(str(part) for part in location)


def _known_keys(annotation: Any, loc: Iterable[str | int]) -> set[str]:
    """Return the keys that a spec knows at a location."""
    types_here = list(_spec_types(annotation))
    for part in loc:
        matching = [spec for spec in types_here if isinstance(part, str) and part in spec.model_fields]
        if matching:
            types_here = [found for spec in matching for found in _spec_types(spec.model_fields[str(part)].annotation)]
    return {name for spec in types_here for name in spec.model_fields}


def _spec_types(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        return
    origin = typing.get_origin(annotation)
    if origin is not None or isinstance(annotation, types.UnionType):
        for argument in typing.get_args(annotation):
            yield from _spec_types(argument)


def _source_problems(raw: RawDocument, document: Document) -> Iterator[Problem]:
    known = set(document.sources) | {ASSUMPTION_SOURCE}
    for location, provenance in _provenances(document, ()):
        for key in provenance.source:
            if key not in known:
                path = (*location, "source")
                remedy = f"Add it to `sources`. {suggest(key, known)}"
                yield Problem("source is not listed", raw.file, _dotted(path), key, remedy, _line(raw, path))


def _provenances(value: object, location: Location) -> Iterator[tuple[Location, Provenance]]:
    if isinstance(value, Provenance):
        yield location, value
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _provenances(getattr(value, name), (*location, name))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _provenances(item, (*location, str(key)))
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _provenances(item, (*location, index))
