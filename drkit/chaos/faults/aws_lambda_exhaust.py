"""aws.lambda-exhaust: the region's quota of concurrent Lambda runs is used up, as one function reserves all of it."""

from __future__ import annotations

from typing import Final

from drkit.catalog import probe
from drkit.chaos.awslease import Call
from drkit.chaos.onaws import AwsFault, Change, OnAws, Seen, Standing, aws_fault
from drkit.context import Context
from drkit.errors import Refused, Unobservable
from drkit.model.paper import Paper
from drkit.model.values import Json
from drkit.providers.aws import Aws, AwsError

#: AWS lets nobody reserve the last ones.
LEFT_MIN: Final = 100


class Reserving(OnAws):
    """A function that can reserve concurrency."""

    function: str
    """Its name. One that nothing calls: what it reserves is taken from all others."""


class Concurrency(Seen):
    """How a region's quota of concurrent runs is divided."""

    unreserved: int
    """What is left for all functions that have reserved nothing."""
    reserved: int | None
    """By this function; null: nothing."""

    def standing(self, call: Call) -> Standing:
        """Who gave the function another share than we did wants it so."""
        if self.reserved == call.input.get("ReservedConcurrentExecutions"):
            return "gone"
        return "ours" if self.unreserved <= LEFT_MIN else "theirs"


@probe("aws.lambda-concurrency", plane="control")
async def concurrency(ctx: Context, p: Reserving) -> Concurrency:
    """How much of a region's concurrency is left unreserved, and what a function has reserved."""
    aws = ctx.use(Aws)
    try:
        limit = (await aws.call(p.site, "lambda", "get_account_settings"))["AccountLimit"]
        mine = await aws.call(p.site, "lambda", "get_function_concurrency", {"FunctionName": p.function})
    except AwsError as error:
        raise Unobservable(error.message) from error
    reserved = mine.get("ReservedConcurrentExecutions")
    return Concurrency(unreserved=limit["UnreservedConcurrentExecutions"], reserved=reserved)


class Exhaust(Reserving, AwsFault):
    """Which function is to reserve it all."""


@aws_fault("aws.lambda-exhaust", observe=concurrency)
def exhaust(p: Exhaust, before: Concurrency) -> Change:
    """Reserve a region's concurrency for one function: all others share the last hundred runs, and are throttled."""
    spare = before.unreserved - LEFT_MIN
    if spare <= 0:
        raise Refused(f"aws.lambda-exhaust: only {before.unreserved} are unreserved in {p.site}; {LEFT_MIN} stay so.")
    it: dict[str, Json] = {"FunctionName": p.function}

    def put(number: int) -> Call:
        return Call("lambda", "PutFunctionConcurrency", {**it, "ReservedConcurrentExecutions": number})

    back = Call("lambda", "DeleteFunctionConcurrency", it) if before.reserved is None else put(before.reserved)
    return Change((put((before.reserved or 0) + spare),), (back,))


@exhaust.check
def exhausted(p: Exhaust, now: Concurrency) -> bool:
    """Nothing is left that could be reserved, and this function has reserved some."""
    return now.unreserved <= LEFT_MIN and now.reserved is not None


@exhaust.by_hand
def exhaust_by_hand(p: Exhaust, paper: Paper) -> str:
    """What is left, and one call."""
    left = paper.aws(p.site, "lambda get-account-settings", query="AccountLimit.UnreservedConcurrentExecutions")
    put = paper.aws(p.site, "lambda put-function-concurrency", function_name=p.function)
    return f"LEFT=$({left})\n{put} --reserved-concurrent-executions $((LEFT - {LEFT_MIN}))"
