"""From readings files to findings: attach a run to the current readings, and evaluate the ones that it journaled."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from drkit.errors import JournalError
from drkit.measure import ledgers, readings
from drkit.measure.journeys import journeys
from drkit.measure.loss import Coverage, loss, loss_over_time
from drkit.measure.readings import Readings, boottime
from drkit.measure.recovery import Terms, phases, recovery
from drkit.model.environment import Environment
from drkit.model.events import Answered, Began, Done, Measured, Opened, Ordered, Prepared, Resumed, Row
from drkit.model.measurements import Attached, Findings, Journey, Loss, ReadingsRef, Recovery, Write
from drkit.model.plan import Plan

#: A prober that has written nothing for this long is dead or frozen.
_STALE_S = 5.0
#: What a chart shows before the outage and after the recovery.
_MARGIN_S = 10.0
#: More between wall and boot clock over a whole file: somebody set the wall clock.
_DRIFT_S_MAX = 0.1


@dataclass(frozen=True, slots=True)
class Instants:
    """What happened when in a run, in UTC seconds since the epoch; None: it did not happen, or was not observed."""

    opened_s: float
    detected_s: float | None
    decided_s: float | None
    fenced_s: float | None
    caused_s: float | None
    """When a drill broke what it broke."""
    changes_s: tuple[float, ...]
    """When each change was seen to be done."""
    hosts: frozenset[str]
    """Machines whose clocks these are."""


def attach(environment: Environment) -> Attached:
    """The readings files being written now, as they are now. Quick: they are verified when they are evaluated."""
    if environment.prober is None:
        return Attached(reasons=("the environment has no prober",))
    folder = Path(environment.prober.folder)
    try:
        files = readings.announced(folder)
    except FileNotFoundError:
        return Attached(reasons=(f"no prober has run: {folder / readings.CURRENT} is not there",))
    found: dict[str, ReadingsRef] = {}
    reasons: list[str] = []
    for kind, path in files.items():
        try:
            ref = readings.head(path)
        except JournalError as error:
            reasons.append(str(error))
            continue
        found[kind] = ref
        last_t = ref.summary["last_t"]
        if ref.boot_id == readings.boot_id() and isinstance(last_t, float) and boottime() - last_t > _STALE_S:
            reasons.append(f"{path} has not grown for {boottime() - last_t:.0f} s: the prober is not running")
    return Attached(
        probes=found.get("probes"), orders=found.get("orders"), canary=found.get("canary"), reasons=tuple(reasons)
    )


def journaled(rows: Iterable[Row]) -> tuple[ReadingsRef, ...]:
    """The readings that a run names, each as it was journaled last.

    Ledgers are taken as they were when the database was last compared with them: what they acknowledged later cannot
    be in what was found.
    """
    last: dict[str, ReadingsRef] = {}
    compared: dict[str, ReadingsRef] = {}
    for row in rows:
        if isinstance(row.fact, Measured):
            ref = ReadingsRef.model_validate(row.fact.readings)
            last[ref.path] = ref
            if ref.kind == "present":
                compared = {path: kept for path, kept in last.items() if kept.kind in ("canary", "orders")}
    return tuple((last | compared).values())


def instants(rows: Iterable[Row], plan: Plan) -> Instants:
    """When a run was opened, decided, fenced and changed things.

    Detected: in a drill when its detection said go, else when the run was opened. Decided: the first approval, if it
    came before the first promotion was sent; else when somebody, or a drill's detection, said go. Fenced: when the
    last fence was seen to hold; None if a fence was overridden, for then the old primary may have gone on.
    """
    steps = {step.id: step for step in plan.steps}
    opened = began = detected = approved = promoted = fenced = caused = None
    overridden, behind = False, 0.0
    hosts, changes = set[str](), list[float]()
    for row in rows:
        fact = row.fact
        if isinstance(fact, Opened | Resumed):
            behind = fact.wall - fact.t  # the run's clock stands still while nobody carries it out
            hosts.add(fact.host)
        at = fact.t + behind
        match fact:
            case Opened():
                opened = at
            case Began():
                began = at if began is None else began
            case Answered(answer="approve"):
                approved = at if approved is None else approved
            case Ordered(verb="override-fence"):
                overridden = True
            case Prepared(step=id) if id in steps:
                promoted = at if promoted is None and steps[id].promotes else promoted
                caused = at if caused is None and steps[id].part == "inject" else caused
            case Done(step=id) if id in steps:
                detected = at if steps[id].part == "detect" else detected
                fenced = at if steps[id].fences else fenced
                if steps[id].kind == "action" and steps[id].part == "runbook":
                    changes.append(at)
            case _:
                pass
    if opened is None:
        raise JournalError("the journal does not begin with an opened run")
    drilled = any(step.part != "runbook" for step in plan.steps)
    said_go = detected if drilled else began
    decided = approved if approved is not None and (promoted is None or approved <= promoted) else said_go
    return Instants(
        opened_s=opened,
        detected_s=detected if drilled else opened,
        decided_s=decided,
        fenced_s=None if overridden else fenced,
        caused_s=caused,
        changes_s=tuple(changes),
        hosts=frozenset(hosts),
    )


@dataclass(frozen=True, slots=True)
class _Clock:
    """Instants of a run on the readings' clock; all None where the two were not kept on one machine."""

    behind_s: float | None

    def t(self, at_s: float | None) -> float | None:
        return None if at_s is None or self.behind_s is None else at_s - self.behind_s


