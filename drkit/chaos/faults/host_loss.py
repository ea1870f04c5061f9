"""host.loss: a host is switched off at once, and nothing of ours can bring it back."""

from __future__ import annotations

from drkit.catalog import fault, probe
from drkit.chaos.onhost import OnHost, isolated_enough, known
from drkit.context import Context
from drkit.errors import Unreachable
from drkit.model.observation import Observation
from drkit.providers.ssh import Ssh


class Answers(Observation):
    """Whether a host can be logged in to."""

    answers: bool


@probe("host.answers")
async def answers(ctx: Context, p: OnHost) -> Answers:
    """Whether a host lets drkit log in anew."""
    try:
        await ctx.use(Ssh).login(known(ctx, p.host).name)
    except Unreachable:
        return Answers(answers=False)
    return Answers(answered_by=p.host, answers=True)


@fault(
    "host.loss", observe=answers, repeat="token", irreversible="the host stays off until somebody switches it on"
)  # fmt: skip
async def lose(ctx: Context, p: OnHost, before: Answers) -> None:
    """Switch a host off at once, as a loss of power does: nothing is written back, no service is stopped."""
    isolated_enough(known(ctx, p.host), lose.name, "machine")
    # A moment later, so that this command's own answer still arrives.
    off = "(sleep 1; echo 1 >/proc/sys/kernel/sysrq; echo o >/proc/sysrq-trigger) </dev/null >/dev/null 2>&1 &"
    await ctx.use(Ssh).change(p.host, ["sh", "-c", off], token=ctx.token, permit=ctx.permit)


@lose.check
def lost(p: OnHost, now: Answers) -> bool:
    """It does not answer."""
    return not now.answers
