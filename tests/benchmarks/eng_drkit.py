"""drkit's own engine on the benchmark's work: plan, fold, driver, executor, journal, inbox, lease and copy as shipped.

    python tests/benchmarks/eng_drkit.py --case n1000 --work DIR [--features lease,copy,...|none]
        [--profile time|memory]

Timed is what follows "go": from the run's first event until its last one is durable and nobody is at work any more.
What is made before (the plan) and what follows (the rest of the copy, giving the lease back) is not.
"""

from __future__ import annotations

import os
import resource
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
from adapter import Check, parser, report
from bench_actions import Bench
from sampling import DEPTH, kept, times
from workload import Workload, workload

from drkit.catalog import Catalog
from drkit.context import Providers
from drkit.engine.clock import SystemClock
from drkit.engine.copy import JournalCopier
from drkit.engine.driver import Driver
from drkit.engine.executor import Executor
from drkit.engine.fold import Run
from drkit.engine.inbox import ThreadInbox
from drkit.engine.journal import SqliteStore
from drkit.engine.lease import EnvironmentLease
from drkit.engine.scene import Scene
from drkit.engine.spawning import collect_rarely
from drkit.model import events as e
from drkit.model.environment import Environment, Site
from drkit.model.plan import Plan
from drkit.model.values import Json
from drkit.providers.objects import open_objects
from drkit.providers.secrets import Secrets

SITES = (Site(name="east", kind="region"), Site(name="west", kind="region"))
ALWAYS = ("lease", "copy", "redaction")
"""What every real run has."""
BY_STEP: dict[str, dict[str, Any]] = {
    "retry": {"retry": {"times": 3, "backoff": "1s"}, "on_failure": "retry"},
    "verify": {"verify": "now.count == now.ready"},
    "when": {"when": "1 < 2"},
    "hold": {"hold_s": 0.001, "poll_s": 0.001},
}
"""What a runbook may ask of a step, as it then stands in the plan; here every step asks for it."""
FEATURES = (*ALWAYS, *BY_STEP)


class Bed:
    """One run on real parts, in a folder of its own."""

    def __init__(self, folder: Path, work: Workload, features: frozenset[str]) -> None:
        self.check = Check(work.needs)
        self._features = features
        self._environment = Environment(
            name="bench", kind="sandbox", account="none", state_store=(folder / "objects").as_uri(),
            sites=SITES,
        )  # fmt: skip
        self._clock, self._catalog = SystemClock(), Catalog(["bench_actions"])
        self._plan = plan(work, self._catalog, features)
        self._secrets = Secrets(self._environment)
        if "redaction" in features:
            os.environ["DRKIT_BENCH_SECRET"] = "correct horse battery staple"
            self._secrets.get("secret://env/DRKIT_BENCH_SECRET")
        self.store = SqliteStore(folder / "journal.db")
        self._objects = open_objects(self._environment)

    async def carry_out(self, watching: AbstractContextManager[None]) -> float:
        """The seconds it took. `watching` is open as long as the clock runs."""
        facts = self._beginning()
        run = Run(self._plan)
        del self._plan  # as in a runner, where the fold keeps what it needs
        async with self._lease() as lease:
            with ThreadInbox() as inbox:
                copier = (
                    JournalCopier(self._objects, "bench", inbox, self._clock, token=1)
                    if "copy" in self._features
                    else None
                )
                scene = Scene(
                    run.state.plan, self._catalog,
                    Providers(self._environment, self._secrets, {Bench: Bench(self.check)}), self._secrets,
                    self._clock, "bench", lease=lease, fencing_token=0 if lease is None else lease.token,
                )  # fmt: skip
                driver = Driver(
                    run,
                    self.store,
                    inbox,
                    Executor(scene),
                    self._clock,
                    lease=lease,
                    copier=copier,
                    secrets=self._secrets,
                )
                async with anyio.create_task_group() as tasks:
                    if copier is not None:
                        tasks.start_soon(copier.run)
                        await anyio.lowlevel.checkpoint()  # it waits for rows now
                    with watching:
                        began = time.perf_counter()
                        for fact in facts:
                            inbox.put(fact)
                        facts.clear()
                        state = await driver.run()
                        took_s = time.perf_counter() - began
                    tasks.cancel_scope.cancel()
                if state.outcome != "done":
                    raise AssertionError(f"the run ended {state.outcome}: {state.why} {state.blocks()[:3]}")
                if copier is not None and not await copier.finish(60.0):
                    raise AssertionError(f"the copy is not complete: {copier.trouble}")
        return took_s

    @asynccontextmanager
    async def _lease(self) -> AsyncIterator[EnvironmentLease | None]:
        if "lease" not in self._features:
            yield None
            return
        lease = EnvironmentLease(self._objects, "bench", self._clock)
        await lease.acquire("bench", drill=False)
        yield lease
        await lease.release()

    def _beginning(self) -> list[e.Fact]:
        by: dict[str, Json] = {"name": "dana", "uid": os.getuid(), "how": "terminal"}
        opened = e.Opened(
            run="bench", run_kind="run", plan=self._plan.model_dump(mode="json", by_alias=True),
            plan_hash=self._plan.hash, drkit="0", catalog=self._plan.catalog, by=by, host="here",
            wall=self._clock.wall(),
        )  # fmt: skip
        return [opened, e.Began(by=by)]


def plan(work: Workload, catalog: Catalog, features: frozenset[str]) -> Plan:
    """The work as a plan."""
    asked = {key: value for name in features & BY_STEP.keys() for key, value in BY_STEP[name].items()}
    steps = [
        {
            "id": f"s{number}", "number": number + 1, "uses": "bench.work", "kind": "action", "repeat": "safe",
            "params": {"number": number, "seconds": work.seconds[number]}, "needs": [f"s{need}" for need in needs],
            **asked,
        }
        for number, needs in work.needs.items()
    ]  # fmt: skip
    return Plan.model_validate(
        {
            "schema": "drkit.plan/1", "runbook": "bench", "runbook_digest": "sha256:0", "environment": "bench",
            "environment_kind": "sandbox", "account": "none", "source": "east", "target": "west", "steps": steps,
            "catalog": catalog.digest(["bench.work"]), "drkit": "0",
        }
    )  # fmt: skip


def main() -> int:
    """Run one case and report it."""
    arguments = parser()
    arguments.add_argument("--features", default=",".join(ALWAYS), help=f"none, or of {', '.join(FEATURES)}")
    arguments.add_argument("--profile", choices=("time", "memory"), help="say where it goes, by module")
    options = arguments.parse_args()
    features = frozenset(options.features.split(",")) - {"none", ""}
    if unknown := features - set(FEATURES):
        arguments.error(f"no feature {', '.join(sorted(unknown))}")
    options.work.mkdir(parents=True, exist_ok=True)
    work = workload(options.case)
    loaded_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    collect_rarely()  # as a runner does
    profile: Counter[str] = Counter()
    if options.profile == "memory":
        tracemalloc.start(DEPTH)  # before there is a plan
    bed = Bed(options.work.resolve(), work, features)
    watching = {"time": times(profile), "memory": kept(profile)}.get(options.profile, nullcontext())
    took_s = anyio.run(bed.carry_out, watching)
    report(
        options, "drkit", work, took_s, bed.check.holds, commits=bed.store.commits, events=bed.store.seq,
        features=sorted(features), loaded_mb=round(loaded_mb, 1), profile=profile,
    )  # fmt: skip
    bed.store.close()
    return 0 if bed.check.holds else 1


if __name__ == "__main__":
    sys.exit(main())
