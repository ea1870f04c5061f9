"""host.certificate-expiry: a service shows a certificate that has expired."""

from __future__ import annotations

import shlex
from typing import Annotated, Literal

from annotated_types import Interval

from drkit.catalog import probe
from drkit.chaos.faults._kept import said
from drkit.chaos.faults._service import Service, with_leader
from drkit.chaos.onhost import HostFault, OnHost, Recipe, host_fault
from drkit.context import Context
from drkit.model.observation import Observation, State


class Served(OnHost):
    """Where a host serves TLS."""

    port: Annotated[int, Interval(ge=1, le=65535)]
    """Port on which TLS is spoken from the first byte."""
    address: str = "127.0.0.1"
    """Where the host itself reaches it."""


class Certificate(Observation):
    """The certificate that is shown."""

    expired: bool | None = None
    """None: nobody shows one."""


_LOOK = """shown=$(openssl s_client -connect "$1:$2" </dev/null 2>/dev/null | openssl x509 2>/dev/null) || exit 0
if echo "$shown" | openssl x509 -noout -checkend 0 >/dev/null; then echo valid; else echo expired; fi"""


@probe("host.certificate")
async def certificate(ctx: Context, p: Served) -> Certificate:
    """Whether the certificate that a host shows has expired."""
    output = (await said(ctx, p, _LOOK, p.address, str(p.port))).strip()
    return Certificate(answered_by=p.host, expired=None if not output else output == "expired")


class CertificateExpiry(Served, Service, HostFault):
    """Which certificate, and who shows it."""

    certificate: str
    """File that the service shows its certificate from (PEM), as the host names it."""
    key: str
    """File of its private key (PEM); it is used at the host, and stays there."""
    reload: Literal["restart", "HUP"] = "restart"
    """How the service is made to read it again."""


@host_fault("host.certificate-expiry", observe=certificate, needs="mount-ns")
def expire(p: CertificateExpiry) -> Recipe:
    """Let a service show an expired certificate of its own name and key, signed by itself; its file is only covered."""
    again = 'manage restart "$service"'
    if p.reload == "HUP":
        again = 'leader=$(leader_of "$service") && [ -n "$leader" ] && kill -HUP "$leader"'
    cover = f"""certificate={shlex.quote(p.certificate)}
openssl x509 -in "$certificate" -signkey {shlex.quote(p.key)} -days -1 -out "$FAULT/expired.pem" || exit 1
mount --bind "$FAULT/expired.pem" "$certificate" || exit 1
{again}"""
    # The kernel's table says what is covered: ours is known by the fault's name.
    uncover = f"""by=/${{FAULT##*/}}/expired.pem
ours() {{ awk -v by="$by" 'index($4, by) {{print $5}}' /proc/self/mountinfo; }}
[ -e "$FAULT/expired.pem" ] || exit 0
ours | while read -r covered; do umount "$covered" || exit 1; done || exit 1
{again} || exit 1
rm "$FAULT/expired.pem\""""
    return Recipe(with_leader(p.service, cover), with_leader(p.service, uncover))


@expire.check
def expired(p: CertificateExpiry, now: Certificate) -> State:
    """An expired one is shown."""
    return {True: State.HOLDS, False: State.ABSENT, None: State.IN_PROGRESS}[now.expired]
