"""EventBridge: scheduled rules (cron in the cloud)."""

from __future__ import annotations

from drkit.context import Context
from drkit.providers.aws import Aws, AwsError


async def rule_state(ctx: Context, site: str, name: str) -> str | None:
    """`ENABLED` or `DISABLED`; None if there is no such rule."""
    try:
        return str((await ctx.use(Aws).call(site, "events", "describe_rule", {"Name": name}))["State"])
    except AwsError as error:
        if error.aws_code != "ResourceNotFoundException":
            raise
        return None


async def switch_rule(ctx: Context, site: str, name: str, *, on: bool) -> None:
    """Let a scheduled rule run, or not."""
    await ctx.use(Aws).call(site, "events", "enable_rule" if on else "disable_rule", {"Name": name})
