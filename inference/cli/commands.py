"""The commands of `glassai` beside `serve`: what is configured, which models are there, and whether they are sound."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from inference.cli.bench_command import bench
from inference.settings import Settings
from inference.start_errors import StartError, counted
from inference.version import VERSION

EXIT_PROBLEMS = 1
EXIT_CANNOT_START = 2

app = typer.Typer(
    help="Glass AI Inference: live predictions from a folder of ONNX models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # its tracebacks show local variables
    rich_markup_mode=None,
)
models_app = typer.Typer(help="The models folder: what is there, and whether it is sound.", no_args_is_help=True)
app.add_typer(models_app, name="models")
app.command("bench")(bench)

ConfigFile = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="Settings file (TOML).")]
ModelsFolder = Annotated[
    str | None, typer.Option("--models", metavar="DIR", help="Models folder (default: the setting models.folder).")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def run(argv: Sequence[str]) -> int:
    """Run a command and leave with its exit status; 2 if it could not start."""
    try:
        app(args=list(argv), prog_name="glassai")
    except StartError as error:
        typer.echo(f"glassai: {error}", err=True)
        return EXIT_CANNOT_START
    return 0


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
def serve(context: typer.Context) -> None:
    """Serve live predictions over HTTP (`glassai serve --help` lists its options)."""
    from inference.streaming_predictor import main

    raise typer.Exit(main(context.args, prog="glassai serve"))


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(VERSION)


@app.command()
def config(
    config: ConfigFile = None,
    as_json: AsJson = False,
    reference: Annotated[bool, typer.Option("--reference", help="Print the page that describes every key.")] = False,
) -> None:
    """Print the effective settings, and where each came from."""
    from inference.settings_source import describe, load_settings
    from inference.settings_source import reference as settings_page

    if reference:
        typer.echo(settings_page(), nl=False)
        return
    rows = describe(load_settings(config, os.environ, {}))
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(rows)))
    else:
        typer.echo(table(("setting", "value", "from"), [(row.key, row.value, row.source) for row in rows]))


@models_app.command("list")
def list_models(models: ModelsFolder = None, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """List every version in the models folder; a star marks those that the settings load."""
    from inference.cli.model_commands import listed

    found = listed(settings_of(models, config))
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(found)))
        return
    rows = [
        (
            f"{'*' if one.loaded else ' '} {one.model}",
            str(one.version),
            one.task,
            f"{counted(one.problems)}, see `glassai models check`" if one.problems else one.title,
        )
        for one in found
    ]
    typer.echo(table(("  model", "version", "task", "title"), rows) if rows else "The models folder holds no models.")


@models_app.command("show")
def show_model(
    name: Annotated[str, typer.Argument(help="Name of the model, or NAME/VERSION.")],
    models: ModelsFolder = None,
    config: ConfigFile = None,
) -> None:
    """Show what one model declares, takes and answers, and how it runs on this machine."""
    from inference.cli.model_commands import shown

    model, _, version = name.partition("/")
    if version and not version.isdecimal():
        raise typer.BadParameter(f"given {name!r}, accepted NAME or NAME/VERSION with a number", param_hint="NAME")
    typer.echo(shown(settings_of(models, config), model, int(version) if version else None))


@models_app.command("check")
def check_models(models: ModelsFolder = None, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Load every model as the server does, and print everything that is wrong. Exit status 1 if anything is."""
    from inference.cli.model_commands import Checked, checked

    found: list[Checked] = []
    for one in checked(settings_of(models, config)):
        found.append(one)
        if not as_json:
            lines = one.problems or one.facts
            typer.echo("\n  - ".join([f"{'FAILED' if one.problems else 'ok'}  {one.model}", *lines]))
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(found)))
    elif not found:
        typer.echo("The models folder holds no models.")
    if any(one.problems for one in found):
        raise typer.Exit(EXIT_PROBLEMS)


def settings_of(models: str | None, config: Path | None) -> Settings:
    """The effective settings with this models folder. Raises SettingsInvalid."""
    from inference.settings_source import load_settings

    return load_settings(config, os.environ, {"models.folder": models}).settings


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of text, as wide as their longest cell; the last one runs on."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header) - 1)]
    cells = ((*(cell.ljust(width) for cell, width in zip(line[:-1], widths, strict=True)), line[-1]) for line in lines)
    return "\n".join("  ".join(line).rstrip() for line in cells)
