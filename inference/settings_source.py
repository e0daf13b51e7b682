"""Where settings come from: the command line, over the environment, over one TOML file, over the defaults.

Nothing is silently ignored: an unknown section, key or `GLASSAI_*` variable is a problem like any other, and all of
them are reported together.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from inference.fault import nearest, one_of, quoted
from inference.settings import Settings, cross_problems
from inference.start_errors import SettingsInvalid

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ENVIRONMENT_PREFIX = "GLASSAI_"
CONFIG_VARIABLE = "GLASSAI_CONFIG"
FILE_BYTES_MAX = 1 << 20  # a settings file has a few hundred lines; more is another file by mistake
FOLDER_FILE = Path("glassai.toml")  # read from the working folder when no file is named
MOVED = {"runtime.runners": "scaling.runners_min"}  # keys of older files, and what took their place
SECRET_WORDS = ("password", "secret", "token", "api_key", "private_key")

Field = msgspec.structs.FieldInfo


@dataclass(frozen=True)
class Loaded:
    """Settings with the source of each key: "default", "file NAME", "environment NAME" or "command line"."""

    settings: Settings
    sources: dict[str, str]


@dataclass(frozen=True)
class SettingRow:
    """One key as `glassai config` shows it; values as they would be written in TOML."""

    key: str
    value: str
    source: str
    default: str
    accepted: str
    meaning: str


@dataclass(frozen=True)
class _Given:
    """A value somebody gave for a key; `text` values still have to be read as the key's type."""

    key: str
    value: object
    source: str
    text: bool


def load_settings(config: Path | None, environ: Mapping[str, str], overrides: Mapping[str, object]) -> Loaded:
    """The effective settings.

    `config` names the TOML file; without it `GLASSAI_CONFIG` does, else `glassai.toml` of the working folder is read if
    it is there. `environ` sets a key as GLASSAI_SECTION_KEY, a list with commas. `overrides` maps "section.key" to a
    value; None means that the option was not given. Raises SettingsInvalid with every problem at once.
    """
    problems: list[str] = []
    given = [*_from_file(config, environ, problems), *_from_environment(environ, problems)]
    given += [_Given(k, v, "command line", isinstance(v, str)) for k, v in overrides.items() if v is not None]
    values: dict[str, object] = {}
    sources = dict.fromkeys(FIELDS, "default")
    for item in given:  # later sources win
        field = FIELDS.get(item.key)
        if field is None:
            problems.append(_unknown(item.key, item.source))
            continue
        try:
            values[item.key] = _converted(item, field)
            sources[item.key] = item.source
        except msgspec.ValidationError:
            shown = "a secret, not shown" if is_secret(item.key) else quoted(item.value)
            problems.append(f"{item.key}: given {shown}, accepted {accepted(field)} (from {item.source})")
    settings = _built(values)
    problems += cross_problems(settings) if not problems else []  # a refused value left its default behind
    if problems:
        raise SettingsInvalid(problems)
    return Loaded(settings, sources)


def describe(loaded: Loaded) -> list[SettingRow]:
    """Every key in the order of the structs, secrets hidden."""
    rows = []
    for key, field in FIELDS.items():
        section, name = key.split(".")
        value = getattr(getattr(loaded.settings, section), name)
        shown = "(hidden)" if is_secret(key) and value else written(value)
        rows.append(
            SettingRow(key, shown, loaded.sources[key], written(field.default), accepted(field), meaning(field))
        )
    return rows


def is_secret(key: str) -> bool:
    """Whether the value of this key may not be shown."""
    return any(word in key.lower() for word in SECRET_WORDS)


def written(value: object) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return msgspec.json.encode(value).decode()
    if isinstance(value, Sequence):
        return f"[{', '.join(written(item) for item in value)}]"
    return repr(value)


def variable(key: str) -> str:
    """The environment variable of a key."""
    return ENVIRONMENT_PREFIX + key.replace(".", "_").upper()


def accepted(field: Field) -> str:
    """What a key takes, in words."""
    return _in_words(msgspec.inspect.type_info(field.type))


def meaning(field: Field) -> str:
    """The description of a key."""
    told = msgspec.inspect.type_info(field.type)
    schema = told.extra_json_schema if isinstance(told, msgspec.inspect.Metadata) else None
    return str((schema or {}).get("description", ""))


def reference() -> str:
    """docs/settings.md, made from the structs."""
    lines = [*_REFERENCE_HEAD]
    for section in msgspec.structs.fields(Settings):
        lines += ["", f"## [{section.name}]", "", str(section.type.__doc__), ""]
        lines += ["| Key | Default | Accepted | Meaning |", "|---|---|---|---|"]
        for field in msgspec.structs.fields(section.type):
            cells = (f"`{field.name}`", f"`{written(field.default)}`", accepted(field), meaning(field))
            lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def _fields() -> Iterator[tuple[str, Field]]:
    for section in msgspec.structs.fields(Settings):
        for field in msgspec.structs.fields(section.type):
            yield f"{section.name}.{field.name}", field


FIELDS: dict[str, Field] = dict(_fields())
VARIABLES: dict[str, str] = {variable(key): key for key in FIELDS}


