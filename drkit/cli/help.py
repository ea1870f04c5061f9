"""`drkit help`: the manual, offline. Pages are Markdown files shipped beside this module."""

from __future__ import annotations

from typing import Annotated

import typer

from drkit.cli.settings import Settings
from drkit.errors import UsageError


def register(app: typer.Typer) -> None:
    """Put `help` on `app`."""
    app.command("help", rich_help_panel="Author and learn")(show)


def show(
    ctx: typer.Context,
    topic: Annotated[str | None, typer.Argument(help="A topic; left out: the list of topics.")] = None,
) -> None:
    """A page of the manual, without a network: `drkit help failover`."""
    from importlib.resources import files

    settings: Settings = ctx.obj
    folder = files("drkit.cli") / "help"
    pages = {page.name.removesuffix(".md"): page for page in folder.iterdir() if page.name.endswith(".md")}
    if topic is None:
        titles = [
            (name, pages[name].read_text(encoding="utf-8").splitlines()[0].lstrip("# ")) for name in sorted(pages)
        ]
        settings.say.result(
            [{"topic": name, "title": title} for name, title in titles],
            lambda: settings.say.table(("topic", "what it tells"), titles),
        )
        settings.say.next("drkit help TOPIC", "drkit COMMAND --help")
        return
    if topic not in pages:
        from drkit.cli.closest import meant

        raise UsageError(f'there is no help topic "{topic}"{meant(topic, pages)}', hint="drkit help")
    text = pages[topic].read_text(encoding="utf-8")
    settings.say.result({"topic": topic, "markdown": text}, lambda: _render(settings, text))


def _render(settings: Settings, text: str) -> None:
    from rich.markdown import Markdown

    console = settings.say.console()
    # A pipe gets the page as it was written: it is readable as it is, and greppable.
    console.print(Markdown(text) if console.is_terminal else text)
