"""DynamoDB: the table's replica here is healthy and takes writes, proven with an item of our own."""

from __future__ import annotations

from drkit.actions.trying import tried
from drkit.catalog import action, probe
from drkit.context import Context
from drkit.errors import Unobservable
from drkit.model.observation import Observation, State
from drkit.model.paper import Paper, if_it_answers, lines
from drkit.model.params import Params, SiteName, Use
from drkit.providers.aws import Aws, AwsError


class Table(Params):
    """A table with the string key `id`."""

    site: SiteName = "target"
    """Region of the replica."""
    table: str
    """Name of the table."""
    items_min: int = 1
    """Items that came over must be at least so many: an empty replica is not one."""


class TableState(Observation):
    """The table here, and at the source if it still answers."""

    status: str | None
    items: int = 0
    """Items that are not our own."""
    proof: bool = False
    """The item this step writes is there, read consistently."""
    source: str
    source_items: int | None = None


@probe("aws.dynamodb.state")
async def state(ctx: Context, p: Table) -> TableState:
    """Read the table's status, count its items consistently, and look for the item of this step."""
    source, source_items = await tried(ctx, _count(ctx, ctx.source, p.table))
    aws = ctx.use(Aws)
    try:
        table = (await aws.call(p.site, "dynamodb", "describe_table", {"TableName": p.table}))["Table"]
    except AwsError as error:
        if error.aws_code != "ResourceNotFoundException":
            raise
        return TableState(status=None, source=source, source_items=source_items)
    key = {"TableName": p.table, "Key": {"id": {"S": ctx.token}}, "ConsistentRead": True}
    proof = "Item" in await aws.call(p.site, "dynamodb", "get_item", key)
    return TableState(
        status=table["TableStatus"],
        items=await _count(ctx, p.site, p.table),
        proof=proof,
        source=source,
        source_items=source_items,
        answered_by=table["TableArn"],
    )


async def _count(ctx: Context, site: str, table: str) -> int:
    request = {"TableName": table, "ConsistentRead": True, "ProjectionExpression": "id"}
    items = await ctx.use(Aws).pages(site, "dynamodb", "scan", "Items", request)
    return sum(not item["id"]["S"].startswith("drkit-") for item in items)


@action("aws.dynamodb.write-test", observe=state, repeat="safe", timeout_s=30, skippable=False)
async def write_test(ctx: Context, p: Table, before: TableState) -> None:
    """Write an item named by this step."""
    if before.status is None:
        raise Unobservable(f"There is no table {p.table} in {p.site}.")
    item = {"id": {"S": ctx.token}, "basket": {"N": "0"}}
    await ctx.use(Aws).call(p.site, "dynamodb", "put_item", {"TableName": p.table, "Item": item})


@write_test.check
def written(p: Table, now: TableState) -> State:
    """Active, with the items that came over, and our item can be read back."""
    if now.status != "ACTIVE" or now.items < p.items_min:
        return State.UNKNOWN
    return State.HOLDS if now.proof else State.ABSENT


@write_test.undo
def left_written(p: Table, before: TableState, after: TableState | None) -> Use | None:
    """Left: an item of ours, which no user sees."""
    return None


_MARK = "drkit-by-hand"


@state.by_hand
def look_at_table(p: Table, paper: Paper) -> str:
    """Status, items here and at the source, and the item written by hand."""
    count = {"table_name": p.table, "select": "COUNT", "query": "Count"}
    key: dict[str, object] = {"id": {"S": _MARK}}
    return lines(
        paper.aws(p.site, "dynamodb describe-table", table_name=p.table, query="Table.TableStatus"),
        f"# at least {p.items_min} items; the second number is the source's, if it answers",
        paper.aws(p.site, "dynamodb scan", **count, consistent_read=True),
        if_it_answers(paper.aws(paper.source, "dynamodb scan", **count, consistent_read=True)),
        "# the item written by hand, read consistently",
        paper.aws(p.site, "dynamodb get-item", table_name=p.table, key=key, consistent_read=True, query="Item"),
    )


@write_test.by_hand
def write_by_hand(p: Table, paper: Paper) -> str:
    """An item that no user sees."""
    item: dict[str, object] = {"id": {"S": _MARK}, "basket": {"N": "0"}}
    return paper.aws(p.site, "dynamodb put-item", table_name=p.table, item=item)
