"""AWS refuses every call to the region entered: too many of them."""

from __future__ import annotations

from typing import Final

from drkit.sandbox.strikes import Drilled
from drkit.sandbox.strikes.gateway import Gateway

LEASE_S: Final = 12.0
#: As requests are signed. S3 is left alone: the state store, and with it the environment's lease, is there too.
SERVICES: Final = (
    "acm", "autoscaling", "cloudformation", "cloudtrail", "dynamodb", "ec2", "ecr", "elasticache",
    "elasticfilesystem", "elasticloadbalancing", "events", "guardduty", "iam", "kms", "monitoring", "secretsmanager",
    "servicequotas", "sns", "sqs", "ssm", "sts", "wafv2",
)  # fmt: skip


class Throttle(Gateway):
    """Of every service but S3."""

    def __init__(self, drilled: Drilled) -> None:
        super().__init__(drilled, ((service, "*") for service in SERVICES), LEASE_S, throttle=True)