def _from_file(config: Path | None, environ: Mapping[str, str], problems: list[str]) -> list[_Given]:
    named = config or (Path(environ[CONFIG_VARIABLE]) if environ.get(CONFIG_VARIABLE) else None)
    file = named or (FOLDER_FILE if FOLDER_FILE.is_file() else None)
    if file is None:
        return []
    whence = f"{file} (named by {CONFIG_VARIABLE})" if file == named and config is None else str(file)
    try:
        with file.open("rb") as stream:
            raw = stream.read(FILE_BYTES_MAX + 1)
        if len(raw) > FILE_BYTES_MAX:
            problems.append(f"{whence}: given more than {FILE_BYTES_MAX} bytes, accepted at most {FILE_BYTES_MAX}")
            return []
        table = tomllib.loads(raw.decode())
    except OSError as error:
        problems.append(f"{whence}: cannot be read ({error.strerror or error})")
    except UnicodeDecodeError as error:
        problems.append(f"{whence}: is not UTF-8 text (byte {error.start})")
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        problems.append(f"{whence}: is not TOML: {str(error) or 'nested too deeply'}")
    else:
        return list(_from_table(table, f"file {file}", problems))
    return []


def _from_table(table: dict[str, Any], source: str, problems: list[str]) -> Iterator[_Given]:
    sections = [section.name for section in msgspec.structs.fields(Settings)]
    for section, entries in table.items():
        if section not in sections:
            hint = nearest(section, sections)
            what = "an unknown section" if isinstance(entries, dict) else "an unknown key outside of any section"
            meant = f"[{hint}] was meant?" if hint and isinstance(entries, dict) else one_of(f"[{s}]" for s in sections)
            problems.append(f"{quoted(section)[1:-1]}: given {what}, accepted {meant} (from {source})")
        elif not isinstance(entries, dict):
            problems.append(f"{section}: given {quoted(entries)}, accepted a table [{section}] (from {source})")
        else:
            yield from (_Given(f"{section}.{name}", value, source, text=False) for name, value in entries.items())


def _from_environment(environ: Mapping[str, str], problems: list[str]) -> Iterator[_Given]:
    for name in sorted(environ):
        if not name.startswith(ENVIRONMENT_PREFIX) or name == CONFIG_VARIABLE:
            continue
        key = VARIABLES.get(name)
        if key is None:
            hint = nearest(name, [*VARIABLES, CONFIG_VARIABLE])
            meant = f"{hint} was meant?" if hint else "GLASSAI_<SECTION>_<KEY>, see `glassai config`"
            problems.append(f"{name}: given an unknown variable, accepted {meant} (from environment)")
        else:
            yield _Given(key, environ[name], f"environment {name}", text=True)


def _unknown(key: str, source: str) -> str:
    section, _, name = key.partition(".")
    siblings = [k for k in FIELDS if k.startswith(f"{section}.")]
    elsewhere = [k for k in FIELDS if k.endswith(f".{name}")]  # the right key under the wrong section
    hint = MOVED.get(key) or nearest(key, elsewhere or siblings or list(FIELDS))
    meant = f"{hint} was meant?" if hint else one_of(siblings or FIELDS)
    return f"{quoted(key)[1:-1]}: given an unknown key, accepted {meant} (from {source})"


def _converted(item: _Given, field: Field) -> object:
    """The value as the key's type; raises msgspec.ValidationError."""
    try:
        value = msgspec.convert(item.value, field.type, strict=not item.text)
    except msgspec.ValidationError:
        if not item.text:
            raise
        parts = [part.strip() for part in str(item.value).split(",") if part.strip()]
        value = msgspec.convert(parts, field.type, strict=False)
    if isinstance(value, float) and not math.isfinite(value):
        raise msgspec.ValidationError("not finite")
    return value


def _built(values: Mapping[str, object]) -> Settings:
    sections = {}
    for section in msgspec.structs.fields(Settings):
        prefix = f"{section.name}."
        chosen = {key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)}
        sections[section.name] = section.type(**chosen)
    return Settings(**sections)


def _in_words(told: msgspec.inspect.Type) -> str:
    match told:
        case msgspec.inspect.Metadata(type=inner):
            return _in_words(inner)
        case msgspec.inspect.IntType() | msgspec.inspect.FloatType():
            kind = "a whole number" if isinstance(told, msgspec.inspect.IntType) else "a number"
            bounds = (("above", told.gt), ("at least", told.ge), ("below", told.lt), ("at most", told.le))
            return f"{kind} {' and '.join(f'{word} {bound:g}' for word, bound in bounds if bound is not None)}".strip()
        case msgspec.inspect.BoolType():
            return "true or false"
        case msgspec.inspect.LiteralType(values=values):
            return " or ".join(written(value) for value in values)
        case msgspec.inspect.ListType() | msgspec.inspect.VarTupleType():
            return f"a list of {'at least one of ' if told.min_length else ''}({_in_words(told.item_type)})"
        case msgspec.inspect.UnionType(types=types):
            return " or ".join(_in_words(inner) for inner in types)
        case _:
            return "text"


_REFERENCE_HEAD = (
    "# Settings",
    "",
    "This page is made from the code (`glassai config --reference`); a test holds the two together.",
    "",
    "A setting is taken from the first of these that has it:",
    "",
    "1. the command line (`glassai serve --port 9000`),",
    "2. the environment: `GLASSAI_<SECTION>_<KEY>`, such as `GLASSAI_SERVER_PORT=9000`; a list is written with commas,",
    "   as in `GLASSAI_RUNTIME_PROVIDERS=cuda,cpu`,",
    "3. one TOML file: `--config FILE`, else the file that `GLASSAI_CONFIG` names, else `glassai.toml` of the working",
    "   folder,",
    "4. the default.",
    "",
    "`glassai config` prints the effective settings and where each came from. An unknown section, key or `GLASSAI_*`",
    "variable is refused with the nearest known one, and all problems are listed together.",
    "",
    "```toml",
    "[server]",
    'host = "0.0.0.0"',
    "port = 9000",
    "",
    "[models]",
    'required = ["lstm_defect_predictor"]',
    "```",
)
