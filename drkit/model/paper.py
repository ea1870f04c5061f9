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
from urllib.parse import urlsplit

from drkit.model.environment import Database, Environment, Host, SecretRef, Site

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


def curl(url: str, *, method: str = "GET", body: Mapping[str, object] | None = None) -> str:
    """A request, with a JSON body if there is one."""
    words = ["curl", "-sS", "-m", str(PATIENCE_S)]
    words += ["-X", method] if method != "GET" else []
    if body is not None:
        words += ["-H", "content-type: application/json", "--data-binary", json.dumps(body)]
    return shlex.join([*words, url])


@dataclass(frozen=True)
class Paper:
    """Where commands on paper lead: the environment, and which of its sites is left and which entered."""

    environment: Environment
    source: str
    target: str

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

    def psql(self, name: str, site: str, sql: str, *, bare: bool = False) -> str:
        """A statement sent to one side of a database; `bare`: values only, one row a line."""
        side = self.database(name, site)
        password, asked = self.secret(side.password), " ".join(line.strip() for line in sql.splitlines())
        return f"PGPASSWORD={password} {login(side, side.user)}{' -At' if bare else ''} -c {quoted(asked)}"

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


def if_it_answers(line: str) -> str:
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
