"""From a parsed TOML document to a descriptor that hangs together, or an error that names file and key.

It does not know whether the vendor exists or behaves as described.
"""

from collections.abc import Mapping
from typing import Any, Self

from pydantic import ValidationError, model_validator

from identity_gateway.protocol.descriptor.consistency import faults
from identity_gateway.protocol.descriptor.rules import DescriptorError
from identity_gateway.protocol.descriptor.vendor import Vendor


class Descriptor(Vendor):
    """A vendor whose sections fit each other: every name known, no secret in a URL, every URL at home."""

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        found = list(dict.fromkeys(faults(self)))
        if found:
            raise ValueError("\n".join(found))
        return self


def parse(document: Mapping[str, Any], *, file: str) -> Descriptor:
    """Return the descriptor that a parsed TOML document holds. Raises DescriptorError naming file and key.

    Does not check that the vendor exists or behaves as described.
    """
    try:
        return Descriptor.model_validate(tuples(document))
    except ValidationError as error:
        raise DescriptorError(faults_of(error, file)) from None


def faults_of(error: ValidationError, file: str) -> str:
    """Return one line per fault, with file and key, and without what stands in the file."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    lines = [line for fault in found for line in _lines(fault["loc"], fault["msg"].removeprefix("Value error, "))]
    return "\n".join(f"{file}: {line}" for line in lines)


def _lines(location: tuple[str | int, ...], text: str) -> list[str]:
    """Put the key before the fault of one key; those of the whole file name their keys themselves."""
    key = ".".join(str(part) for part in location)
    return [f"{key}: {text}"] if key else text.split("\n")


def tuples(value: Any) -> Any:
    """Turn lists into tuples: strict validation takes no list for one, and a descriptor does not change."""
    if isinstance(value, Mapping):
        return {key: tuples(each) for key, each in value.items()}
    if isinstance(value, list):
        return tuple(tuples(each) for each in value)
    return value
