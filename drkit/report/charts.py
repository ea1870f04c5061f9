"""Pictures of a run as static SVG: the Gantt, what users got, and which writes were lost.

Altair and vl-convert (extra `report`) are imported when a picture is drawn. Nothing is fetched: fonts are the reader's,
and no script is left in the SVG.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from drkit.model.measurements import Journey
from drkit.report.story import Story

_INK, _MUTED, _GRID = "#1d2733", "#5b6875", "#e6eaee"
_STEP, _CRITICAL, _BAD, _IDLE, _AROUND = "#8fa8c4", "#d9600f", "#c0262d", "#c9d1d9", "#b9a5d6"
_SITES = ("#2f5d8a", "#3c9d6d", "#8a6d3b")
_FONT = "Inter, 'Segoe UI', Roboto, 'Helvetica Neue', 'DejaVu Sans', Arial, sans-serif"
_ROW_PX, _WIDTH_PX = 17, 780
_AROUND_LOSS_S = 2.0
#: More bars than this are too thin to see.
_BINS_MAX = 120
_BINS_S = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)


def missing() -> str | None:
    """Why no picture can be drawn here; None if it can."""
    try:
        import altair
        import vl_convert
    except ImportError as error:
        return f"{error.name} is not installed: pip install 'drkit[report]'"
    del altair, vl_convert
    return None


def zero(story: Story) -> tuple[float, str]:
    """Where the charts' time begins, and what that instant is called."""
    recovery = story.findings.recovery
    if recovery is not None and recovery.outage_started_at is not None:
        from drkit.report.wording import instant

        return instant(recovery.outage_started_at), "time since users first saw errors"
    return story.began_s, "time since the run was opened"


def gantt(story: Story) -> str | None:
    """Every step that ran, in the plan's order, the critical path marked; None if nothing ran."""
    import altair as alt

    origin, called = zero(story)
    rows: list[dict[str, Any]] = [
        {
            "step": f"{step.number}  {step.id}" if step.number is not None else step.id,
            "start": step.started_s - origin,
            "end": (step.started_s if step.finished_s is None else step.finished_s) - origin,
            "what": _kind(step.status, step.critical, step.part, step.simulated),
        }
        for step in story.steps
        if step.started_s is not None
    ]
    if not rows:
        return None
    low, high = min(0.0, *(row["start"] for row in rows)), max(row["end"] for row in rows)
    colours = {
        "critical path": _CRITICAL, "other step": _STEP, "simulated": _IDLE, "failed or unknown": _BAD,
        "scenario": _AROUND,
    }  # fmt: skip
    present = [what for what in colours if any(row["what"] == what for row in rows)]
    time = _axis(alt, called, low, high)
    bars = (
        alt.Chart(alt.Data(values=rows))
        .mark_bar(height=_ROW_PX - 6, cornerRadius=1.5, stroke=None)
        .encode(
            x=alt.X("start:Q", axis=time, scale=alt.Scale(domain=[low, high], nice=False)),
            x2="end:Q",
            y=_steps_axis(alt, rows),
            color=alt.Color(
                "what:N",
                scale=alt.Scale(domain=present, range=[colours[what] for what in present]),
                legend=alt.Legend(title=None, orient="top", direction="horizontal"),
            ),
        )
    )
    # Steps shorter than a pixel are steps too.
    ticks = (
        alt.Chart(alt.Data(values=rows))
        .mark_tick(thickness=2, size=_ROW_PX - 6)
        .encode(x="start:Q", y=_steps_axis(alt, rows), color=alt.Color("what:N", legend=None))
    )
    layers = [*_recovered(alt, story, origin), bars, ticks]
    return _svg("gantt", alt.layer(*layers).properties(width=_WIDTH_PX, height=_ROW_PX * len(rows)))


