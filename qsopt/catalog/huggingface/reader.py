"""Reading of a config one field at a time: each value is checked, and remembered, so that what
nobody read can be refused.
"""

import math
from collections.abc import Collection, Mapping

from qsopt.catalog.huggingface.harmless import is_harmless_at
from qsopt.errors import InputError

LARGEST = 10**9
"""No size or count of a model is larger; what is must be a mistake."""


class Reader:
    """The fields of one config. Every method marks its fields as read; `finish` refuses the rest.

    A null counts as missing. A `default` is given only where the family's own Hugging Face class
    documents one.
    """

    def __init__(self, fields: Mapping[str, object], where: str, ignored: Collection[str] = ()):
        self._fields = fields
        self._where = where
        self._ignored = ignored
        self._read: set[str] = set(ignored)
        self._sections: dict[str, Reader] = {}

    def error(self, text: str) -> InputError:
        """An error that says in which config it is."""
        return InputError(f"{self._where}: {text}")

    def has(self, key: str) -> bool:
        """Whether the field is there and not null."""
        self._read.add(key)
        return self._fields.get(key) is not None

    def states(self, key: str) -> bool:
        """Whether the field is there, be it null."""
        self._read.add(key)
        return key in self._fields

    def holds(self, key: str, value: object) -> bool:
        """Whether the field has this value."""
        self._read.add(key)
        return self._fields.get(key) == value

    def names(self) -> list[str]:
        """Names of all fields, for tables whose names are data."""
        return list(self._fields)

    def values(self) -> tuple[object, ...]:
        """Names and values of all fields, to find tables that are equal."""
        return tuple(sorted((key, repr(value)) for key, value in self._fields.items()))

    def whole(self, key: str, default: int | None = None) -> int:
        """A whole number, zero allowed."""
        return self._whole(key, self._value(key, default, "a whole number"))

    def count(self, key: str, default: int | None = None, most: int = LARGEST) -> int:
        """A positive whole number of at most `most`, such as a size."""
        value = self.whole(key, default)
        if not 0 < value <= most:
            raise self.error(
                f"field '{key}' = {value}: it must lie between 1 and {most}; set it as the "
                f"checkpoint has it"
            )
        return value

    def flag(self, key: str, default: bool | None = None) -> bool:
        """True or false."""
        value = self._value(key, default, "true or false")
        if not isinstance(value, bool):
            raise self.error(f"field '{key}' = {value!r}: it must be true or false")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        """A word."""
        value = self._value(key, default, "a string")
        if not isinstance(value, str):
            raise self.error(f"field '{key}' = {value!r}: it must be a string")
        return value

    def either(self, *keys: str) -> str:
        """The first of these names that the config has, else the first."""
        return next((key for key in keys if self.has(key)), keys[0])

    def words(self, key: str) -> list[str]:
        """A list of strings."""
        values = self._list(key)
        if not all(isinstance(value, str) for value in values):
            raise self.error(f"field '{key}': it must hold only strings")
        return [str(value) for value in values]

    def wholes(self, key: str) -> list[int]:
        """A list of whole numbers."""
        return [self._whole(key, value) for value in self._list(key)]

    def marks(self, key: str) -> list[bool]:
        """A list of zeros and ones, or of false and true."""
        values = self._list(key)
        if not all(value in (0, 1) for value in values):
            raise self.error(f"field '{key}': it must hold only 0 and 1, one for each layer")
        return [bool(value) for value in values]

    def listed(self, key: str) -> bool:
        """Whether the field is a list rather than one value for all layers."""
        return self.has(key) and isinstance(self._fields[key], list)

    def tables(self, key: str) -> list["Reader"]:
        """A list of tables, each read by the same rules."""
        values = self._list(key)
        for index, value in enumerate(values):
            name = f"{key}[{index}]"
            if name not in self._sections:
                if not isinstance(value, Mapping):
                    raise self.error(f"field '{key}': it must hold only tables")
                inner = Reader(value, f"{self._where}: in '{name}'", self._ignored)
                self._sections[name] = inner
        return [self._sections[f"{key}[{index}]"] for index in range(len(values))]

    def real(self, key: str, default: float | None = None) -> float:
        """A positive number, such as a ratio."""
        value = self._value(key, default, "a number")
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < LARGEST:
            raise self.error(f"field '{key}' = {value!r}: it must be a positive number")
        return float(value)

    def has_table(self, key: str) -> bool:
        """Whether the field is a table that holds something, and is not ignored."""
        value = self._fields.get(key)
        return key not in self._ignored and isinstance(value, Mapping) and bool(value)

    def flattened(self, *keys: str) -> "Reader":
        """This reader, where a list of one and the same value stands for the value.

        Raises:
            InputError: if a list holds several values.
        """
        for key in keys:
            if self.listed(key):
                values = self._list(key)
                if not values or any(value != values[0] for value in values):
                    raise self.error(
                        f"field '{key}' has several values, which this family's reader does not "
                        f"tell apart; build the model with qsopt.model"
                    )
                self._fields = {**self._fields, key: values[0]}
        return self

    def is_text(self, key: str) -> bool:
        """Whether the field is a word rather than a number."""
        return self.has(key) and isinstance(self._fields[key], str)

    def section(self, key: str) -> "Reader":
        """A table inside the config, read by the same rules."""
        if key in self._sections:
            return self._sections[key]
        value = self._value(key, None, "a table")
        if not isinstance(value, Mapping):
            raise self.error(f"field '{key}' = {value!r}: it must be a table")
        inner = Reader(value, f"{self._where}: in '{key}'", self._ignored)
        self._sections[key] = inner
        return inner

    def expect(self, key: str, *allowed: object) -> None:
        """Refuse a field, where given, with another value than these; they are what leaving it out
        means.
        """
        if self.has(key) and self._fields[key] not in allowed:
            known = " or ".join(repr(option) for option in allowed)
            raise self.error(
                f"field '{key}' = {self._fields[key]!r} is not supported; only {known} is"
            )

    def require(self, key: str, value: object) -> None:
        """Refuse a field that is missing or has another value, where leaving it out would mean
        another value.
        """
        self._value(key, None, repr(value))
        self.expect(key, value)

    def agree(self, key: str, value: object, meaning: str) -> None:
        """Refuse a field, where given, that contradicts the value which follows from others."""
        if self.has(key) and self._fields[key] != value:
            raise self.error(
                f"field '{key}' = {self._fields[key]!r} contradicts {meaning} ({value!r}); "
                f"correct one of them"
            )

    def skip(self, *keys: str) -> None:
        """Mark fields that this family carries without using them."""
        self._read.update(keys)

    def finish(self) -> None:
        """Refuse every field that was not read and is not known to be harmless.

        Raises:
            InputError: naming the fields.
        """
        unknown = [
            key
            for key, value in self._fields.items()
            if key not in self._read and not is_harmless_at(key, value)
        ]
        if unknown:
            names = ", ".join(f"'{key}'" for key in unknown)
            raise self.error(
                f"field {names} is not understood by qsopt and may change counts or times; remove "
                f"it, or pass it over with --ignore {unknown[0]}, if it does not matter, or build "
                f"the model with qsopt.model"
            )
        for inner in self._sections.values():
            inner.finish()

    def _value(self, key: str, default: object, wanted: str) -> object:
        if self.has(key):
            return self._fields[key]
        if default is None:
            raise self.error(
                f"field '{key}' is missing; add it as {wanted}, as the checkpoint has it"
            )
        return default

    def _whole(self, key: str, value: object) -> int:
        number = (
            value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
        )
        if not (0 <= number <= LARGEST and number == int(number)):
            raise self.error(
                f"field '{key}' = {value!r}: it must be a whole number, not negative and at most "
                f"{LARGEST}"
            )
        return int(number)

    def _list(self, key: str) -> list[object]:
        value = self._value(key, None, "a list")
        if not isinstance(value, list):
            raise self.error(f"field '{key}' = {value!r}: it must be a list")
        return value
