"""`drkit`: the root command. Parses global options, hands over to one small file per group, prints errors once."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from drkit.cli import commands, failing
from drkit.cli.say import Output
from drkit.cli.settings import Settings, duration, hoist
from drkit.errors import DrkitError, Exit, UsageError

EXAMPLES = """
Is it really down?       drkit assess --region us-west-2 --env production
Move the service there:  drkit failover --region us-west-2 --env production
Where does it stand?     drkit status --watch
Try it, for real, here:  drkit drill run region-loss --env sandbox
"""
EPILOG = (
    "Global options may stand anywhere on the line. Manual, without a network: drkit help.\n\n"
    "Exit codes: 0 done, objectives met; 1 failed, paused; 2 usage; 3 refused; 4 objectives missed; 5 waiting for a "
    "person; 6 rolled back; 7 locked; 8 outcome unknown; 10 changes pending. 2, 3, 7, 10: nothing was touched."
)


class Grouped(TyperGroup):
    """The root command; its help lists commands by what one wants to do. Plain text: help must come at once."""

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """What drkit is, and examples first."""
        super().format_help_text(ctx, formatter)
        with formatter.section("Examples"):
            for line in EXAMPLES.strip().splitlines():
                formatter.write(f"  {line}\n")

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """A section per panel, in the order in which the groups were registered."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for name in self.commands:
            command = self.commands[name]
            if not command.hidden:
                panel = str(getattr(command, "rich_help_panel", None) or "Commands")
                panels.setdefault(panel, []).append((name, command.get_short_help_str(formatter.width - 22)))
        for panel, rows in panels.items():
            with formatter.section(panel):
                formatter.write_dl(rows)


app = typer.Typer(
    name="drkit",
    cls=Grouped,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from drkit import __version__

        sys.stdout.write(f"drkit {__version__}\n")
        raise typer.Exit


@app.callback()
def root(
    ctx: typer.Context,
    output: Annotated[Output, typer.Option("--output", "-o", envvar="DRKIT_OUTPUT", help="Form of the result.")] = (
        "text"
    ),
    query: Annotated[
        str | None, typer.Option(metavar="JMESPATH", envvar="DRKIT_QUERY", help="Part of the JSON result.")
    ] = None,
    plain: Annotated[bool, typer.Option("--plain", envvar="DRKIT_PLAIN", help="One line per event, no redraw.")] = (
        False
    ),
    no_color: Annotated[bool, typer.Option("--no-color", envvar="DRKIT_NO_COLOR", help="No colour.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", envvar="DRKIT_QUIET", help="Only results and errors.")] = (
        False
    ),
    verbose: Annotated[int, typer.Option("--verbose", "-v", count=True, help="More; -vv shows tracebacks.")] = 0,
    no_input: Annotated[bool, typer.Option("--no-input", envvar="DRKIT_NO_INPUT", help="Never ask; fail instead.")] = (
        False
    ),
    directory: Annotated[
        Path | None,
        typer.Option("--directory", "-C", metavar="DIR", envvar="DRKIT_DIRECTORY", help="Work as if started there."),
    ] = None,
    env: Annotated[
        str | None, typer.Option("--env", metavar="NAME", envvar="DRKIT_ENV", help="Environment; never guessed.")
    ] = None,
    state: Annotated[
        str | None,
        typer.Option("--state", metavar="URL", envvar="DRKIT_STATE", help="State store, instead of the environment's."),
    ] = None,
    timeout: Annotated[
        str | None,
        typer.Option("--timeout", metavar="DUR", envvar="DRKIT_TIMEOUT", help="Longest wait of this command."),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version.")
    ] = False,
) -> None:
    """Disaster recovery as one command, rehearsed until nobody doubts it."""
    settings: Settings = ctx.obj
    settings.output, settings.query, settings.plain = output, query, plain
    settings.color = not (no_color or os.environ.get("NO_COLOR"))
    settings.verbosity = -1 if quiet else verbose
    settings.ask = not no_input
    settings.env, settings.state = env, state
    if directory is not None:
        if not directory.is_dir():
            raise UsageError(f"-C {directory}: there is no such folder")
        os.chdir(directory)
        settings.folder = Path.cwd()
    if timeout is not None:
        settings.timeout_s = duration(timeout, "--timeout")


commands.register(app)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; the exit code."""
    settings = Settings()
    words = hoist(sys.argv[1:] if argv is None else argv) or ["--help"]
    try:
        code = app(words, prog_name="drkit", standalone_mode=False, obj=settings)
    except DrkitError as error:
        return failing.show(error, settings)
    except KeyboardInterrupt:
        return int(Exit.SIGINT)
    except typer.Abort:
        return int(Exit.SIGINT)
    except BrokenPipeError:
        # Whoever read our output went away; what was being done goes on elsewhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(Exit.DONE)
    except Exception as error:  # noqa: BLE001 - the last resort: said once, with where the traceback went
        if hasattr(error, "format_message") and hasattr(error, "exit_code"):  # typer's own: the line did not parse
            return failing.usage(error, settings)
        return failing.unexpected(error, settings)
    return code if isinstance(code, int) else 0
