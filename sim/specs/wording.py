"""Pydantic's errors in a planner's words: where it stands in the file, what is wrong, and what to write instead."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from sim.specs.errors import suggest
from sim.specs.spec import Document, Sourced
from sim.specs.units import Dimension

Location = tuple[Any, ...]
"""Keys and list positions from the top of a file to a value."""

_QUOTES = "Put it in quotes."
_TRUTH = "YAML reads yes, no, on and off as true and false: put the word in quotes."
_PLAIN_WORDS = {
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "invalid_key": "keys must be text",
    "missing": "missing",
    "extra_forbidden": "unknown key",
}
_SHAPES = ("missing", "dict_type", "model_type", "model_attributes_type", "tuple_type", "list_type")


@dataclass(frozen=True)
class Explanation:
    """One error of a document as a planner reads it."""

    location: Location
    """Where it stands, as written in the file."""

    message: str
    """What is wrong."""

    value: object
    """The offending value; None when it is missing, or when it is a whole part of the file."""

    remedy: str
    """What to write."""


def explanations(data: Mapping[Any, Any], spec_type: type[BaseModel], error: ValidationError) -> Iterator[Explanation]:
    """Return every error of a document in a planner's words.

    Parameters
    ----------
    data : mapping
        The document as read.
    spec_type : type
        The spec that it should be.
    error : ValidationError
        What pydantic says about it.

    """
    for detail in error.errors(include_url=False):
        is_key = detail["loc"][-1:] == ("[key]",)
        location, expected = _walk(spec_type, data, detail["loc"][:-1] if is_key else detail["loc"])
        if is_key:
            mappings = _walk(spec_type, data, detail["loc"][:-2])[1]
            expected = [typing.get_args(each)[0] for each in mappings if typing.get_origin(each) is dict]
        kind, context, value = detail["type"], detail.get("ctx", {}), detail.get("input")
        if kind == "too_short" and isinstance(value, dict | list | tuple) and len(value) >= context["min_length"]:
            # pydantic does not count entries that are wrong; each of them has its own error
            continue
        message, remedy = _said(kind, detail["msg"], context, value), ""
        if kind == "extra_forbidden":
            remedy = suggest(str(location[-1]), known_keys(spec_type, data, detail["loc"][:-1]))
        elif kind in ("union_tag_invalid", "union_tag_not_found"):
            key = context["discriminator"].strip("'")
            tags = _tags(expected, key)
            location, value = (*location, key), context.get("tag")
            remedy = suggest(str(value), tags) if value else f"Write one of {', '.join(tags)}."
        elif kind in _SHAPES:
            meaning = _meaning(spec_type, data, detail["loc"]) if kind == "missing" else ""
            remedy = " ".join(part for part in (meaning, _how_to_write(expected)) if part)
        elif kind in ("string_type", "invalid_key"):
            remedy = _TRUTH if isinstance(value, bool) else _QUOTES if isinstance(value, int | float) else ""
        elif kind in ("enum", "literal_error") and isinstance(value, str):
            near = suggest(value, _choices(expected))
            remedy = near if near.startswith("Did") else ""
        hidden = kind in ("missing", "extra_forbidden") or isinstance(value, dict | list | tuple | BaseModel)
        yield Explanation(location, message, None if hidden else value, remedy)


def known_keys(spec_type: type[BaseModel], data: Any, location: Sequence[Any]) -> set[str]:
    """Return the keys that a spec knows at a location; none where names are the user's own.

    Parameters
    ----------
    spec_type : type
        The spec of the whole document.
    data : mapping
        The document, which says what each union is at its place.
    location : sequence
        As written, or as pydantic gives it.

    """
    keys = {name for spec in _specs(_walk(spec_type, data, location)[1]) for name in spec.model_fields}
    return keys | {"extends"} if not location and issubclass(spec_type, Document) else keys


def _said(kind: str, message: str, context: Mapping[str, Any], value: object) -> str:
    if kind in _PLAIN_WORDS:
        return _PLAIN_WORDS[kind]
    if kind == "string_pattern_mismatch":
        signs = "'-', '_' and '.'" if "." in context["pattern"] else "'-' and '_'"
        return f"is not a name: names are lower-case letters, digits, {signs}, and start with a letter or digit"
    if kind == "too_short":
        return f"must have at least {context['min_length']} entr{'y' if context['min_length'] == 1 else 'ies'}"
    if kind == "too_long":
        return f"must have at most {context['max_length']} entries, not {context['actual_length']}"
    if kind == "string_too_long":
        return f"must have at most {context['max_length']} characters"
    if kind == "union_tag_invalid":
        return f"unknown {context['discriminator'].strip(chr(39))}"
    if kind == "union_tag_not_found":
        return "missing" if isinstance(value, dict) else "must be a mapping"
    if kind.startswith(("date_", "datetime_")):
        return "must be a date of the calendar, such as 2025-05-15"
    return message.removeprefix("Value error, ").replace("Input should be", "must be", 1)


def _walk(annotation: Any, data: Any, location: Sequence[Any]) -> tuple[Location, list[Any]]:
    """Return a location as it is written, without the tags that pydantic adds for unions, and the types expected."""
    expected = list(_alternatives(annotation))
    written: list[Any] = []
    for part in location:
        specs = list(_specs(expected))
        tagged = [spec for spec in specs if part in _literals(spec)] if len(specs) > 1 else []
        if tagged:
            expected = list(tagged)
            continue
        key = part
        if isinstance(data, dict):
            key = next((each for each in data if each == part or str(each) == str(part)), part)
        written.append(key)
        inside = isinstance(data, dict) and key in data
        inside = inside or (isinstance(data, list) and isinstance(key, int) and key < len(data))
        data = data[key] if inside else None
        expected = [each for one in expected for each in _below(one, key)]
    return tuple(written), expected


def _below(annotation: Any, key: Any) -> Iterator[Any]:
    """Return the types that stand under a key of a type."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = annotation.model_fields.get(str(key))
        if field is not None:
            yield from _alternatives(_field_type(field))
        return
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is dict:
        yield from _alternatives(arguments[1])
    elif origin in (tuple, list):
        yield from _alternatives(arguments[0])


