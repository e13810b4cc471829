"""Reads and validates JSON and YAML descriptions; an invalid one raises one line naming file and field."""

import dataclasses
import json
import math
import numbers
import reprlib
import types
import typing
from pathlib import Path

import yaml

from common.errors import UsageError

LARGEST = 2**31 - 1
"""Largest integer that a configuration may hold."""
MOST_VALUES = 10**6
"""Most values in a YAML file, its aliases written out."""
LARGEST_SIZE = 2**16
"""Largest width, count or image edge that a configuration may request."""
_NAMES = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    dict: "a mapping",
    list: "a list",
    type(None): "null",
}


def parse_json(text: str | bytes, source: object, remedy: str, error: type[Exception] = UsageError) -> dict:
    """Parses a JSON mapping. Raises `error`, naming the source and the remedy, for anything else."""
    return _mapping(lambda: json.loads(text), source, remedy, error)


def read_json(path: Path, remedy: str, error: type[Exception] = UsageError) -> dict:
    """Reads a JSON mapping. Raises `error` as `parse_json` does."""
    return _mapping(lambda: json.loads(Path(path).read_text()), path, remedy, error)


class TextLoader(yaml.SafeLoader):
    """Reads every value as the text that the file has: YAML takes 1:30:00 for the number 5400. Only an empty
    value is None.
    """


TextLoader.yaml_implicit_resolvers = {
    first: [one for one in resolvers if one[0] in ("tag:yaml.org,2002:null", "tag:yaml.org,2002:merge")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_yaml(
    path: Path,
    remedy: str,
    error: type[Exception] = UsageError,
    loader: type[yaml.SafeLoader] = yaml.SafeLoader,
) -> dict:
    """Reads a YAML mapping of plain values, without tags. Raises `error` as `parse_json` does."""
    return _mapping(lambda: _load_yaml(Path(path).read_text(), loader), path, remedy, error)


def _load_yaml(text: str, loader: type[yaml.SafeLoader]):
    """Plain values of a YAML text. Raises ValueError where aliases multiply them beyond MOST_VALUES."""
    value = yaml.load(text, loader)
    _count_values(value, {})
    return value


def _count_values(value, counted: dict[int, int | None]) -> int:
    """Values in a nested value, aliases written out; `counted` holds those of containers met before."""
    if not isinstance(value, dict | list):
        return 1
    if id(value) in counted:
        if (count := counted[id(value)]) is None:
            raise ValueError("an alias stands inside what it names")
        return count
    counted[id(value)] = None
    items = value.values() if isinstance(value, dict) else value
    counted[id(value)] = count = 1 + sum(_count_values(item, counted) for item in items)
    if count > MOST_VALUES:
        raise ValueError(f"its aliases make more than {MOST_VALUES:,} values")
    return count


def read_preset(path: Path, name: str, known: set[str]) -> dict:
    """Reads one preset of a YAML file. Raises UsageError if the preset or one of its keys is unknown."""
    preset = find_preset(path, name)
    values = {} if preset is None else preset
    if not isinstance(values, dict):
        raise UsageError(f"preset {name!r} in {path} is {described(values)}; expected a mapping of settings")
    unknown = [str(key) for key in values if key not in known]
    if unknown:
        raise UsageError(f"preset {name!r} in {path.name} has unknown keys: {', '.join(sorted(unknown))}")
    return values


def find_preset(path: Path, name: str):
    """What a YAML file says of a preset; names that begin with _ are building blocks, not presets.

    Raises:
        UsageError: the preset is unknown.
    """
    presets = {
        key: values
        for key, values in read_yaml(path, "fix it, or restore the file of the repository").items()
        if not str(key).startswith("_")
    }
    if name not in presets:
        raise UsageError(f"unknown preset {name!r}; choose one of: {', '.join(map(str, presets))}")
    return presets[name]


def look_up(description: dict, name: str, kind, source: object, error: type[Exception] = UsageError):
    """The entry `a.b` of a description, which must be of the kind. Raises `error` naming the source and the
    entry.
    """
    value = description
    for key in name.split("."):
        if not isinstance(value, dict) or key not in value:
            raise error(f"{source} is damaged: its description lacks {name}; take another file")
        value = value[key]
    if not fits(value, kind):
        raise error(f"{source} is damaged: its {name} is {described(value)}; expected {_kind(kind)}")
    return value


def check_entries(
    description: dict, kinds: dict, source: object, error: type[Exception] = UsageError
) -> None:
    """Validates with `look_up` every entry of `kinds` that the description has."""
    for name in kinds.keys() & description.keys():
        look_up(description, name, kinds[name], source, error)


def check_kinds(config) -> None:
    """Raises ValueError for the first dataclass field whose value does not fit its annotation."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if not fits(value, field.type):
            raise ValueError(f"{field.name} is {described(value)}; expected {_kind(field.type)}")


def check_values(config, sizes: tuple[str, ...] = ()) -> None:
    """Runs `check_kinds` and raises ValueError for the first integer out of bounds.

    Args:
        config: a dataclass instance.
        sizes: fields that determine memory, limited to 1 .. LARGEST_SIZE; other integers are limited to
            LARGEST.
    """
    check_kinds(config)
    for name, value in vars(config).items():
        low, high = (1, LARGEST_SIZE) if name in sizes else (-LARGEST, LARGEST)
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, numbers.Integral) and not low <= number <= high:
                raise ValueError(f"{name} is {described(value)}; it must be from {low} to {high}")


def fits(value, kind) -> bool:
    """Whether a value fits an annotation; integers fit float, booleans only bool; numbers must be finite."""
    origin = typing.get_origin(kind)
    parts = typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, part) for part in parts)
    if origin is typing.Literal:
        return value in parts
    if origin in (tuple, list):
        if not isinstance(value, origin):
            return False
        each = parts[:1] * len(value) if origin is list or parts[-1] is ... else parts
        return len(value) == len(each) and all(map(fits, value, each))
    if origin is dict:
        return isinstance(value, dict) and all(
            fits(key, parts[0]) and fits(entry, parts[1]) for key, entry in value.items()
        )
    if kind in (int, float):
        number = numbers.Integral if kind is int else numbers.Real
        return isinstance(value, number) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, kind)


def described(value) -> str:
    """A short representation of any value, for error messages."""
    return (
        f"a {type(value).__name__} of {len(value)}"
        if isinstance(value, dict | list | tuple) and len(value) > 6
        else reprlib.repr(value)
    )


def _kind(annotation) -> str:
    return _NAMES.get(annotation, str(annotation).replace("typing.", ""))


def _mapping(read, source: object, remedy: str, error: type[Exception]) -> dict:
    try:
        value = read()
    except (ValueError, yaml.YAMLError) as found:
        raise error(f"{source} is damaged ({' '.join(str(found).split())}); {remedy}") from found
    except RecursionError as found:
        raise error(f"{source} is damaged: it is nested too deeply; {remedy}") from found
    if not isinstance(value, dict):
        raise error(
            f"{source} is damaged: it holds {_NAMES.get(type(value), type(value).__name__)} where a"
            f" mapping belongs; {remedy}"
        )
    return value