def users(story: Story) -> str | None:
    """Journeys over time: who served them, and those that failed. None if there are no readings."""
    import altair as alt

    journeys = story.findings.journeys
    if not journeys:
        return None
    origin, called = _origin_t(journeys, story)
    bin_s = _bin(journeys[-1].sent_t - journeys[0].sent_t)
    # Half an interval later, so that journeys sent on an edge all fall on the same side of it.
    half_s = story.findings.recovery.probe_interval_s / 2 if story.findings.recovery is not None else 0.0
    bins = Counter((int((j.sent_t - origin + half_s) // bin_s), _served(j)) for j in journeys)
    values: list[dict[str, Any]] = [
        {"from": number * bin_s, "to": (number + 1) * bin_s, "what": what, "journeys": count}
        for (number, what), count in sorted(bins.items())
    ]
    low, high = min(value["from"] for value in values), max(value["to"] for value in values)
    sites = sorted({what for _, what in bins if what != "failed"}, key=_site_order(story))
    domain = [*sites, "failed"]
    chart = (
        alt.Chart(alt.Data(values=values))
        .mark_bar(stroke="white", strokeWidth=0.4)
        .encode(
            x=_binned(alt, called, low, high),
            x2="to:Q",
            y=alt.Y("journeys:Q", stack="zero", title=f"journeys per {bin_s:g} s", axis=alt.Axis(tickCount=5)),
            color=alt.Color(
                "what:N",
                scale=alt.Scale(domain=domain, range=[*_SITES[: len(sites)], _BAD]),
                legend=alt.Legend(title=None, orient="top", direction="horizontal"),
            ),
            order=alt.Order("what:N"),
        )
    )
    layers = [chart, *_recovered(alt, story, None)]
    return _svg("users", alt.layer(*layers).properties(width=_WIDTH_PX, height=190))


def writes(story: Story) -> str | None:
    """Acknowledged writes around the loss, survived and lost; None if the ledgers were not compared."""
    import altair as alt

    points, recovery = story.findings.writes, story.findings.recovery
    lost = [point.t for point in points if point.lost]
    if not points or recovery is None or recovery.outage_started_t is None:
        return None
    centre = lost or [recovery.outage_started_t]
    near = [point for point in points if min(centre) - _AROUND_LOSS_S <= point.t <= max(centre) + _AROUND_LOSS_S]
    if not near:
        return None
    width_s = min((b.t - a.t for a, b in pairwise(points)), default=0.1)
    values: list[dict[str, Any]] = [
        {"from": p.t - recovery.outage_started_t, "to": p.t - recovery.outage_started_t + width_s, "what": w, "n": n}
        for p in near
        for w, n in (("survived", p.survived), ("lost", p.lost))
        if n
    ]
    low, high = min(value["from"] for value in values), max(0.0, *(value["to"] for value in values))
    called = "time since users first saw errors"
    bars = (
        alt.Chart(alt.Data(values=values))
        .mark_bar(stroke="white", strokeWidth=0.4)
        .encode(
            x=_binned(alt, called, low, high),
            x2="to:Q",
            y=alt.Y("n:Q", stack="zero", title=f"writes per {round(width_s, 3):g} s", axis=alt.Axis(tickCount=4)),
            color=alt.Color(
                "what:N",
                scale=alt.Scale(domain=["survived", "lost"], range=[_SITES[0], _BAD]),
                legend=alt.Legend(title=None, orient="top", direction="horizontal"),
            ),
        )
    )
    return _svg("writes", bars.properties(width=_WIDTH_PX, height=150))


def _kind(status: str, critical: bool, part: str, simulated: str | None) -> str:
    if status in ("failed", "uncertain"):
        return "failed or unknown"
    if part != "runbook":
        return "scenario"
    if critical:
        return "critical path"
    return "simulated" if simulated is not None else "other step"


def _served(journey: Journey) -> str:
    if not journey.ok:
        return "failed"
    return f"served by {journey.served_by}" if journey.served_by else "served"


def _site_order(story: Story) -> Any:
    known = [f"served by {story.report.source}", f"served by {story.report.target}"]
    return lambda what: (known.index(what) if what in known else len(known), what)


def _origin_t(journeys: Sequence[Journey], story: Story) -> tuple[float, str]:
    recovery = story.findings.recovery
    if recovery is not None and recovery.outage_started_t is not None:
        return recovery.outage_started_t, "time since users first saw errors"
    return journeys[0].sent_t, "time since the readings begin"


def _bin(span_s: float) -> float:
    return next((size for size in _BINS_S if span_s / size <= _BINS_MAX), _BINS_S[-1])


def _axis(alt: Any, title: str, low: float, high: float) -> Any:
    """Time on the horizontal axis: seconds, then minutes, then hours, as the span wants."""
    span = high - low
    sign, size = "(datum.value < 0 ? '−' : '')", "abs(datum.value)"
    if span <= 120:
        label = f"{sign} + format({size}, '~g') + ' s'"
    elif span <= 7200:
        label = f"{sign} + floor({size}/60) + ':' + format(floor({size})%60, '02')"
    else:
        label = f"{sign} + floor({size}/3600) + ':' + format(floor({size}/60)%60, '02') + ' h'"
    steps = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)
    step = next((s for s in steps if span / s <= 14), 14400)
    first = int(low // step) * step
    values = [v for v in range(first, int(high) + step, step) if low <= v <= high]
    return alt.Axis(title=title, values=values, labelExpr=label, grid=True)


def _binned(alt: Any, title: str, low: float, high: float) -> Any:
    """Time in bins that are made already."""
    axis, scale = _axis(alt, title, low, high), alt.Scale(domain=[low, high], nice=False)
    return alt.X("from:Q", bin="binned", axis=axis, scale=scale)


def _steps_axis(alt: Any, rows: Sequence[Any]) -> Any:
    order = [row["step"] for row in rows]
    return alt.Y("step:N", sort=order, title=None, axis=alt.Axis(labelLimit=220, ticks=False, domain=False, grid=False))


def _recovered(alt: Any, story: Story, origin: float | None) -> list[Any]:
    """The error window as users saw it, behind or before everything else."""
    recovery = story.findings.recovery
    if recovery is None or recovery.outage_started_t is None or recovery.recovered_t is None:
        return []
    values = [{"from": 0.0, "to": recovery.recovered_t - recovery.outage_started_t}]
    data = alt.Data(values=values)
    marks = [
        alt.Chart(data).mark_rule(color=_BAD, strokeDash=[4, 3], strokeWidth=1.2).encode(x="from:Q"),
        alt.Chart(data).mark_rule(color="#2b8a57", strokeDash=[4, 3], strokeWidth=1.2).encode(x="to:Q"),
    ]
    if origin is not None:
        marks.insert(0, alt.Chart(data).mark_rect(color=_BAD, opacity=0.06).encode(x="from:Q", x2="to:Q"))
    return marks


def _svg(name: str, chart: Any) -> str:
    """The chart as SVG that scales with the page and shares no ids with its neighbours."""
    styled = (
        chart.configure(font=_FONT, background="transparent")
        .configure_view(stroke=None)
        .configure_axis(
            labelColor=_INK, titleColor=_MUTED, gridColor=_GRID, domainColor=_GRID, tickColor=_GRID, labelFontSize=11,
            titleFontSize=11, titleFontWeight="normal",
        )
        .configure_legend(labelColor=_INK, labelFontSize=12, symbolType="square", symbolSize=90)
    )  # fmt: skip
    text = io.StringIO()
    styled.save(text, format="svg")
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'\b(id="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    return re.sub(r'^<svg([^>]*?) width="[^"]*" height="[^"]*"', r"<svg\1", svg, count=1)
