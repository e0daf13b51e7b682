"""One TOML file, the environment and the command line become settings, or a list of everything that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.settings import Settings
from inference.settings_source import (
    FIELDS,
    FILE_BYTES_MAX,
    accepted,
    describe,
    is_secret,
    load_settings,
    meaning,
    reference,
    variable,
    written,
)
from inference.start_errors import SettingsInvalid

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def toml(folder: Path, text: str, name: str = "settings.toml") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def problems(config: Path | None = None, environ: dict[str, str] | None = None, **overrides: object) -> list[str]:
    with pytest.raises(SettingsInvalid) as caught:
        load_settings(config, environ or {}, {k.replace("__", "."): v for k, v in overrides.items()})
    return list(caught.value.problems)


def test_nothing_given_means_the_defaults():
    loaded = load_settings(None, {"PATH": "/bin", "HOME": "/root"}, {})
    assert loaded.settings == Settings()
    assert set(loaded.sources.values()) == {"default"}
    assert set(loaded.sources) == set(FIELDS)


def test_command_line_over_environment_over_file_over_default(tmp_path: Path):
    file = toml(tmp_path, "[server]\nport = 1\nkeep_alive_s = 11\nhost = '0.0.0.0'\n")
    environ = {"GLASSAI_SERVER_PORT": "2", "GLASSAI_SERVER_KEEP_ALIVE_S": "12"}
    loaded = load_settings(file, environ, {"server.port": 3, "server.host": None})
    server = loaded.settings.server
    assert (server.port, server.keep_alive_s, server.host) == (3, 12, "0.0.0.0")
    assert server.drain_limit_s == Settings().server.drain_limit_s
    assert loaded.sources["server.port"] == "command line"
    assert loaded.sources["server.keep_alive_s"] == "environment GLASSAI_SERVER_KEEP_ALIVE_S"
    assert loaded.sources["server.host"] == f"file {file}"
    assert loaded.sources["server.drain_limit_s"] == "default"


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("models.required", "lstm, vit", ("lstm", "vit")),
        ("models.required", "", ()),
        ("models.versions", "all", "all"),
        ("models.versions", "2,3", [2, 3]),
        ("models.versions", "7", [7]),
        ("runtime.providers", "cuda,cpu", ("cuda", "cpu")),
        ("runtime.spinning", "true", True),
        ("runtime.spinning", "0", False),
        ("health.canary_interval_s", "1.5", 1.5),
        ("runtime.profile_cache", "", ""),
        ("logging.redact", "pin,glass", ("pin", "glass")),
    ],
)
def test_environment_text_is_read_as_the_type_of_its_key(name: str, text: str, value: object):
    loaded = load_settings(None, {variable(name): text}, {})
    section, key = name.split(".")
    assert getattr(getattr(loaded.settings, section), key) == value


def test_the_file_is_found_by_option_then_variable_then_working_folder(tmp_path: Path):
    toml(tmp_path, "[server]\nport = 1\n", "glassai.toml")
    by_variable = toml(tmp_path, "[server]\nport = 2\n", "second.toml")
    by_option = toml(tmp_path, "[server]\nport = 3\n", "third.toml")
    environ = {"GLASSAI_CONFIG": str(by_variable)}
    assert load_settings(None, {}, {}).settings.server.port == 1
    assert load_settings(None, environ, {}).settings.server.port == 2
    assert load_settings(by_option, environ, {}).settings.server.port == 3


def test_every_problem_is_listed_at_once(tmp_path: Path):
    file = toml(
        tmp_path,
        "server = 3\n[modles]\nfolder = 'x'\n[logging]\nlevel = 'info'\nfolder = 'x'\n[queue]\nrows_max = 0\n",
    )
    found = problems(file, {"GLASSAI_SERVER_PROT": "1", "GLASSAI_SERVER_PORT": "70000"}, server__keep_alive_s=-2)
    assert found == [
        f"server: given 3, accepted a table [server] (from file {file})",
        f"modles: given an unknown section, accepted [models] was meant? (from file {file})",
        "GLASSAI_SERVER_PROT: given an unknown variable, accepted GLASSAI_SERVER_PORT was meant? (from environment)",
        (
            'logging.level: given \'info\', accepted "CRITICAL" or "DEBUG" or "ERROR" or "INFO" or "WARNING" '
            f"(from file {file})"
        ),
        f"logging.folder: given an unknown key, accepted models.folder was meant? (from file {file})",
        f"queue.rows_max: given 0, accepted a whole number at least 1 (from file {file})",
        (
            "server.port: given '70000', accepted a whole number at least 0 and at most 65535 "
            "(from environment GLASSAI_SERVER_PORT)"
        ),
        "server.keep_alive_s: given -2, accepted a whole number at least 1 (from command line)",
    ]


def test_a_key_that_moved_is_told_where_it_went(tmp_path: Path):
    file = toml(tmp_path, "[runtime]\nrunners = 2\n")
    assert problems(file) == [
        f"runtime.runners: given an unknown key, accepted scaling.runners_min was meant? (from file {file})"
    ]


def test_the_sentence_counts_the_problems():
    with pytest.raises(SettingsInvalid, match=r"The settings have 2 problems:\n  - .*\n  - "):
        load_settings(None, {"GLASSAI_A": "1", "GLASSAI_B": "2"}, {})


@pytest.mark.parametrize("given_value", ["inf", "nan", "-inf"])
def test_a_time_that_never_ends_is_refused(tmp_path: Path, given_value: str):
    file = toml(tmp_path, f"[server]\ndrain_limit_s = {given_value}\n")
    assert problems(file)[0].startswith(f"server.drain_limit_s: given {given_value}, accepted a number above 0")
    assert len(problems(None, {"GLASSAI_SERVER_DRAIN_LIMIT_S": given_value})) == 1


def test_settings_that_contradict_each_other_are_refused():
    found = problems(health__canary_interval_s=20.0)
    assert found == ["health.canary_max_age_s: given 15, accepted more than health.canary_interval_s (20)"]


def test_wrong_values_of_every_kind_are_refused(tmp_path: Path):
    file = toml(
        tmp_path,
        "[server]\nport = true\nhost = 1\n[models]\nversions = []\n[runtime]\nproviders = ['tpu']\nspinning = 1\n",
    )
    assert [problem.split(":")[0] for problem in problems(file)] == [
        "server.port",
        "server.host",
        "models.versions",
        "runtime.providers",
        "runtime.spinning",
    ]


def test_a_syntax_error_is_told_with_file_and_line(tmp_path: Path):
    file = toml(tmp_path, "[server]\nport = \n")
    (found,) = problems(file)
    assert found.startswith(f"{file}: is not TOML: ")
    assert "line 2" in found


def test_a_file_that_cannot_be_read_does_not_hide_the_other_problems(tmp_path: Path):
    missing = tmp_path / "none.toml"
    assert problems(missing, {"GLASSAI_X": ""})[0] == f"{missing}: cannot be read (No such file or directory)"
    assert len(problems(missing, {"GLASSAI_X": ""})) == 2
    (found,) = problems(None, {"GLASSAI_CONFIG": str(tmp_path)})
    assert found == f"{tmp_path} (named by GLASSAI_CONFIG): cannot be read (Is a directory)"


def test_bytes_that_are_no_settings_file_are_refused(tmp_path: Path):
    (tmp_path / "latin.toml").write_bytes(b"[server]\nhost = '\xff'\n")
    assert problems(tmp_path / "latin.toml") == [f"{tmp_path / 'latin.toml'}: is not UTF-8 text (byte 17)"]
    (tmp_path / "big.toml").write_bytes(b"#" * (FILE_BYTES_MAX + 1))
    assert "accepted at most 1048576" in problems(tmp_path / "big.toml")[0]
    deep = toml(tmp_path, "x = " + "[" * 5000)
    assert problems(deep)[0].startswith(f"{deep}: is not TOML")


STRANGE = st.text(max_size=12).filter(lambda key: key not in FIELDS)  # hypothesis knows the literals of this file


@given(st.dictionaries(STRANGE, st.one_of(st.text(max_size=8), st.integers(), st.none()), max_size=4))
def test_no_override_gets_past_the_check(overrides: dict[str, object]):
    unknown = {key: value for key, value in overrides.items() if value is not None}
    if unknown:
        with pytest.raises(SettingsInvalid) as caught:
            load_settings(None, {}, overrides)
        assert len(caught.value.problems) == len(unknown)
    else:
        assert load_settings(None, {}, overrides).settings == Settings()


def test_a_secret_is_never_shown():
    assert is_secret("database.password")
    assert is_secret("security.API_KEY")
    assert not is_secret("server.port")


def test_describe_shows_value_source_and_default_of_every_key():
    rows = {row.key: row for row in describe(load_settings(None, {"GLASSAI_RUNTIME_SPINNING": "1"}, {}))}
    assert list(rows) == list(FIELDS)
    spinning = rows["runtime.spinning"]
    assert (spinning.value, spinning.default, spinning.source) == (
        "true",
        "false",
        "environment GLASSAI_RUNTIME_SPINNING",
    )
    assert all(row.meaning.endswith(".") and row.accepted for row in rows.values())


def test_values_are_written_as_toml_reads_them():
    assert [written(v) for v in (True, 1, 1.5, 'a"b', ("a", "b"), [1])] == [
        "true",
        "1",
        "1.5",
        '"a\\"b"',
        '["a", "b"]',
        "[1]",
    ]


def test_every_key_says_what_it_takes_and_what_it_means():
    assert accepted(FIELDS["runtime.providers"]) == 'a list of at least one of ("cpu" or "cuda" or "tensorrt")'
    assert accepted(FIELDS["health.canary_interval_s"]) == "a number above 0"
    assert accepted(FIELDS["server.host"]) == "text"
    assert meaning(FIELDS["server.port"]) == "Port to listen on. 0 takes a free one."


def test_the_page_of_settings_is_up_to_date():
    assert (ROOT / "docs" / "settings.md").read_text() == reference(), "run `glassai config --reference`"
