"""How a frozen dataclass becomes command-line options and the keys of a TOML file.

A field is declared once, by `option(...)`: its default, help, and what it may be. From that come the flag (underscores
become dashes), the key in a configuration file (either spelling), the check, and the error that names the option.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import numbers
import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from fastmlp.errors import ConfigError
from fastmlp.option_values import number_ranges

Options = TypeVar("Options")
LONGEST_TOML = 1 << 14  # bytes: 64 KiB of a.a.a.a... = 1 would keep the parser busy for a minute


@dataclasses.dataclass(frozen=True)
class Rule:
    """What one option is: how its text is read, and which values are allowed."""

    parse: Callable[[str], Any]
    help: str
    group: str
    choices: tuple[str, ...] = ()
    low: float | None = None        # smallest allowed value ...
    above: float | None = None      # ... or the value it must exceed
    high: float | None = None
    below: float | None = None
    many: bool = False              # several values, kept as a tuple
    again: bool = False             # ... each behind a flag of its own
    metavar: str = ""


def option(default: Any, help: str, parse: Callable[[str], Any] = str, *, group: str = "", **rule: Any) -> Any:
    """Declare a field of an options dataclass; the keywords are those of `Rule`."""
    return dataclasses.field(default=default, metadata={"rule": Rule(parse, help, group, **rule)})


def rules(options: Any) -> dict[str, Rule]:
    """The rules of an options dataclass by field name."""
    return {field.name: field.metadata["rule"] for field in dataclasses.fields(options)}


def flag(name: str) -> str:
    """`batch_size` -> `--batch-size`."""
    return "--" + name.replace("_", "-")


def check(options: Any) -> None:
    """Check every field against its rule; call it in `__post_init__`.

    Raises
    ------
    ConfigError
        Names the option, its value, and what it may be.
    """
    for name, rule in rules(options).items():
        value = getattr(options, name)
        _check_values(name, value if rule.many and isinstance(value, tuple) else (value,), rule)


def _check_values(name: str, values: Iterable[Any], rule: Rule) -> None:
    for value in values:
        _check_value(name, value, rule)


def _check_value(name: str, value: Any, rule: Rule) -> None:
    if rule.choices and value not in rule.choices:
        raise ConfigError(f"{flag(name)} {value}: choose one of {', '.join(rule.choices)}")
    if isinstance(value, str | Path) and "\0" in str(value):
        raise ConfigError(f"{flag(name)} {str(value)!r}: must not hold a null character")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{flag(name)} {value}: must be a finite number")
    bounds = [
        (rule.low is not None and value < rule.low, f"at least {rule.low}"),
        (rule.above is not None and value <= rule.above, f"above {rule.above}"),
        (rule.high is not None and value > rule.high, f"at most {rule.high}"),
        (rule.below is not None and value >= rule.below, f"below {rule.below}"),
    ]
    for violated, demand in bounds:
        if violated:
            raise ConfigError(f"{flag(name)} {value}: must be {demand}")


def add_options(parser: argparse.ArgumentParser, options: type[Any], only: Collection[str] | None = None,
                without: Collection[str] = ()) -> None:
    """Give a parser a flag for each field, or for `only` some, or `without` those of some groups.

    Flags that are not used leave no trace in what is parsed.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(options)}
    groups: dict[str, Any] = {}
    for name, rule in rules(options).items():
        if (only is not None and name not in only) or rule.group in without:
            continue
        if rule.group not in groups:
            groups[rule.group] = parser.add_argument_group(rule.group)
        details: dict[str, Any] = {
            "default": argparse.SUPPRESS, "help": f"{rule.help}{_default_text(defaults[name])}".replace("%", "%%"),
        }
        if rule.parse is bool:
            details["action"] = argparse.BooleanOptionalAction
        else:
            details["type"] = _argparse_type(rule)
            details["metavar"] = rule.metavar or ("{" + ",".join(rule.choices) + "}" if rule.choices else
                                                  getattr(rule.parse, "__name__", "value").upper())
            if rule.again:
                details["action"] = "append"
            elif rule.many:
                details["nargs"] = "*"
        groups[rule.group].add_argument(flag(name), **details)


def _default_text(default: Any) -> str:
    if default is None or default == ():
        return ""
    if isinstance(default, bool):
        return f" (default: {'on' if default else 'off'})"
    shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
    return f" (default: {shown})"


def _argparse_type(rule: Rule) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            return rule.parse(text)
        except ValueError as error:
            shown = text if len(text) <= 60 else f"{text[:57]}..."
            raise argparse.ArgumentTypeError(f"{shown!r} is not {_wanted(rule, error)}") from error
    return read


def _wanted(rule: Rule, error: ValueError) -> str:
    words: dict[Any, str] = {int: "a whole number", float: "a number", number_ranges: "a list of numbers such as 1-5"}
    return words.get(rule.parse, str(error))


