"""From readings files to findings: attach a run to the current readings, and evaluate the ones that it journaled."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from drkit.errors import JournalError
from drkit.measure import ledgers, readings
from drkit.measure.journeys import journeys
from drkit.measure.loss import Coverage, loss, loss_over_time
from drkit.measure.readings import Readings, boottime
from drkit.measure.recovery import Terms, phases, recovery
from drkit.model.environment import Environment
from drkit.model.events import Answered, Began, Done, Measured, Opened, Ordered, Prepared, Row
from drkit.model.measurements import Attached, Findings, Journey, Loss, ReadingsRef, Recovery, Write
from drkit.model.plan import Plan

#: A prober that has written nothing for this long is dead or frozen.
_STALE_S = 5.0
#: What a chart shows before the outage and after the recovery.
_MARGIN_S = 10.0


@dataclass(frozen=True, slots=True)
class Instants:
    """What happened when in a run, on its clock; None: it did not happen, or was not observed."""

    opened_t: float
    decided_t: float | None
    fenced_t: float | None
    changes_t: tuple[float, ...]
    """When each change was seen to be done."""


def attach(environment: Environment) -> Attached:
    """The readings files being written now, as they are now. Reads and verifies them: call it in a thread."""
    if environment.prober is None:
        return Attached(reasons=("the environment has no prober",))
    folder = Path(environment.prober.folder)
    try:
        current = json.loads((folder / "current.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Attached(reasons=(f"no prober has run: {folder / 'current.json'} is not there",))
    found: dict[str, ReadingsRef] = {}
    reasons: list[str] = []
    for kind, path in current["files"].items():
        try:
            read = readings.read(Path(path))
        except JournalError as error:
            reasons.append(str(error))
            continue
        found[kind] = readings.ref(read)
        age_s = boottime() - (read.records[-1] if read.records else read.header)["t"]
        if read.header["boot_id"] == readings.boot_id() and age_s > _STALE_S:
            reasons.append(f"{path} has not grown for {age_s:.0f} s: the prober is not running")
    return Attached(
        probes=found.get("probes"), orders=found.get("orders"), canary=found.get("canary"), reasons=tuple(reasons)
    )


def journaled(rows: Iterable[Row]) -> tuple[ReadingsRef, ...]:
    """The readings that a run names, each as it was journaled last."""
    last: dict[str, ReadingsRef] = {}
    for row in rows:
        if isinstance(row.fact, Measured):
            ref = ReadingsRef.model_validate(row.fact.readings)
            last[ref.path] = ref
    return tuple(last.values())


def instants(rows: Iterable[Row], plan: Plan) -> Instants:
    """When a run was opened, decided, fenced and changed things.

    Decided: the first approval, if it came before the first promotion was sent, else when somebody said go. Fenced:
    when the last fence was seen to hold; None if a fence was overridden, for then the old primary may have gone on.
    """
    steps = {step.id: step for step in plan.steps}
    opened = began = approved = promoted = fenced = None
    overridden = False
    changes: list[float] = []
    for row in rows:
        match row.fact:
            case Opened(t=t):
                opened = t if opened is None else opened
            case Began(t=t):
                began = t if began is None else began
            case Answered(t=t, answer="approve"):
                approved = t if approved is None else approved
            case Ordered(verb="override-fence"):
                overridden = True
            case Prepared(t=t, step=id) if id in steps and steps[id].promotes:
                promoted = t if promoted is None else promoted
            case Done(t=t, step=id) if id in steps and steps[id].kind == "action":
                changes.append(t)
                fenced = t if steps[id].fences else fenced
    if opened is None:
        raise JournalError("the journal does not begin with an opened run")
    decided = approved if approved is not None and (promoted is None or approved <= promoted) else began
    return Instants(opened, decided, None if overridden else fenced, tuple(changes))


def findings(
    refs: Sequence[ReadingsRef],
    when: Instants,
    *,
    host_boot_id: str | None = None,
    since_t: float | None = None,
    folders: Sequence[Path] = (),
) -> Findings:
    """All that the readings say about one run. Files that are missing or do not verify become reasons, never guesses.

    `host_boot_id` is that of the machine the run's clock is on; where it differs from the readings' the two cannot be
    compared and what depends on it is None. `since_t`: when the outage that matters was caused, if that is known.
    `folders`: where copies of the files are looked for if they are not where they were written.
    """
    read, reasons, verified = _read(refs, folders)
    by_kind = {kind: [r for r in read if r.kind == kind] for kind in ("probes", "canary", "orders", "present")}
    boots = {r.header["boot_id"] for r in read} | ({host_boot_id} if host_boot_id else set())
    one_clock = len(boots) <= 1
    if not one_clock:
        reasons.append("readings and run were not made on one clock, and the offset between the clocks is not known")
    seen = tuple(j for r in by_kind["probes"] for j in journeys(r.records))
    recovered = _recovery(by_kind["probes"], seen, when, one_clock, since_t) if by_kind["probes"] else None
    if recovered is None:
        reasons.append("no probe readings: recovery time was not measured")
    entries = ledgers.writes((*by_kind["canary"], *by_kind["orders"]))
    lost, present = _loss(by_kind, entries, recovered if one_clock else None, when)
    if lost is None:
        reasons.append(
            "no ledger of acknowledged writes: data loss was not measured"
            if not entries
            else "the database was not compared with the ledgers: data loss was not measured"
        )
    from_t, to_t = _stretch(recovered, when)
    return Findings(
        recovery=recovered,
        loss=lost,
        reasons=tuple(reasons),
        readings=tuple(refs),
        verified=verified,
        journeys=tuple(j for j in seen if from_t <= j.sent_t <= to_t),
        writes=loss_over_time(entries, present, from_t=from_t, to_t=to_t) if present is not None else (),
    )


def _read(refs: Sequence[ReadingsRef], folders: Sequence[Path]) -> tuple[list[Readings], list[str], bool | None]:
    read: list[Readings] = []
    reasons: list[str] = []
    for ref in refs:
        written = Path(ref.path)
        places = (written, *(folder / written.name for folder in folders))
        try:
            read.append(readings.read(next((place for place in places if place.exists()), written), upto=ref))
        except JournalError as error:
            reasons.append(str(error))
    return read, reasons, (len(read) == len(refs)) if refs else None


def _recovery(
    probes: Sequence[Readings], seen: Sequence[Journey], when: Instants, one_clock: bool, since_t: float | None
) -> Recovery:
    header = probes[-1].header
    last_t = max((r.records[-1] if r.records else r.header)["t"] for r in probes)
    timeout_s = header["settings"]["timeout_s"]
    young = [j.sent_t for j in seen if j.outcome == "pending" and j.sent_t > last_t - timeout_s]
    terms = Terms(
        window_s=header["settings"]["window_s"],
        objective=header["settings"]["objective"],
        interval_s=header["interval_s"],
        since_t=(since_t if since_t is not None else when.opened_t) if one_clock else None,
        # What was sent last may not have been answered yet when the file was read: neither good nor bad.
        until_t=min(young) - header["interval_s"] / 2 if young else None,
    )
    found = recovery(seen, terms)
    if not one_clock or found.recovered_t is None:
        return found
    # The last change that was done before users were served again is where "execute" ends.
    executed_t = max((t for t in when.changes_t if t <= found.recovered_t), default=None)
    split = phases(found, detected_t=when.opened_t, decided_t=when.decided_t, executed_t=executed_t)
    return found.model_copy(update={"phases": split})


def _loss(
    by_kind: dict[str, list[Readings]], entries: Sequence[Write], recovered: Recovery | None, when: Instants
) -> tuple[Loss | None, frozenset[str] | None]:
    present = ledgers.present(by_kind["present"][-1]) if by_kind["present"] else None
    if not entries or present is None:
        return None, present
    kept = by_kind["canary"] or by_kind["orders"]
    coverage = Coverage(sorted(t for ledger in kept for t in ledgers.coverage(ledger).instants_t))
    started_t = recovered.outage_started_t if recovered else None
    fenced_t = when.fenced_t if recovered else None
    return loss(entries, present, coverage=coverage, outage_started_t=started_t, fenced_t=fenced_t), present


def _stretch(recovered: Recovery | None, when: Instants) -> tuple[float, float]:
    """What charts show: the outage with a margin, else the run with a margin."""
    if recovered is None or recovered.outage_started_t is None:
        return when.opened_t - _MARGIN_S, max((*when.changes_t, when.opened_t)) + _MARGIN_S
    end = recovered.recovered_t if recovered.recovered_t is not None else recovered.outage_started_t + 600.0
    return recovered.outage_started_t - _MARGIN_S, end + _MARGIN_S
