"""What moto leaves out of EventBridge Scheduler: one-shot schedules that really make their call when they are due.

A schedule whose target is an API operation (`arn:aws:scheduler:::aws-sdk:ec2:startInstances`) is looked for in moto's
own store and carried out at the gateway of its region, which writes it down under `CALLER`. One that failed is tried
again, as AWS does; one that is done is deleted. While its region is down it waits.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

EVERY_S = 0.1
RETRY_S = 1.0
CALLER = "scheduler-lease"
_ARN = "arn:aws:scheduler:::aws-sdk:"
#: The state wanted is there already: done.
_SO_ALREADY = frozenset({"InvalidPermission.Duplicate", "InvalidNetworkAclEntry.NotFound"})


def keep(urls: Mapping[str, str], account: str) -> None:
    """Carry out schedules for ever; `urls`: each region's gateway."""
    clients: dict[tuple[str, str], Any] = {}
    later: dict[str, float] = {}
    while True:
        time.sleep(EVERY_S)
        if "moto.scheduler.models" not in sys.modules:  # nobody has used it yet
            continue
        for region, url in urls.items():
            for schedule in _due(region, account):
                if time.monotonic() < later.get(schedule.arn, 0.0):
                    continue
                why = _carried_out(clients, region, url, schedule)
                if why is None:
                    later.pop(schedule.arn, None)
                else:
                    later[schedule.arn] = time.monotonic() + RETRY_S
                    print(f"schedule {schedule.name} in {region}: {why}", file=sys.stderr, flush=True)


def due_at(expression: str) -> float | None:
    """When a one-shot schedule is due, in UTC seconds; None: it is of another kind."""
    if not expression.startswith("at("):
        return None
    return datetime.strptime(expression, "at(%Y-%m-%dT%H:%M:%S)").replace(tzinfo=UTC).timestamp()


def _due(region: str, account: str) -> list[Any]:
    from moto.scheduler.models import scheduler_backends

    groups = scheduler_backends[account][region].schedule_groups
    known = [one for group in list(groups.values()) for one in list(group.schedules.values())]
    found = [(due_at(one.schedule_expression), one) for one in known if one.state == "ENABLED"]
    return [one for at, one in found if at is not None and at <= time.time() and one.target["Arn"].startswith(_ARN)]


def _carried_out(clients: dict[tuple[str, str], Any], region: str, url: str, schedule: Any) -> str | None:
    """Make the call and delete the schedule; why not, if not."""
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
    if schedule.action_after_completion == "DELETE":
        from moto.scheduler.models import scheduler_backends

        groups = scheduler_backends[schedule.arn.split(":")[4]][region].schedule_groups
        groups[schedule.group_name].schedules.pop(schedule.name, None)
    return None


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
