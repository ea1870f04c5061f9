"""What must be set up before anything on paper can be pasted: tools, credentials, hosts and their keys. Pure."""

from __future__ import annotations

import shlex

from drkit.model.environment import Address, Environment, Host, SecretRef
from drkit.model.paper import KNOWN_HOSTS, SSH_CONFIG, Paper, on_loopback


def preparation(environment: Environment) -> list[str]:
    """Shell lines and words; they change nothing but two files in the home of whoever pastes them."""
    paper = Paper(environment, "", "")
    return [
        "# BEFORE YOU BEGIN, in every terminal (bash; the tools are aws, psql, ssh, curl and jq):",
        "",
        "set +H    # an exclamation mark is only that",
        "export AWS_PAGER= AWS_MAX_ATTEMPTS=2 AWS_STS_REGIONAL_ENDPOINTS=regional",
        *_credentials(environment),
        *_ssh(environment, paper),
        *_databases(environment, paper),
    ]


def _credentials(environment: Environment) -> list[str]:
    if all(on_loopback(site.aws_endpoint) for site in environment.sites if site.kind == "region"):
        return [
            "export AWS_ACCESS_KEY_ID=drkit AWS_SECRET_ACCESS_KEY=drkit    # taken by endpoints on this machine only"
        ]
    return [
        f"# Log in to AWS as the break-glass role of account {environment.account}, through the region entered.",
    ]


def _ssh(environment: Environment, paper: Paper) -> list[str]:
    """A configuration in which every host has its name, its key, and the one host key that is believed."""
    if not environment.hosts:
        return []
    files = {ref: _key_file(ref, number) for number, ref in enumerate(dict.fromkeys(h.key for h in environment.hosts))}
    fetched = [
        f'(umask 077; {paper.reading(ref)} >"$HOME/{name}")' for ref, name in files.items() if not name.startswith("/")
    ]
    known = [f"{host.name} {host.known_host}" for host in environment.hosts]
    return [
        *fetched,
        f"cat >~/{KNOWN_HOSTS} <<'END'",
        *known,
        "END",
        f"cat >~/{SSH_CONFIG} <<'END'",
        *(line for host in environment.hosts for line in _host(host, files[host.key])),
        "END",
    ]


def _key_file(ref: SecretRef, number: int) -> str:
    kind, _, rest = ref.ref.removeprefix("secret://").partition("/")
    return "/" + rest.lstrip("/") if kind == "file" else f"drkit-key-{number + 1}"


def _host(host: Host, key: str) -> list[str]:
    where = key if key.startswith("/") else "${HOME}/" + key
    settings = {
        "HostName": host.address.host, "Port": str(host.address.port), "User": host.user, "IdentityFile": f'"{where}"',
        "IdentitiesOnly": "yes", "IdentityAgent": "none", "HostKeyAlias": host.name, "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": "${HOME}/" + KNOWN_HOSTS, "GlobalKnownHostsFile": "/dev/null", "BatchMode": "yes",
        "ConnectTimeout": "5", "ServerAliveInterval": "2", "ServerAliveCountMax": "2", "LogLevel": "ERROR",
    }  # fmt: skip
    return [f"Host {host.name}", *(f"  {name} {value}" for name, value in settings.items())]


def _databases(environment: Environment, paper: Paper) -> list[str]:
    """Who is who: the address of each side, and where its password is kept."""
    told = []
    for side in environment.databases:
        where: Address = side.address
        told.append(
            f"# database {side.name} in {side.site}: {where}, system {side.system_identifier};"
            f" the password is {shlex.quote(side.password.ref)}"
        )
    return told
