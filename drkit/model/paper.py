"""Commands on paper: shell lines with standard tools, for people who go on by hand. Pure.

Everything is quoted here, once. A secret is read by the line that needs it and handed over in an environment variable
or by its file's name: none is on the paper, and none among the arguments of a process. Lines that begin with `# ` are
words; a shell leaves them out.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal
from urllib.parse import urlsplit

from drkit.model.environment import Address, Database, Environment, Host, SecretRef, Site

SSH_CONFIG, KNOWN_HOSTS = "drkit-ssh-config", "drkit-known-hosts"
#: Answers within seconds or not at all: a dead side must not keep anybody waiting.
PATIENCE_S = 5


class Raw(str):
    """Part of a command that the shell is to read as it stands: a variable, a command in its place."""


Value = str | int | float | bool | list[str] | list[dict[str, object]] | dict[str, object]


def var(name: str) -> Raw:
    """The value of a shell variable that a line before has set."""
    return Raw(f'"${name}"')


def lines(*parts: str | Iterable[str]) -> str:
    """A block of lines from lines and lists of them."""
    return "\n".join(line for part in parts for line in ([part] if isinstance(part, str) else part))


def keep(name: str, command: str) -> str:
    """A line that keeps what a command prints in a shell variable."""
    return f'{name}="$({command})"'


def literal(text: str) -> str:
    """A text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def quoted(value: Value) -> str:
    """A value as one word of a shell line (a list of texts as several)."""
    if isinstance(value, Raw):
        return value
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return " ".join(quoted(str(each) if not isinstance(each, Raw) else each) for each in value)
    return shlex.quote(json.dumps(value) if isinstance(value, list | dict) else str(value))


def curl(
    url: str, *, method: str = "GET", body: Mapping[str, object] | None = None, pin: Address | None = None,
    headers: bool = False, body_from: str = "",
) -> str:  # fmt: skip
    """A request. `pin`: where to connect, whatever DNS says. `headers`: show them too. `body_from`: `-` or `@file`."""
    words = ["curl", "-sS", "-m", str(PATIENCE_S)]
    words += ["-i"] if headers else []
    words += ["-X", method] if method != "GET" else []
    words += _pinned(url, pin) if pin else []
    if body is not None or body_from:
        words += ["-H", "content-type: application/json", "--data-binary", body_from or json.dumps(body)]
    return shlex.join([*words, url])


def _pinned(url: str, pin: Address) -> list[str]:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    if pin.port == port:
        return ["--resolve", f"{parts.hostname}:{port}:{pin.host}"]
    return ["--connect-to", f"{parts.hostname}:{port}:{pin}"]  # `--resolve` cannot lead to another port


def dig(server: Address, name: str) -> str:
    """What a DNS server says of a name, with how long resolvers may keep it."""
    return shlex.join(
        ["dig", f"@{server.host}", "-p", str(server.port), name, "A", "+noall", "+answer", "+time=2", "+tries=1"]
    )


def mail(server: str, sender: str, recipient: str, subject: str, text: str) -> str:
    """A mail, handed to an SMTP server (`smtp://host:port`)."""
    message = f"From: {sender}\nTo: {recipient}\nSubject: {subject}\n\n{text}\n"
    send = ["curl", "-sS", "-m", str(PATIENCE_S), server, "--mail-from", sender, "--mail-rcpt", recipient, "-T", "-"]
    body = " ".join(shlex.quote(line) for line in message.splitlines())
    return f"printf '%s\\r\\n' {body} | {shlex.join(send)}"


