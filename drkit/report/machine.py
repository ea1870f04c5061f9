"""The report for machines: JSON (the contract), JUnit for CI, Prometheus text for dashboards."""

from __future__ import annotations

import json
from collections.abc import Mapping
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from drkit.report.contract import DataLoss, RecoveryTime, ReportStep
from drkit.report.story import Story
from drkit.report.wording import instant


def as_json(story: Story) -> str:
    """`drkit.report/1`, every key present."""
    return json.dumps(story.report.model_dump(mode="json", by_alias=True), indent=1, ensure_ascii=False) + "\n"


def as_junit(story: Story) -> str:
    """A test case for each step and one for each objective; unmeasured objectives are errors, not passes."""
    report = story.report
    suites = Element("testsuites", name=f"drkit {report.kind} {report.run}")
    judged: dict[str, RecoveryTime | DataLoss] = {
        "recovery time": report.recovery_time,
        "data loss": report.data_loss,
    }
    suite = SubElement(suites, "testsuite", name="objectives", tests=str(len(judged)))
    for name, part in judged.items():
        case = SubElement(suite, "testcase", classname="objectives", name=name)
        if part.met is False:
            SubElement(case, "failure", message=f"{name} misses its objective: {report.summary}")
        elif part.met is None:
            SubElement(case, "error", message=part.reason or "; ".join(report.not_measured) or "no objective is set")
    suite.set("failures", str(len(suite.findall("./testcase/failure"))))
    suite.set("errors", str(len(suite.findall("./testcase/error"))))
    steps = SubElement(suites, "testsuite", name=report.runbook.name, tests=str(len(report.steps)))
    for step in report.steps:
        _case(steps, step)
    for kind in ("failure", "error", "skipped"):
        steps.set({"failure": "failures", "error": "errors"}.get(kind, kind), str(len(steps.findall(f"*/{kind}"))))
    indent(suites)
    return tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _case(suite: Element, step: ReportStep) -> None:
    case = SubElement(
        suite, "testcase", classname=step.part, name=step.id if step.number is None else f"{step.number} {step.id}"
    )
    if step.seconds is not None:
        case.set("time", f"{step.seconds:.3f}")
    if step.status == "failed":
        SubElement(case, "failure", message=step.why or "failed")
    elif step.status == "uncertain":
        SubElement(case, "error", message=step.why or "outcome unknown")
    elif step.status != "done":
        SubElement(case, "skipped", message=step.why or step.status)


def as_prom(story: Story) -> str:
    """Gauges in the text exposition format. What was not measured has no sample."""
    report = story.report
    labels = _labels({"environment": report.environment, "runbook": report.runbook.name, "kind": report.kind})
    recovery, loss = report.recovery_time, report.data_loss
    met = {"met": 1.0, "missed": 0.0}.get(report.verdict)
    gauges: list[tuple[str, str, float | None]] = [
        ("drkit_recovery_time_seconds", "From users' first error to service", recovery.seconds),
        ("drkit_recovery_time_objective_seconds", "RTO", recovery.objective_seconds),
        ("drkit_data_loss_window_seconds", "Time whose acknowledged writes are lost", loss.window_seconds),
        ("drkit_data_loss_objective_seconds", "RPO", loss.objective_seconds),
        ("drkit_lost_writes", "Acknowledged writes that are missing", loss.lost),
        ("drkit_failed_probes", "Users' journeys that failed", recovery.failed_probes),
        ("drkit_makespan_seconds", "First step's start to last step's end", report.makespan_seconds),
        ("drkit_critical_path_seconds", "Longest chain of dependent steps", report.critical_path_seconds),
        ("drkit_simulated_steps", "Steps with nothing real behind them", float(report.simulated_steps)),
        ("drkit_fence_overrides", "Fences passed unobserved", float(len(report.fence_overrides))),
        ("drkit_objectives_met", "1 if both objectives were measured and met", met),
        ("drkit_run_finished_timestamp_seconds", "When the run ended",
         None if report.finished_at is None else instant(report.finished_at)),
    ]  # fmt: skip
    lines: list[str] = []
    for name, says, figure in gauges:
        lines += [f"# HELP {name} {says}.", f"# TYPE {name} gauge"]
        if figure is not None:
            lines.append(f"{name}{{{labels}}} {figure:.10g}")
    return "\n".join(lines) + "\n"


def _labels(values: Mapping[str, str]) -> str:
    escaped = {k: v.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") for k, v in values.items()}
    return ",".join(f'{name}="{value}"' for name, value in escaped.items())
