"""Should we go? Look through the runbook's own probes once, and say what its `decide` makes of them. Reads only."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from drkit.errors import DrkitError

if TYPE_CHECKING:
    from drkit.catalog import Catalog
    from drkit.context import Context
    from drkit.model.plan import Plan
    from drkit.plan.expressions import Answer

Verdict = Literal["GO", "NO-GO", "?"]
#: One look at one probe; a probe that takes longer says nothing.
LOOK_S = 6.0


@dataclass(frozen=True, slots=True)
class Term:
    """One condition of `decide`: its text, what it came out as, what was read."""

    text: str
    verdict: Verdict
    now: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known when somebody decides. `?`: it cannot be told, which is not a go."""

    verdict: Verdict
    reason: str
    terms: tuple[Term, ...]
    answers: dict[str, Any]
    """By probe: its answer as plain JSON, or None; then `silent` has why."""
    silent: dict[str, str]

    @property
    def go(self) -> bool:
        """Everything the runbook asks for holds."""
        return self.verdict == "GO"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON (`drkit.evidence/1`)."""
        return {"schema": "drkit.evidence/1", **asdict(self)}


async def gather(plan: Plan, catalog: Catalog, context: Context) -> Evidence:
    """Ask every declared probe at the same time, once, and evaluate `decide`."""
    import anyio

    answers: dict[str, Any] = {}
    silent: dict[str, str] = {}

    async def look(name: str) -> None:
        try:
            with anyio.fail_after(LOOK_S):
                answers[name] = await _ask(plan, name, catalog, context)
        except DrkitError as error:
            answers[name], silent[name] = None, error.message.splitlines()[0]
        except TimeoutError:
            answers[name], silent[name] = None, f"no answer within {LOOK_S:g} s"

    async with anyio.create_task_group() as group:
        for name in plan.probes:
            group.start_soon(look, name)
    return judge(plan, answers, silent)


def judge(plan: Plan, answers: dict[str, Any], silent: dict[str, str]) -> Evidence:
    """What `decide` makes of these answers. Pure."""
    from drkit.plan import cel
    from drkit.plan.expressions import evaluate
    from drkit.plan.surroundings import run_scope

    if plan.decide is None:
        return Evidence("?", "the runbook has no `decide`: it does not say when to go", (), answers, silent)
    scope = run_scope(plan, probes=answers)
    tree = cel.read(plan.decide)
    parts = tree.terms if isinstance(tree, cel.Logic) and tree.op == "&&" else (tree,)
    texts = [_bare(cel.source(part)) for part in parts]
    found = [(text, evaluate(text, scope)) for text in texts]
    terms = tuple(Term(text, _verdict(answer), answer.reason) for text, answer in found)
    whole = evaluate(plan.decide, scope)
    return Evidence(_verdict(whole), _reason(whole, silent), terms, answers, silent)


async def _ask(plan: Plan, name: str, catalog: Catalog, context: Context) -> Any:
    from drkit.catalog import Action, Probe

    spec = plan.probes[name]
    entry = catalog.entry(spec.uses)
    probe = entry.observe if isinstance(entry, Action) else entry
    assert isinstance(probe, Probe)  # a gate among the probes is refused when the plan is made
    seen = await probe(context, probe.params.model_validate(spec.params, strict=False))
    return seen.model_dump(mode="json")


def _verdict(answer: Answer) -> Verdict:
    verdicts: dict[str, Verdict] = {"pass": "GO", "fail": "NO-GO"}
    return verdicts.get(answer.verdict.value, "?")


def _reason(answer: Answer, silent: dict[str, str]) -> str:
    told = [str(answer.reason)] if answer.reason else []
    return "; ".join(told + [f"{name}: {why}" for name, why in silent.items()])


def _bare(text: str) -> str:
    return text[1:-1] if text.startswith("(") and text.endswith(")") else text
