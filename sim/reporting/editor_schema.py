"""JSON Schema for editors: what a YAML file of the library may say, whole or as a delta of another."""

from __future__ import annotations

from typing import Any

from sim.specs.spec import Document

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_EXTENDS = {"type": "string", "description": "Name or path of a file of the same kind, of which this one is a delta."}


def editor_schema(spec_type: type[Document]) -> dict[str, Any]:
    """Return the JSON Schema of one kind of file.

    A file that says `extends` may leave out anything at any depth, which JSON Schema cannot express; of such a file
    only the top keys are checked. `fleetcast check` checks all of it.
    """
    whole = spec_type.model_json_schema()
    definitions = whole.pop("$defs", {})
    keys: dict[str, Any] = {key: {} for key in whole["properties"]}
    return {
        "$schema": _DIALECT,
        "title": whole["title"],
        "description": whole.get("description", ""),
        "type": "object",
        "if": {"required": ["extends"]},
        "then": {"properties": {"extends": _EXTENDS, **keys}, "additionalProperties": False},
        "else": {"$ref": "#/$defs/WholeFile"},
        "$defs": {**definitions, "WholeFile": whole},
    }