@dataclass(frozen=True)
class Paper:
    """Where commands on paper lead: the environment, and which of its sites is left and which entered."""

    environment: Environment
    source: str
    target: str
    mode: Literal["graceful", "ungraceful"] = "ungraceful"
    drill: bool = False

    def site(self, name: str) -> Site:
        """The site called `name`, or the one in the role `source` or `target`. KeyError if there is none."""
        return self.environment.site({"source": self.source, "target": self.target}.get(name, name))

    def database(self, name: str, site: str) -> Database:
        """The side of a database in a site. KeyError if there is none."""
        return self.environment.database(name, self.site(site).name)

    def hosts(self, site: str, role: str) -> list[Host]:
        """Hosts in a role on a site. KeyError if there is none."""
        where = self.site(site).name
        found = [host for host in self.environment.hosts if host.site == where and role in host.roles]
        if not found:
            raise KeyError(f"host in the role {role} in {where}")
        return found

    def aws(self, site: str, call: str, *, query: str = "", out: str = "", **values: Value) -> str:
        """A line of the AWS CLI (`ssm get-parameter`, name=…); `query` makes its answer plain text.

        True and False become `--name` and `--no-name`. `out`: the file that `s3api get-object` writes.
        """
        where = self.site(site)
        return " ".join(_call(where, where.name, where.aws_endpoint, call, query, out, values))

    def routing(self, site: Site, call: str, *, query: str = "", **values: Value) -> str:
        """A line of the AWS CLI for the routing controls' data plane, at the endpoint of a site."""
        region = site.name if site.kind == "region" else self.environment.regions[-1]
        call = f"route53-recovery-cluster {call}"
        return " ".join(_call(site, region, site.routing_endpoint, call, query, "", values))

    def routing_sites(self) -> list[Site]:
        """Sites with a routing endpoint, that of the side being left last."""
        found = [site for site in self.environment.sites if site.routing_endpoint]
        return sorted(found, key=lambda site: site.name == self.source)

    def psql(self, name: str, site: str, sql: str, *, bare: bool = False) -> str:
        """A statement sent to one side of a database; `bare`: values only, one row a line."""
        side = self.database(name, site)
        return (
            f"PGPASSWORD={self.secret(side.password)} {login(side, side.user)}{' -At' if bare else ''} -c {quoted(sql)}"
        )

    def psql_generated(self, name: str, site: str, sql: str) -> str:
        """A statement whose rows are statements, which are then sent in turn."""
        side = self.database(name, site)
        asked = f"printf '%s\\n' {quoted(sql + chr(10) + chr(92) + 'gexec')}"
        return f"{asked} | PGPASSWORD={self.secret(side.password)} {login(side, side.user)}"

    def ssh(self, host: Host, command: str, *, change: bool = False) -> str:
        """A command run in a host's root; a change only on the machine that was meant."""
        root = '"${DRKIT_HOST_ROOT:-/}"' if self.environment.kind == "sandbox" else "/"
        sure = f"grep -qx {shlex.quote(host.machine_id)} etc/machine-id && " if change else ""
        return f"ssh -F ~/{SSH_CONFIG} {shlex.quote(host.name)} {shlex.quote(f'cd {root} && {sure}{command}')}"

    def on_each(self, site: str, role: str, command: str, *, change: bool = False) -> list[str]:
        """The same on every host in a role on a site, a line each."""
        return [self.ssh(host, command, change=change) for host in self.hosts(site, role)]

    def secret(self, ref: SecretRef) -> str:
        """What stands for a secret in a command: the command that reads it, in its place."""
        kind, _, rest = ref.ref.removeprefix("secret://").partition("/")
        if kind == "env":
            return f'"${rest}"'
        return f'"$({self.reading(ref)})"'

    def reading(self, ref: SecretRef) -> str:
        """The command that prints a secret."""
        kind, _, rest = ref.ref.removeprefix("secret://").partition("/")
        if kind == "file":
            return f"cat {shlex.quote('/' + rest.lstrip('/'))}"
        if kind == "env":
            return f"printenv {shlex.quote(rest)}"
        region, _, name = rest.partition("/")
        return self.aws(region, "secretsmanager get-secret-value", secret_id=name, query="SecretString")

    def service(self) -> str:
        """Base URL of what users use. KeyError if the environment names no service."""
        known = self.environment.service
        if known is None:
            raise KeyError("a service")
        return f"{known.scheme}://{known.hostname}:{known.port}"

    def entry(self, site: str) -> Address:
        """Where users enter a site. KeyError if it has no entry."""
        edge = self.site(site).edge
        if edge is None:
            raise KeyError(f"an entry in {site}")
        return edge


def tried(line: str) -> str:
    """A line that asks the side being left: silence is written down, not waited for."""
    return f"timeout 10 {line} || echo UNREACHABLE" if line.startswith("aws ") else f"{line} || echo UNREACHABLE"


def login(side: Database, user: Value) -> str:
    """`psql` at one side of a database, without the password."""
    where = f"-h {quoted(side.address.host)} -p {side.address.port} -U {quoted(user)} -d {quoted(side.dbname)}"
    return f"PGCONNECT_TIMEOUT={PATIENCE_S} psql -X -P pager=off {where}"


def on_loopback(url: str | None) -> bool:
    """True if a URL names a loopback address literally: a name could be made to point elsewhere."""
    host = urlsplit(url).hostname if url else None
    try:
        return host is not None and ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _call(
    site: Site, region: str, endpoint: str | None, call: str, query: str, out: str, values: Mapping[str, Value]
) -> Iterable[str]:
    yield f"aws {call} --region {shlex.quote(region)}"
    if endpoint:
        yield f"--endpoint-url {shlex.quote(endpoint)}"
    for name, value in values.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            yield f"--{flag}" if value else f"--no-{flag}"
        else:
            yield f"--{flag} {quoted(value)}"
    if query:
        yield f"--query {quoted(query)} --output text"
    if out:
        yield shlex.quote(out)