def _field_type(field: FieldInfo) -> Any:
    units = [each for each in field.metadata if isinstance(each, Dimension)]
    return Annotated[field.annotation, units[0]] if units else field.annotation


def _alternatives(annotation: Any) -> Iterator[Any]:
    """Return the members of a union, or the type itself; of the notes on a type only its dimension is kept."""
    if typing.get_origin(annotation) is Annotated:
        inner, *notes = typing.get_args(annotation)
        units = [each for each in notes if isinstance(each, Dimension)]
        if units:
            yield Annotated[inner, units[0]]
        else:
            yield from _alternatives(inner)
    elif typing.get_origin(annotation) is typing.Union or isinstance(annotation, types.UnionType):
        for member in typing.get_args(annotation):
            yield from _alternatives(member)
    elif annotation is not type(None):
        yield annotation


def _specs(expected: Sequence[Any]) -> Iterator[type[BaseModel]]:
    for each in expected:
        if isinstance(each, type) and issubclass(each, BaseModel):
            yield each


def _literals(spec: type[BaseModel]) -> list[Any]:
    return [
        value
        for field in spec.model_fields.values()
        if typing.get_origin(field.annotation) is Literal and field.is_required()
        for value in typing.get_args(field.annotation)
    ]


def _tags(expected: Sequence[Any], key: str) -> list[str]:
    return [str(tag) for spec in _specs(expected) for tag in typing.get_args(spec.model_fields[key].annotation)]


def _choices(expected: Sequence[Any]) -> list[str]:
    choices: list[str] = []
    for each in expected:
        if typing.get_origin(each) is Literal:
            choices += map(str, typing.get_args(each))
        elif isinstance(each, type) and hasattr(each, "__members__"):
            choices += [str(member.value) for member in each.__members__.values()]
    return choices


def _meaning(spec_type: type[BaseModel], data: Any, location: Sequence[Any]) -> str:
    """Return what the spec says about the field at a location."""
    for spec in _specs(_walk(spec_type, data, location[:-1])[1]):
        if str(location[-1]) in spec.model_fields:
            return spec.model_fields[str(location[-1])].description or ""
    return ""


def _how_to_write(expected: Sequence[Any]) -> str:
    """Return what to write where something of these types is expected; empty where nothing helps."""
    for each in expected:
        example = _example(each)
        if isinstance(each, type) and issubclass(each, BaseModel) and not issubclass(each, Sourced):
            needed = [name for name, field in each.model_fields.items() if field.is_required()]
            return f"Give its keys: {', '.join(needed or each.model_fields)}."
        if example:
            return f"Write {example}."
        if typing.get_origin(each) is Literal:
            return f"Write {' or '.join(map(str, typing.get_args(each)))}."
        if typing.get_origin(each) is dict:
            none = " or {} for none" if typing.get_args(each)[1] is Any else ""
            return f"Write its entries below it, indented, as `name: value`{none}."
        if typing.get_origin(each) in (tuple, list):
            return "Write it in brackets, separated by commas: [...]."
    return ""


def _example(annotation: Any) -> str:
    if typing.get_origin(annotation) is Annotated:
        units = [each for each in typing.get_args(annotation) if isinstance(each, Dimension)]
        return f"a number and a unit, such as {units[0].example!r}" if units else ""
    if isinstance(annotation, type) and issubclass(annotation, Sourced):
        inner = next(_alternatives(_field_type(annotation.model_fields["value"])))
        units = [each for each in typing.get_args(inner) if isinstance(each, Dimension)]
        value = units[0].example if units else "..."
        return f"the value with its source, as in {{value: {value}, source: [KEY], confidence: measured}}"
    return ""
