from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest
import report_made_up as made_up

from drkit.errors import UsageError
from drkit.model.measurements import Findings
from drkit.report import FORMATS, Story, build, render


@pytest.fixture(scope="module")
def story() -> Story:
    made = made_up.drill()
    return build(made.rows, made.state, made.findings)


@pytest.fixture(scope="module")
def page(story: Story) -> str:
    return render(story, "html")


class Tags(HTMLParser):
    """Notes what opens and closes, and whatever could fetch something."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetches: list[str] = []
        self.count: dict[str, int] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.count[tag] = self.count.get(tag, 0) + 1
        if tag not in ("meta", "br", "link", "img"):
            self.open.append(tag)
        self.fetches += [
            f"{tag} {k}={v}" for k, v in attrs if k in ("src", "href", "xlink:href", "action", "onload") and v
        ]

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, (tag, self.open[-3:])
        self.open.pop()


def parsed(page: str) -> Tags:
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    return tags


def test_the_page_is_whole_and_needs_nothing_from_anywhere(page: str) -> None:
    tags = parsed(page)
    assert [fetch for fetch in tags.fetches if "#" not in fetch] == []
    assert not {"script", "link", "img", "iframe"} & tags.count.keys()
    assert tags.count["svg"] == 3
    urls = set(re.findall(r"https?://[^\s\"'<]+", page))
    assert urls <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "@import" not in page and "url(http" not in page
    assert len(page) < 400_000


def test_pictures_share_no_ids(page: str) -> None:
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"url\(#([^)]+)\)", page)) <= set(ids)


def test_the_verdict_comes_first_and_everything_asked_for_is_there(story: Story, page: str) -> None:
    wanted = [
        "OBJECTIVES MET", "Recovery time", "Data-loss window", "What users saw", "What was lost", "canary:", "Timeline",
        "How the time was spent", "<h2>Steps</h2>", "Who approved what", "unix socket peer, uid 1000",
        "What was broken, and healed", "Shortened or changed", "Simulated", "no router takes part", "Evidence",
        story.report.evidence.journal_head,
    ]  # fmt: skip
    places = [
        page.index(text) for text in [*wanted[:1], "<h2>What users saw</h2>", "<h2>Steps</h2>", "<h2>Evidence</h2>"]
    ]
    assert places == sorted(places)
    assert [text for text in wanted if text not in page] == []
    for step in story.steps:
        assert f"<code>{step.id}</code>" in page


def test_a_drill_is_marked_as_one_and_a_real_run_too(page: str) -> None:
    assert '<span class="badge drill">Drill</span>' in page
    made = made_up.drill()
    opened = made.rows[0].fact
    made.state.drill = False
    made.state.kind = "failover"
    real = render(build(made.rows, made.state, made.findings), "html")
    assert opened is not None and '<span class="badge real">Real failover</span>' in real


def test_what_people_wrote_is_text_and_never_markup() -> None:
    evil = "<script>alert(1)</script>"
    steps = [(*step[:1], evil, *step[2:]) if step[0] == "fence" else step for step in made_up.STEPS]
    made = made_up.drill(steps, hypothesis=evil, runbook=evil)
    told = build(made.rows, made.state, made.findings)
    assert "<script>" not in render(told, "html")
    assert "&lt;script&gt;" in render(told, "html")
    assert "<script>" not in render(told, "md")


def test_the_gantt_marks_the_critical_path_and_has_a_row_for_every_step(story: Story, page: str) -> None:
    gantt = page[page.index("time since users first saw errors") :]
    labels = set(re.findall(r">(?:\d+\s+)?([\w:.-]+)</text>", page))
    assert {step.id for step in story.steps} <= labels
    assert "critical path" in gantt and "#d9600f" in page.lower()


def test_the_users_chart_tells_who_served_them(page: str) -> None:
    assert "served by us-east-1" in page and "served by us-west-2" in page and ">failed<" in page


def test_without_readings_the_page_says_so_and_draws_only_the_steps() -> None:
    made = made_up.drill(alter=lambda _: Findings())
    page = render(build(made.rows, made.state, made.findings), "html")
    tags = parsed(page)
    assert tags.count["svg"] == 1
    assert "RECOVERY UNPROVEN" in page and "not measured" in page and "the run names no readings" in page


@pytest.mark.parametrize("gone", ["altair", "vl_convert"])
def test_without_the_chart_libraries_the_page_says_which_extra_to_install(
    story: Story, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    monkeypatch.setitem(sys.modules, gone, None)
    page = render(story, "html")
    parsed(page)
    assert "<svg" not in page and "pip install &#39;drkit[report]&#39;" in page
    assert "OBJECTIVES MET" in page


def test_without_any_of_the_extra_there_is_still_a_page_and_everything_else(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("altair", "vl_convert", "jinja2", "markupsafe"):
        monkeypatch.setitem(sys.modules, name, None)
    texts = {name: render(story, name) for name in FORMATS}
    assert "pip install 'drkit[report]'" in texts["html"]
    assert all("OBJECTIVES MET" in texts[name] for name in ("html", "md"))


def test_markdown_tells_the_same(story: Story) -> None:
    text = render(story, "md")
    assert text.startswith("# Drill k7qd: OBJECTIVES MET\n")
    for wanted in ("15.8 s", "| Recovery time |", "`canary:", "assess → declare → fence", "| 2026-", story.plan_hash):
        assert wanted in text
    for line in text.splitlines():
        if line.startswith("|"):
            assert line.count("|") - line.count("\\|") in (3, 5, 6, 7, 8), line


def test_junit_has_a_case_for_each_step_and_objective_and_fails_what_was_missed() -> None:
    def cases(**how: Any) -> ElementTree.Element:
        made = made_up.drill(**how)
        return ElementTree.fromstring(render(build(made.rows, made.state, made.findings), "junit"))

    good = cases()
    assert len(good.findall(".//testcase")) == len(made_up.STEPS) + 2
    assert good.findall(".//failure") == good.findall(".//error") == []
    missed = cases(rto_s=1.0)
    assert [c.get("name") for c in missed.findall(".//testcase[failure]")] == ["recovery time"]
    unmeasured = cases(alter=lambda _: Findings())
    assert len(unmeasured.findall(".//testcase[error]")) == 2
    stopped = cases(stop_at="fence", finish=False)
    assert [c.get("name") for c in stopped.findall(".//testsuite[@name='reliabletech']/testcase[failure]")] == [
        "5 fence"
    ]
    for suite in good.findall("testsuite"):
        assert suite.get("tests") == str(len(suite.findall("testcase")))


def test_prometheus_has_samples_for_what_was_measured_and_only_for_that(story: Story) -> None:
    def samples(text: str) -> dict[str, float]:
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        for line in lines:
            assert re.fullmatch(r'drkit_\w+\{(\w+="[^"]*",?)+\} [0-9.e+-]+', line), line
        return {line.split("{")[0]: float(line.rsplit(" ", 1)[1]) for line in lines}

    found = samples(render(story, "prom"))
    assert found["drkit_recovery_time_seconds"] == pytest.approx(15.8, abs=0.11)
    assert (found["drkit_lost_writes"], found["drkit_objectives_met"], found["drkit_simulated_steps"]) == (7, 1, 1)
    made = made_up.drill(alter=lambda _: Findings())
    bare = samples(render(build(made.rows, made.state, made.findings), "prom"))
    assert not {"drkit_recovery_time_seconds", "drkit_lost_writes", "drkit_objectives_met"} & bare.keys()


def test_an_unknown_format_is_refused(story: Story) -> None:
    with pytest.raises(UsageError, match='no report format "pdf"'):
        render(story, "pdf")


def test_the_same_story_renders_to_the_same_bytes(story: Story, page: str) -> None:
    assert render(story, "html") == page
