"""Every observation of the runbook, taken once in a world that is up: nothing anywhere is written by looking."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from worlds import ROOT, RUNBOOK, SOURCE, TARGET, Struck, World

from drkit.catalog import Action, Catalog, Gate
from drkit.context import Context, Providers
from drkit.engine.clock import SystemClock
from drkit.engine.scene import narrowed, validated
from drkit.model.environment import Environment
from drkit.plan.files import load_runbook
from drkit.plan.resolve import resolve
from drkit.providers.secrets import Secrets

#: What drkit may call to look: reads, a round trip through a key, a role assumed.
READS = ("Describe", "Get", "List", "BatchGet", "Scan", "Query", "GET ", "HEAD ", "Encrypt", "Decrypt", "AssumeRole")
#: Looks by doing what a user does; it places a test order, and says so.
JOURNEYS = {"http.journey"}


def written(world: World) -> dict[str, str]:
    """A digest of every file on every server but what its services write themselves."""
    found = {}
    for path in sorted((world.folder / "hosts").glob("*/root/**/*")):
        if path.is_file() and not {"run", "log"} & set(path.relative_to(world.folder).parts):
            found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def asked(steps: dict[str, Any]) -> dict[str, Any]:
    """Parameters, where they come from other steps with nothing in them."""
    return {name: "" if isinstance(value, str) and "${" in value else value for name, value in steps.items()}


async def test_looking_changes_nothing(struck: Struck) -> None:
    world, catalog, clock = struck.world, Catalog(), SystemClock()
    environment = Environment.model_validate(world.environment)
    plan = resolve(
        load_runbook(ROOT / "runbooks" / f"{RUNBOOK}.yaml"), environment, catalog, source=SOURCE, target=TARGET
    )
    secrets = Secrets(environment)
    providers = Providers(environment, secrets)
    before = written(world), world.log("messages"), len(world.log("aws-calls")), len(world.log("routing-calls"))
    looked, silent = [], {}
    for step in plan.steps:
        entry = catalog.entry(step.uses)
        if isinstance(entry, Gate) or step.uses in JOURNEYS:
            continue
        probe = entry.observe if isinstance(entry, Action) else entry
        ctx = Context(
            environment=environment, providers=providers, secrets=secrets, clock=clock, run="look", step=step.id,
            source=SOURCE, target=TARGET, drill=True,
        )  # fmt: skip
        try:
            await probe(ctx, narrowed(probe, validated(entry, asked(step.params))))
        except Exception as error:  # noqa: BLE001 - which of them could not see is what the test reports
            silent[step.id] = f"{type(error).__name__}: {error}"
            continue
        looked.append(step.id)
    await providers.aclose()
    assert silent == {}, "after a recovery everything can be observed"
    assert len(looked) == len(plan.steps) - 4, "all but three approvals and the users' journey"
    assert written(world) == before[0]
    assert world.log("messages") == before[1]
    ours = [call for call in world.log("aws-calls")[before[2] :] if call["caller"] == "drkit"]
    assert len(ours) > 50
    writes = [call for call in ours if not call["operation"].startswith(READS)]
    assert [call for call in writes if not _is_read_of_rest(call)] == []
    assert {call["operation"] for call in world.log("routing-calls")[before[3] :]} <= {"ListRoutingControls"}


def _is_read_of_rest(call: dict[str, Any]) -> bool:
    """S3 and IAM-like services without operation names are known by their method."""
    return call["service"] == "s3" and call["operation"].split()[0] in ("GET", "HEAD")


def test_a_look_at_a_dead_side_says_so_and_does_not_hang(struck: Struck) -> None:
    """The fence's own observation, of a side that is gone, is in the journal as unreachable with a witness."""
    fence = struck.drill.step(lambda step: step["fences"])
    seen = struck.drill.facts("step.done", fence)[-1]["after"]["value"]
    assert seen["lease_expired"] or seen["lease_site"] == TARGET
    assert seen["witness"]


@pytest.mark.parametrize("path", ["runbooks/reliabletech.yaml", "runbooks/reliabletech-core.yaml"])
def test_a_shipped_runbook_is_valid_here(struck: Struck, path: str) -> None:
    environment = Environment.model_validate(struck.world.environment)
    plan = resolve(load_runbook(Path(ROOT / path)), environment, Catalog(), source=SOURCE, target=TARGET)
    assert all(step.owner for step in plan.steps) or "core" in path
