"""What moto leaves out of EventBridge Scheduler: one-shot schedules that really make their call when they are due.

A schedule whose target is an API operation (`arn:aws:scheduler:::aws-sdk:ec2:startInstances`) is looked for in moto's
own store and carried out at the gateway of its region, which writes it down under `CALLER`. One that failed is tried
again, as AWS does, until its retry policy is exhausted; AWS then waits longer from try to try. One that is done or
given up is deleted if it says so, and never tried again. While its region is down it waits.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

EVERY_S = 0.1
RETRY_S = 1.0
CALLER = "scheduler-lease"
_ARN = "arn:aws:scheduler:::aws-sdk:"
#: The state wanted is there already: done.
_SO_ALREADY = frozenset({
    "InvalidPermission.Duplicate", "InvalidNetworkAclEntry.NotFound", "InvalidNetworkAclID.NotFound",
})  # fmt: skip


@dataclass
class Tries:
    """How often a schedule was tried, and whether that was the last time."""

    made: int = 0
    next_at: float = 0.0
    """On `time.monotonic()`."""
    over: bool = False

    def take(self, done: bool, policy: Mapping[str, int], age_s: float) -> None:
        """One more try, and how it went."""
        self.made += 1
        self.next_at = time.monotonic() + RETRY_S
        exhausted = self.made > policy["MaximumRetryAttempts"] or age_s > policy["MaximumEventAgeInSeconds"]
        self.over = done or exhausted


def keep(urls: Mapping[str, str], account: str) -> None:
    """Carry out schedules for ever; `urls`: each region's gateway."""
    clients: dict[tuple[str, str], Any] = {}
    tries: dict[str, Tries] = {}
    while True:
        time.sleep(EVERY_S)
        if "moto.scheduler.models" not in sys.modules:  # nobody has used it yet
            continue
        for region, url in urls.items():
            for schedule in _due(region, account):
                so_far = tries.setdefault(f"{schedule.arn} {schedule.last_modified_date}", Tries())
                if so_far.over or time.monotonic() < so_far.next_at:
                    continue
                why = _carried_out(clients, region, url, schedule)
                so_far.take(why is None, schedule.target["RetryPolicy"], time.time() - _due_at(schedule))
                if so_far.over:
                    _delete_if_asked(schedule, region)
                if why is not None:
                    said = "given up" if so_far.over else "to be tried again"
                    print(f"schedule {schedule.name} in {region}, {said}: {why}", file=sys.stderr, flush=True)


def due_at(expression: str) -> float | None:
    """When a one-shot schedule is due, in UTC seconds; None: it is of another kind."""
    if not expression.startswith("at("):
        return None
    return datetime.strptime(expression, "at(%Y-%m-%dT%H:%M:%S)").replace(tzinfo=UTC).timestamp()


def _due(region: str, account: str) -> list[Any]:
    from moto.scheduler.models import scheduler_backends

    groups = scheduler_backends[account][region].schedule_groups
    known = [one for group in list(groups.values()) for one in list(group.schedules.values())]
    ours = [one for one in known if one.state == "ENABLED" and one.target["Arn"].startswith(_ARN)]
    return [one for one in ours if _due_at(one) <= time.time()]


def _due_at(schedule: Any) -> float:
    at = due_at(schedule.schedule_expression)
    return math.inf if at is None else at


def _carried_out(clients: dict[tuple[str, str], Any], region: str, url: str, schedule: Any) -> str | None:
    """Make the call; why not, if not."""
    from botocore import xform_name
    from botocore.exceptions import BotoCoreError, ClientError

    service, operation = schedule.target["Arn"].removeprefix(_ARN).split(":")
    try:
        client = _client(clients, service, region, url)
        getattr(client, xform_name(operation[0].upper() + operation[1:]))(**json.loads(schedule.target["Input"]))
    except ClientError as error:
        if error.response["Error"]["Code"] not in _SO_ALREADY:
            return str(error)
    except BotoCoreError as error:
        return str(error)
    return None


def _delete_if_asked(schedule: Any, region: str) -> None:
    if schedule.action_after_completion == "DELETE":
        from moto.scheduler.models import scheduler_backends

        groups = scheduler_backends[schedule.arn.split(":")[4]][region].schedule_groups
        groups[schedule.group_name].schedules.pop(schedule.name, None)


def _client(clients: dict[tuple[str, str], Any], service: str, region: str, url: str) -> Any:
    import boto3
    from botocore.config import Config

    if (service, region) not in clients:
        make: Any = boto3.client  # the stubs list every service by name
        options: dict[str, Any] = {"user_agent_appid": CALLER, "connect_timeout": 2, "read_timeout": 5}
        options["retries"] = {"total_max_attempts": 1}
        clients[service, region] = make(
            service, region_name=region, endpoint_url=url, aws_access_key_id="sandbox", aws_secret_access_key="-" * 40,
            config=Config(**options),
        )  # fmt: skip
    return clients[service, region]