def read_toml(path: Path, *options: type[Any]) -> dict[str, Any]:
    """Values for options dataclasses from a TOML file, read by the same rules as the flags.

    Parameters
    ----------
    path : Path
        Top-level keys are the options' names, with dashes or underscores.
    *options : type
        The dataclasses; no two have a field of the same name.

    Returns
    -------
    dict
        Field names and values, to be passed to the dataclasses.

    Raises
    ------
    ConfigError
        The file is absent or no TOML, a name is unknown, or a value is not what the option takes.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LONGEST_TOML + 1)
        if len(content) > LONGEST_TOML:
            raise ConfigError(f"--config {path}: has more than {LONGEST_TOML} bytes, which no configuration needs")
        table = tomllib.loads(content.decode())
    except ConfigError:
        raise
    except OSError as error:
        raise ConfigError(f"--config {path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:       # among them TOMLDecodeError, and integers of 5000 digits
        raise ConfigError(f"--config {path}: not valid TOML ({str(error)[:200]})") from error
    return from_table(table, f"--config {path}", *options)


def from_table(table: Mapping[str, Any], place: str, *options: type[Any]) -> dict[str, Any]:
    """Values for options dataclasses from a table that came from a file, which the sentences call `place`.

    Raises
    ------
    ConfigError
        A name is unknown, or a value is not what the option takes.
    """
    known, values = {name: rule for one in options for name, rule in rules(one).items()}, {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in known:
            raise ConfigError(f"{place}: unknown option {key!r}; the options are those of --help")
        if name in values:
            raise ConfigError(f"{place}: {key!r} is there twice, with a dash and with an underscore")
        values[name] = _from_table(value, known[name], f"{place}: {key}")
        try:
            _check_values(name, _flat(values[name]), known[name])
        except ConfigError as error:
            raise ConfigError(f"{place}: {error}") from error
    return values


def _from_table(value: Any, rule: Rule, place: str) -> Any:
    if rule.parse is bool:
        if not isinstance(value, bool):
            raise ConfigError(f"{place} = {value!r} must be true or false")
        return value
    items = value if isinstance(value, list) and rule.many else [value]
    read = _argparse_type(rule)
    try:
        if any(isinstance(item, bool | list | dict) for item in items):
            raise argparse.ArgumentTypeError(f"{value!r} is not a value that this option takes")
        parsed = [read(str(item)) for item in items]
    except argparse.ArgumentTypeError as error:
        raise ConfigError(f"{place}: {error}") from error
    return parsed if rule.many else parsed[0]


def build(options: type[Options], given: dict[str, Any]) -> Options:
    """Make the dataclass from parsed values; lists become tuples, and lists of ranges are joined.

    Raises
    ------
    ConfigError
        A value is not allowed.
    """
    values = {}
    for name, value in given.items():
        many = rules(options)[name].many and isinstance(value, Sequence) and not isinstance(value, str)
        values[name] = _flat(value) if many else value
    return options(**values)


def _flat(value: Any) -> tuple[Any, ...]:
    """One value or several, and what lists of ranges among them hold."""
    return tuple(part for item in (value if isinstance(value, list | tuple) else [value])
                 for part in (item if isinstance(item, tuple) else (item,)))


def from_python(options: type[Options], given: Mapping[str, Any], allowed: Collection[str]) -> dict[str, Any]:
    """Values that a program gave by name, as the options' own types.

    Raises
    ------
    ConfigError
        A name is not among the allowed ones, or a value is of another kind than the option.
    """
    known, values = rules(options), {}
    for name, value in given.items():
        if name not in allowed:
            raise ConfigError(f"{name} is no option here: choose from {', '.join(sorted(allowed))}")
        many = known[name].many and not isinstance(value, str) and isinstance(value, Iterable)
        if known[name].many and not many:
            value, many = [value], True
        read = [_own_type(name, item, known[name]) for item in (value if many else [value])]
        values[name] = tuple(read) if many else read[0]
    return values


def _own_type(name: str, value: Any, rule: Rule) -> Any:
    kinds: dict[Any, tuple[Any, str]] = {
        int: (numbers.Integral, "a whole number"), float: (numbers.Real, "a number"), bool: (bool, "True or False"),
        str: (str, "text")}
    kind, words = kinds[rule.parse]
    if not isinstance(value, kind) or (isinstance(value, bool) and rule.parse is not bool):
        raise ConfigError(f"{name} = {value!r} must be {words}")
    return rule.parse(value)


def plain(options: Any) -> dict[str, Any]:
    """The options as JSON-ready values, sweeps as they are written."""
    return {name: _plain(getattr(options, name)) for name in rules(options)}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def non_default_toml(options: Any, without: Collection[str] = ()) -> str:
    """A configuration file that gives these options where they are not the defaults; see `read_toml`."""
    # JSON's strings, numbers, lists and truth values are TOML's, too.
    lines = [f"{name} = {json.dumps(value)}" for name, value in plain(options).items()
             if name not in without and getattr(options, name) != type(options).__dataclass_fields__[name].default]
    return "".join(f"{line}\n" for line in lines)
