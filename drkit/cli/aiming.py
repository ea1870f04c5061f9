"""What a scenario would hit: targets looked up, chosen and shown; and refused while the lever is engaged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from drkit.cli.settings import Settings
from drkit.errors import DrkitError, Refused

if TYPE_CHECKING:
    from drkit.catalog import Catalog
    from drkit.chaos.again import Again
    from drkit.chaos.choose import Aim
    from drkit.chaos.compile import Targets
    from drkit.context import Context
    from drkit.model.environment import Environment
    from drkit.model.inventory import Member
    from drkit.model.plan import Plan
    from drkit.model.scenario import Target
    from drkit.plan.files import LoadedScenario


def targets(
    settings: Settings, environment: Environment, loaded: LoadedScenario, catalog: Catalog, aim: Aim | None = None,
    again: Again | None = None,
) -> Targets:  # fmt: skip
    """The members that each entry of `targets:` means now, with what is broken already counted. Reads, changes nothing.

    `aim` is a schedule's; `again` is the run whose members are meant.
    Refused if none or too many match, or their service would not survive it.
    """
    import anyio

    from drkit.chaos.leftovers import leftovers
    from drkit.cli import compose

    spec = loaded.scenario
    if not spec.targets:
        return {}
    settings.say.note(f"Looking at the targets in {environment.name}; read-only.")
    regions = environment.regions or (environment.name,)
    source, target = spec.source or regions[0], spec.target or regions[-1]

    hit = {} if again is None else again.members(spec)

    async def ask() -> Targets:
        async with compose.reach(environment, source, target, mode="ungraceful") as ctx:
            broken = await leftovers(ctx, catalog)
            active = {str(value) for marker in broken.markers for value in marker.params.values()}
            return {
                name: await _chosen(ctx, name, given, catalog, active, spec.seed, aim, hit.get(name))
                for name, given in spec.targets.items()
            }

    return anyio.run(ask)


async def _chosen(
    ctx: Context, name: str, given: Target, catalog: Catalog, active: set[str], seed: str, aim: Aim | None,
    names: list[str] | None,
) -> list[Member]:  # fmt: skip
    from drkit.catalog import Probe
    from drkit.chaos.again import chosen_again
    from drkit.chaos.targets import aimed, chosen
    from drkit.model.inventory import Inventory

    probe = catalog.entry(given.uses)
    if not isinstance(probe, Probe) or probe.answer is not Inventory:
        raise Refused(f"targets.{name}: {given.uses} answers no inventory", hint="uses: host.inventory")
    try:
        found = await probe(ctx, probe.params.model_validate(given.where, strict=False))
    except DrkitError as error:
        raise Refused(f"targets.{name}: {given.uses} cannot be asked: {error.message}", hint="drkit doctor") from error
    if names is not None:
        return chosen_again(name, given, found, active, names)
    if aim is None:
        return chosen(name, given, found, active, seed)
    return chosen(name, aimed(given, found, aim), found, active, f"{seed} {aim.seed}")


def breaks(plan: Plan, environment: Environment, catalog: Catalog) -> list[dict[str, Any]]:
    """What each inject step would do: where, with which commands, how it is reverted, and what heals it without us."""
    from drkit.catalog import Action
    from drkit.model.paper import Paper

    paper = Paper(environment, plan.source, plan.target)
    found = []
    for step in plan.steps:
        if step.part != "inject":
            continue
        fault = catalog.entry(step.uses)
        assert isinstance(fault, Action)  # the plan was compiled
        params = fault.params.model_validate(step.params, strict=False)
        inject, revert = (
            each.commander(params, paper) if each is not None and each.commander is not None else None
            for each in (fault, fault.heal)
        )
        found.append(
            {"step": step.id, "fault": step.uses, "at": step.params.get("host") or step.site, "params": step.params,
             "inject": inject, "revert": revert, "lease": fault.lease, "irreversible": fault.irreversible,
             "simulated": step.simulated, "unfenced": fault.unfenced}
        )  # fmt: skip
    return found


def show(settings: Settings, plan: Plan, breaks: list[dict[str, Any]]) -> None:
    """Print a dry run."""
    from drkit.cli import plan as plans

    say = settings.say
    plans.show_plan(settings, plan)
    for one in breaks:
        say.line()
        say.line(f"{one['step']}   {one['fault']} at {one['at']}", style="bold")
        say.line(f"  heals itself by {one['lease']}" if one["lease"] else f"  NEVER HEALS: {one['irreversible']}")
        if one["simulated"]:
            say.line(f"  here: {one['simulated']}")
        if one["unfenced"]:
            say.line("  unfenced: its target cannot refuse a command from a run that has lost its lease")
        for what in ("inject", "revert"):
            text = one[what] or "by drkit: no command of a shell does the same"
            say.line(f"  {what}:")
            for line in text.splitlines():
                say.line(f"    {line}")
    say.line()
    say.line(f"Approvals bind to {plan.hash}")


def refuse_if_stopped(environment: Environment) -> None:
    """Refused while the safety lever is engaged; JournalError when that cannot be told."""
    from drkit.chaos.lever import why_stop
    from drkit.providers.objects import open_objects

    why = why_stop(open_objects(environment), environment.name)
    if why is not None:
        raise Refused(
            f"nothing may be broken in {environment.name}: {why}",
            hint=f"drkit chaos lever release --reason ... --env {environment.name}",
        )