def findings(refs: Sequence[ReadingsRef], when: Instants, *, folders: Sequence[Path] = ()) -> Findings:
    """All that the readings say about one run. Files that are missing or do not verify become reasons, never guesses.

    `folders`: where copies of the files are looked for if they are not where they were written. The run's instants
    are placed on the readings' clock by the wall clock of the one machine both were kept on; if it was set meanwhile,
    or there are two machines, what depends on that is None.
    """
    read, reasons, verified = _read(refs, folders)
    by_kind = {kind: [r for r in read if r.kind == kind] for kind in ("probes", "canary", "orders", "present")}
    why_not = _why_not_one_clock(read, when)
    if why_not is not None:
        reasons.append(why_not)
    kept = [r.header for r in (*by_kind["probes"], *by_kind["canary"], *by_kind["orders"])]
    clock = _Clock(kept[0]["started_wall"] - kept[0]["t"] if kept and why_not is None else None)
    seen = tuple(j for r in by_kind["probes"] for j in journeys(r.records))
    recovered = _recovery(by_kind["probes"], seen, when, clock) if by_kind["probes"] else None
    if recovered is None:
        reasons.append("no probe readings: recovery time was not measured")
    entries = ledgers.writes((*by_kind["canary"], *by_kind["orders"]))
    lost, present = _loss(by_kind, entries, seen, recovered, clock.t(when.fenced_s))
    if lost is None:
        reasons.append(
            "no ledger of acknowledged writes: data loss was not measured"
            if not entries
            else "the database was not compared with the ledgers: data loss was not measured"
        )
    from_t, to_t = _stretch(recovered, when, clock)
    return Findings(
        recovery=recovered,
        loss=lost,
        reasons=tuple(reasons),
        readings=tuple(refs),
        verified=verified,
        journeys=tuple(j for j in seen if from_t <= j.sent_t <= to_t),
        writes=loss_over_time(entries, present, from_t=from_t, to_t=to_t) if present is not None else (),
    )


def _why_not_one_clock(read: Sequence[Readings], when: Instants) -> str | None:
    kept = [r for r in read if r.kind != "present"]
    if len({r.header["boot_id"] for r in kept}) > 1:
        return "the readings were not made on one clock: their machine was restarted, or there are two"
    if kept and when.hosts != {kept[0].header["host"]}:
        return "readings and run were not made on one machine, and the offset between their clocks is not known"
    for readings_ in kept:
        header, last = readings_.header, (readings_.records or (readings_.header,))[-1]
        drift_s = (datetime.fromisoformat(last["at"]).timestamp() - header["started_wall"]) - (last["t"] - header["t"])
        if abs(drift_s) > _DRIFT_S_MAX:
            return f"the wall clock was set by {drift_s:+.2f} s while {readings_.path.name} was kept"
    return None


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


def _recovery(probes: Sequence[Readings], seen: Sequence[Journey], when: Instants, clock: _Clock) -> Recovery:
    header = probes[-1].header
    last_t = max((r.records[-1] if r.records else r.header)["t"] for r in probes)
    timeout_s = header["settings"]["timeout_s"]
    young = [j.sent_t for j in seen if j.outcome == "pending" and j.sent_t > last_t - timeout_s]
    terms = Terms(
        window_s=header["settings"]["window_s"],
        objective=header["settings"]["objective"],
        interval_s=header["interval_s"],
        since_t=clock.t(when.opened_s if when.caused_s is None else when.caused_s),
        # What was sent last may not have been answered yet when the file was read: neither good nor bad.
        until_t=min(young) - header["interval_s"] / 2 if young else None,
    )
    found = recovery(seen, terms)
    if found.recovered_t is None or clock.behind_s is None:
        return found
    # The last change that was done before users were served again is where "execute" ends.
    changes_t = [t for t in map(clock.t, when.changes_s) if t is not None and t <= found.recovered_t]
    split = phases(
        found,
        detected_t=clock.t(when.detected_s),
        decided_t=clock.t(when.decided_s),
        executed_t=max(changes_t, default=None),
    )
    return found.model_copy(update={"phases": split})


def _loss(
    by_kind: dict[str, list[Readings]],
    entries: Sequence[Write],
    seen: Sequence[Journey],
    recovered: Recovery | None,
    fenced_t: float | None,
) -> tuple[Loss | None, frozenset[str] | None]:
    found = ledgers.present(by_kind["present"][-1]) if by_kind["present"] else None
    if not entries or found is None:
        return None, None
    failed = {j.number for j in seen if j.kind == "order" and j.outcome in ("error", "timeout")}
    present = ledgers.in_scope(found, entries, failed)
    kept = by_kind["canary"] or by_kind["orders"]
    coverage = Coverage(sorted(t for ledger in kept for t in ledgers.coverage(ledger).instants_t))
    started_t = recovered.outage_started_t if recovered else None
    return loss(entries, present, coverage=coverage, outage_started_t=started_t, fenced_t=fenced_t), present


def _stretch(recovered: Recovery | None, when: Instants, clock: _Clock) -> tuple[float, float]:
    """What charts show: the outage with a margin, else the run with a margin."""
    if recovered is not None and recovered.outage_started_t is not None:
        end = recovered.recovered_t if recovered.recovered_t is not None else recovered.outage_started_t + 600.0
        return recovered.outage_started_t - _MARGIN_S, end + _MARGIN_S
    first, last = clock.t(when.opened_s), clock.t(max((*when.changes_s, when.opened_s)))
    return (0.0, 0.0) if first is None or last is None else (first - _MARGIN_S, last + _MARGIN_S)
