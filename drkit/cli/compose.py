"""Put together what commands reach the world with. The engine must not know providers, so this is done here, once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from drkit.errors import Exit

if TYPE_CHECKING:
    from drkit.cli.measuring import Readings
    from drkit.context import Context, Providers
    from drkit.engine.runner import Means
    from drkit.engine.runs import Request, RunFolder
    from drkit.model.environment import Environment
    from drkit.model.ports import Holder, Teller
    from drkit.report import Story

#: What was said of a run when it ended, beside its journal: the report has it all.
VERDICT = "verdict.json"


@asynccontextmanager
async def reach(
    environment: Environment, source: str, target: str, *, mode: str, run: str = "look", step: str = "look",
    fencing_token: int = 0,
) -> AsyncIterator[Context]:  # fmt: skip
    """A context to look through, with providers that are closed afterwards.

    `fencing_token`: of the run that it is looked for, to whom what it holds itself is not a stranger's.
    """
    from drkit.context import Context, Providers
    from drkit.engine.clock import SystemClock
    from drkit.providers.secrets import Secrets

    secrets = Secrets(environment)
    providers = Providers(environment, secrets)
    try:
        yield Context(
            environment=environment, providers=providers, secrets=secrets, clock=SystemClock(), run=run, step=step,
            source=source, target=target, mode=mode, fencing_token=fencing_token,
        )  # fmt: skip
    finally:
        await providers.aclose()


async def holder(environment: Environment) -> Holder | None:
    """Who holds the environment's lease now. JournalError if the state store does not answer."""
    import anyio.to_thread

    from drkit.engine.lease import look
    from drkit.providers.objects import open_objects

    found = await anyio.to_thread.run_sync(look, open_objects(environment), environment.name)
    return None if found is None else found[1]


def means(request: Request, folder: RunFolder) -> Means:
    """What a runner carries a run out with."""
    from drkit.catalog import Catalog
    from drkit.chaos import lever
    from drkit.cli.measuring import Readings
    from drkit.context import Providers
    from drkit.engine.runner import Means
    from drkit.plan.manual import manual
    from drkit.providers.objects import open_objects
    from drkit.providers.secrets import Secrets

    environment = request.environment
    catalog = Catalog()
    secrets = Secrets(environment)
    readings = Readings(request, folder, secrets)
    objects = open_objects(environment)
    providers = Providers(environment, secrets)
    return Means(
        catalog=catalog,
        providers=providers,
        secrets=secrets,
        objects=objects,
        lever=lambda: lever.why_stop(objects, environment.name),
        attach=readings.attach,
        settle=readings.settle,
        judge=lambda folder, state: judge(folder, readings),
        papers={"manual.md": manual(request.plan, catalog, environment=environment).encode()},
        teller=teller(request, folder, providers),
    )


def teller(request: Request, folder: RunFolder, providers: Providers) -> Teller | None:
    """Who tells responders what happens; None where no sink would reach them."""
    if not request.environment.sinks:
        return None
    from drkit.engine.runs import write_durably
    from drkit.notify.wording import usable

    sinks = usable(request.environment.sinks, "responders", drill=request.drill)
    if not sinks:
        return None
    from drkit.notify.delivery import Delivery
    from drkit.notify.follower import Follower
    from drkit.notify.outbox import NAME, Outbox

    return Follower(providers.use(Delivery), sinks, Outbox(folder.path / NAME, write_durably))


def judge(folder: RunFolder, readings: Readings) -> Exit | None:
    """Write the report of a run that has ended, and say whether its objectives were met."""
    import json

    from drkit.cli import report, seen
    from drkit.engine.runs import write_durably
    from drkit.measure.findings import journaled
    from drkit.report.breaking import hypothesis

    look = seen.read(folder)
    claim = hypothesis(look.state, look.rows)
    refuted = claim is not None and claim.held is False
    if not look.state.plan.recovers:
        return Exit.MISSED if refuted else None
    readings.keep(journaled(look.rows))
    told = report.story(look)
    where = report.folder_of(look)
    report.write_files(told, where)
    page = {"word": told.verdict.word, "line": told.verdict.line, "report": str(where / "report.html")}
    write_durably(folder.path / VERDICT, json.dumps(page).encode())
    found = verdict(told)
    return Exit.MISSED if refuted else found


def told_verdict(folder: RunFolder) -> dict[str, str] | None:
    """What `judge` said of a run: `word`, `line` and the report's page; None if it has not."""
    import json

    try:
        told: dict[str, str] = json.loads((folder.path / VERDICT).read_bytes())
    except FileNotFoundError:
        return None
    return told


def verdict(told: Story) -> Exit | None:
    """Met, or not: an objective that was not measured was not met. None: there was none, or the run is not done."""
    wanted = (told.report.recovery_time.objective_seconds, told.report.data_loss.objective_seconds)
    if told.report.outcome != "done" or wanted == (None, None):
        return None
    return Exit.DONE if told.verdict.code == "met" else Exit.MISSED
