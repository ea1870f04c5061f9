"""A story in the format asked for. JSON, Markdown, JUnit and Prometheus need nothing but drkit."""

from __future__ import annotations

from collections.abc import Callable

from drkit.errors import UsageError
from drkit.report.machine import as_json, as_junit, as_prom
from drkit.report.markdown import as_markdown
from drkit.report.page import as_html
from drkit.report.story import Story

FORMATS: dict[str, Callable[[Story], str]] = {
    "json": as_json,
    "md": as_markdown,
    "html": as_html,
    "junit": as_junit,
    "prom": as_prom,
}
"""Formats by the name that `--format` takes; also what the file is called: `report.NAME`, JUnit as `.xml`."""


def render(story: Story, format: str) -> str:
    """The report as text. UsageError for a format that does not exist."""
    if format not in FORMATS:
        raise UsageError(f'there is no report format "{format}"', hint=f"--format {'|'.join(FORMATS)}")
    return FORMATS[format](story)
