"""The report as one HTML file that needs nothing else: no script, no network, light, printable, readable on a phone."""

from __future__ import annotations

import re
from html import escape
from typing import Any

from drkit.report import charts, wording
from drkit.report.markdown import as_markdown
from drkit.report.story import Story

_PHASES = ("detect", "decide", "execute", "converge")


def as_html(story: Story) -> str:
    """The page. Without the extra `report` it is plainer and says which extra to install."""
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError:
        return _plain(story)
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("drkit.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {
        "seconds": wording.seconds, "took": wording.took, "clock": wording.clock, "day": wording.day,
        "value": wording.value, "count": wording.count, "together": _together, "instant": wording.instant,
        "kept": wording.kept,
    }  # fmt: skip
    no_charts = charts.missing()
    drawn: dict[str, Markup | None] = dict.fromkeys(("gantt", "users", "writes"))
    if no_charts is None:
        for name in drawn:
            svg = getattr(charts, name)(story)
            drawn[name] = Markup(svg) if svg else None
    return environment.get_template("page.html.j2").render(
        story=story, report=story.report, charts=drawn, no_charts=no_charts, phases=_phases(story), bars=_bars(story)
    )


def _together(text: str) -> str:
    """Numbers are not parted from their units at the end of a line."""
    return re.sub(r"(?<=\d) (?=(ms|s|m|h|%)\b)", "\u00a0", text)


def _phases(story: Story) -> list[dict[str, Any]]:
    """The recovery time's parts, with their share of it in percent; empty where one was not measured."""
    split = story.report.recovery_time.phases.model_dump()
    whole = sum(value for value in split.values() if value is not None)
    if whole <= 0 or None in split.values():
        return []
    return [{"name": name, "seconds": split[name], "share": 100 * split[name] / whole} for name in _PHASES]


def _bars(story: Story) -> dict[str, float | None]:
    """Measurement against objective, as percent of the larger of the two: what the bars in the tiles show."""
    recovery, loss = story.report.recovery_time, story.report.data_loss
    pairs = {
        "recovery": (recovery.seconds, recovery.objective_seconds),
        "loss": (loss.window_seconds, loss.objective_seconds),
    }
    shares: dict[str, float | None] = {}
    for name, (measured, objective) in pairs.items():
        known = measured is not None and objective is not None and max(measured, objective) > 0
        largest = max(measured or 0.0, objective or 0.0)
        shares[name] = 100 * (measured or 0.0) / largest if known else None
        shares[f"{name}_objective"] = 100 * (objective or 0.0) / largest if known else None
    return shares


def _plain(story: Story) -> str:
    title = escape(f"{story.report.run}: {story.verdict.word}")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{title}</title><body><p>This is the plain form of the report. For the full page with charts: "
        f"<code>pip install 'drkit[report]'</code></p><pre style=\"white-space:pre-wrap\">{escape(as_markdown(story))}"
        f"</pre></body></html>\n"
    )
