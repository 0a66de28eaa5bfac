"""YAML in, validated spec out: duplicate keys, unknown keys, units and sources are all reported at once, with lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from sim.specs.errors import InputError, Problem, suggest
from sim.specs.spec import ASSUMPTION_SOURCE, Document, Spec
from sim.specs.wording import Location, explanations

SpecType = TypeVar("SpecType", bound=Spec)

_NESTING = "Check for brackets that are not closed, and for an alias inside its own anchor."


@dataclass(frozen=True)
class RawDocument:
    """A YAML mapping as read, and where its parts stand."""

    file: str
    """File, as errors name it."""

    data: dict[Any, Any]
    """The mapping."""

    lines: Mapping[Location, int] = field(default_factory=dict)
    """Path -> line, counted from 1."""

    changed: Mapping[Location, Location | None] = field(default_factory=dict)
    """Paths that hold something else than the file says there -> where in the file it stands, if it does."""

    scope: str = ""
    """Which variant of the document this is, e.g. `alternatives.rubin`; empty for the document itself."""

    extended: RawDocument | None = None
    """The document of which this one is a delta."""

    def problem(self, message: str, location: Location, value: object = None, remedy: str = "") -> Problem:
        """Return a problem with the place at which it stands, or the nearest place above it that is written."""
        path = ".".join(str(part) for part in location)
        path = f"{self.scope}: {path}" if self.scope else path
        above = [location[:end] for end in range(len(location), 0, -1)]
        below = [place for place in self.changed if place[: len(location)] == location]
        for place in (*(place for place in above if place in self.changed), *below, *above):
            written = self.changed.get(place, place)
            if written is None:
                return Problem(message, f"{self.file} (changed)", path, value, remedy)
            if written in self.lines:
                return Problem(message, self.file, path, value, remedy, self.lines[written])
        return Problem(message, self.file, path, value, remedy)


class _StrictConstructor(yaml.constructor.SafeConstructor):
    """SafeConstructor that refuses a key given twice in one mapping, and says where a value cannot be read."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                raise _refusal("a mapping or a list cannot be a key", key_node)
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise _refusal(f"the key {key!r} is given twice", key_node)
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, TypeError, AttributeError) as error:
            raise _refusal(f"{node.value!r} cannot be read: {error}", node) from None


_Loader: Any = type("_Loader", (_StrictConstructor, getattr(yaml, "CSafeLoader", yaml.SafeLoader)), {})
"""The strict constructor on the fastest parser at hand: PyYAML has the C one only where libyaml is."""


def _refusal(message: str, node: yaml.Node) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, message, node.start_mark)


def read_yaml(path: Path) -> RawDocument:
    """Read a YAML mapping.

    Raises
    ------
    InputError
        File missing or unreadable, not YAML, a key given twice, or not a mapping.

    """
    file = str(path)
    text = _text(path)
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        data = None if node is None else loader.construct_document(node)
        lines = {} if node is None else dict(_lines(loader, node, ()))
    except yaml.YAMLError as error:
        raise InputError([_yaml_problem(file, text, error)]) from error
    except RecursionError:
        raise InputError([Problem("is nested too deeply", file, remedy=_NESTING)]) from None
    if node is None:
        raise InputError([Problem("is empty", file, remedy="Start with `kind:`.")])
    if not isinstance(data, dict):
        problem = "holds no mapping of keys to values at its top"
        raise InputError([Problem(problem, file, remedy="Start with `kind:`.", line=node.start_mark.line + 1)])
    return RawDocument(file, data, lines)


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        remedy = "Name a YAML file in it." if path.is_dir() else "Check the path."
        raise InputError([Problem(f"cannot be read: {reason}", str(path), remedy=remedy)]) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise InputError([Problem("is not UTF-8 text", str(path), remedy="Save it as UTF-8.", line=line)]) from error


def _yaml_problem(file: str, text: str, error: yaml.YAMLError) -> Problem:
    sign = yaml.reader.Reader.NON_PRINTABLE.search(text)
    if sign is not None:
        problem = f"not valid YAML: the character U+{ord(sign[0]):04X} is not allowed"
        return Problem(problem, file, remedy="Remove it.", line=text.count("\n", 0, sign.start()) + 1)
    mark = getattr(error, "problem_mark", None)
    line = None if mark is None else mark.line + 1
    problem = getattr(error, "problem", None) or " ".join(str(error).split())
    remedy = ""
    if "nesting depth" in problem:
        return Problem("is nested too deeply", file, remedy=_NESTING, line=line)
    if line and text.splitlines()[line - 1 : line] and "\t" in _indent(text.splitlines()[line - 1]):
        problem, remedy = "a tab in the indentation", "Indent with spaces, not tabs."
    elif "another document" in problem:
        problem, remedy = "a second document", "Keep one document to a file: remove `---`."
    elif "cannot be a key" in problem:
        remedy = "Put text that starts with { or [ in quotes."
    elif isinstance(error, yaml.scanner.ScannerError | yaml.parser.ParserError):
        remedy = "Check quotes, brackets and indentation here and just above; text that holds ': ' needs quotes."
    return Problem(f"not valid YAML: {problem}", file, line=line, remedy=remedy)


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


def _lines(loader: _StrictConstructor, node: yaml.Node, path: Location) -> Iterator[tuple[Location, int]]:
    if isinstance(node, yaml.MappingNode):
        for key_node, value in node.value:
            here = (*path, loader.construct_object(key_node, deep=True))
            yield here, key_node.start_mark.line + 1
            yield from _lines(loader, value, here)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*path, index), value.start_mark.line + 1
            yield from _lines(loader, value, (*path, index))


def validate(raw: RawDocument, spec_type: type[SpecType]) -> SpecType:
    """Return a document as a spec.

    Raises
    ------
    InputError
        All problems of the document: types, units, unknown keys with near misses, sources that are not listed. Those
        of a document that it extends are reported in the file of that one.

    """
    problems: list[Problem] = []
    spec = None
    try:
        spec = spec_type.model_validate(raw.data)
    except ValidationError as error:
        for each in explanations(raw.data, spec_type, error):
            problems += [raw.problem(each.message, each.location, each.value, each.remedy)]
    if issubclass(spec_type, Document):
        problems += _source_problems(raw)
    if spec is None or problems:
        problems.sort(key=lambda each: each.line or 0)
        raise InputError(_in_their_files(raw, spec_type, problems))
    return spec


def _in_their_files(raw: RawDocument, spec_type: type[Spec], problems: list[Problem]) -> list[Problem]:
    if raw.extended is None:
        return problems
    try:
        validate(raw.extended, spec_type)
    except InputError as error:
        inherited = {(each.path, each.message) for each in error.problems}
        return [*error.problems, *(each for each in problems if (each.path, each.message) not in inherited)]
    return problems


def _source_problems(raw: RawDocument) -> Iterator[Problem]:
    listed = raw.data.get("sources", {})
    if not isinstance(listed, dict):
        return
    known = {ASSUMPTION_SOURCE, *map(str, listed)}
    for location, key in _used_sources(raw.data, ()):
        if key not in known:
            yield raw.problem("source is not listed", location, key, f"Add it to `sources`. {suggest(key, known)}")


def _used_sources(value: object, location: Location) -> Iterator[tuple[Location, str]]:
    """Return the source keys in use; read from the data, so that other errors do not hide them."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "source" and isinstance(item, list):
                yield from (((*location, key), each) for each in item if isinstance(each, str))
            else:
                yield from _used_sources(item, (*location, key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _used_sources(item, (*location, index))
