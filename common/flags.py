"""Command-line parsing on top of tyro, with one style for all scripts.

Flag names have underscores; hyphens are accepted. Boolean flags, optional ones included, are given as --flag,
--flag True, --flag False or --no_flag. --help shows optional flags by the type of their value.
"""

import dataclasses
import shutil
import sys
from collections.abc import Sequence
from types import NoneType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import tyro

# not public: requirements.txt pins tyro, and tests/project/test_command_line.py checks what --help shows
from tyro import _strings
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from common.help_text import lay_out, one_line_paragraphs

_strings.remove_single_line_breaks = one_line_paragraphs  # tyro's own breaks lines where the source does

UNSET = "unset"
"""Default that --help shows for a flag without one."""
_WIDEST = 100  # columns of a description
_HOW_BOOLEAN = "\n\n[True|False]: the flag alone means True, --no_<flag> means False."
_BOOLEAN = PrimitiveConstructorSpec(
    nargs=1,
    metavar="[True|False]",
    instance_from_str=lambda words: words[0] == "True",
    is_instance=lambda value: isinstance(value, bool),
    str_from_instance=lambda value: [str(value)],
    choices=("True", "False"),
)
_REGISTRY = ConstructorRegistry()
_STYLE = {"use_underscores": True, "config": (tyro.conf.FlagConversionOff,), "registry": _REGISTRY}


@_REGISTRY.primitive_rule
def _boolean(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
    return _BOOLEAN if info.type is bool else None


@_REGISTRY.primitive_rule
def _optional(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
    """Reads and shows `X | None` as X; None means that the flag is left out."""
    inner = _without_none(info.type)
    if inner is info.type:
        return None
    spec = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(inner, info.markers))
    shown = spec.str_from_instance
    return dataclasses.replace(
        spec,
        is_instance=lambda value: value is None or spec.is_instance(value),
        str_from_instance=lambda value: [UNSET] if value is None else shown(value),
    )


def read_flags(args_type: type, description: str, words: Sequence[str]):
    """Parses command-line words into an args_type. Raises tyro's events, which common/cli.py turns into one
    line.
    """
    boolean = boolean_flags(args_type)
    whole = description.strip() + (_HOW_BOOLEAN if boolean else "")
    shown = lay_out(whole, min(shutil.get_terminal_size().columns, _WIDEST))
    return tyro.cli(args_type, prog=_command(), description=shown, args=with_values(words, boolean), **_STYLE)


def flag_names(args_type: type) -> list[str]:
    """All flags of an args_type, aliases and --no_ forms included."""
    given = [
        spelled(flag)
        for action in tyro.extras.get_parser(args_type, **_STYLE)._actions
        for flag in action.option_strings
    ]
    return given + [_negated(flag) for flag in boolean_flags(args_type)]


def given_flags(args_type: type, words: Sequence[str]) -> set[str]:
    """Names of the flags that the words give, by whatever alias, and of positional ones."""
    given = {spelled(word.partition("=")[0]) for word in words if word.startswith("--")}
    return {
        action.dest.rpartition(".")[2]
        for action in tyro.extras.get_parser(args_type, **_STYLE)._actions
        if not action.option_strings or given & {spelled(flag) for flag in action.option_strings}
    }


def boolean_flags(args_type: type) -> list[str]:
    """Boolean flags of an args_type, which may be given without a value."""
    hints = get_type_hints(args_type)
    return [f"--{name}" for name, hint in hints.items() if _without_none(hint) is bool]


def with_values(words: Sequence[str], boolean: Sequence[str]) -> list[str]:
    """Completes boolean flags: --flag becomes --flag True, and --no_flag becomes --flag False."""
    negated = {_negated(flag): flag for flag in boolean}
    left = list(words)
    out = []
    while left:
        word = left.pop(0)
        flag, equals, value = word.partition("=")
        flag = spelled(flag)
        if flag in negated and not equals:
            out += [negated[flag], "False"]
        elif flag in boolean:
            valued = equals or (left and left[0].capitalize() in _BOOLEAN.choices)
            given = (value if equals else left.pop(0)) if valued else "True"
            # an invalid value is passed on as given, for the message
            out += [flag, given.capitalize() if given.capitalize() in _BOOLEAN.choices else given]
        else:
            out.append(word)
    return out


def spelled(flag: str) -> str:
    """A flag spelled with underscores, as in the documentation."""
    return flag[:2] + flag[2:].replace("-", "_")


def script_words() -> list[str]:
    """What python was started with: the script's path, or -m and its module."""
    module = getattr(sys.modules["__main__"], "__spec__", None)  # None where a path was given
    return ["-m", module.name] if module else [sys.argv[0]]


def _command() -> str:
    """The command that started this script."""
    return " ".join(["python", *script_words()])


def _negated(flag: str) -> str:
    return f"--no_{flag[2:]}"


def _without_none(hint: Any) -> Any:
    """X for `X | None`; other types unchanged."""
    if get_origin(hint) is Annotated:
        return _without_none(get_args(hint)[0])
    options = [option for option in get_args(hint) if option is not NoneType]
    return options[0] if NoneType in get_args(hint) and len(options) == 1 else hint
