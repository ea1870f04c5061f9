"""The processes of a host's service, as shell that a fault's recipe and its observation share."""

from __future__ import annotations

import shlex
from typing import Final

from drkit.chaos.onhost import SESSION, OnHost, known
from drkit.context import Context
from drkit.errors import Unobservable
from drkit.model.observation import Observation
from drkit.providers.ssh import Ssh


class Service(OnHost):
    """A service of a host."""

    service: str
    """Name the host's service manager knows it by."""


class Processes(Observation):
    """The processes of a service; 0: it does not run."""

    processes: int
    stopped: int
    """How many of them the kernel does not schedule."""


# Under `svc` a service leads a session of its own, and all that it starts is in that session. Under systemd all that it
# starts is in its control group: many daemons give their children sessions of their own.
_LEADER = r"""leader_of() { # a service: pid, or nothing if it does not run
  found=$(svc status "$1" 2>/dev/null | sed -n 's/.*"pid": *\([0-9][0-9]*\).*/\1/p')
  [ -n "$found" ] || found=$(systemctl show -p MainPID --value "$1" 2>/dev/null)
  [ "${found:-0}" -eq 0 ] || echo "$found"
}
keeper_of() { # a service: folder of the control group in which systemd keeps it; nothing where something else does
  ! command -v svc >/dev/null || return 0
  within=$(systemctl show -p ControlGroup --value "$1" 2>/dev/null)
  [ -z "$within" ] || sed -n 's/^[^ ]* \([^ ]*\) cgroup2 .*/\1/p; s/^[^ ]* \([^ ]*\) cgroup [^ ]*name=systemd.*/\1/p' \
    /proc/mounts | while read -r top; do [ ! -d "$top$within" ] || echo "$top$within"; done | head -n 1
}
members() { # of the service with this leader and this keeper, as `session` lists them
  if [ -n "$2" ]; then
    find "$2" -name cgroup.procs -exec cat {} + 2>/dev/null | while read -r pid; do cat "/proc/$pid/stat"; done \
      2>/dev/null | alive 1 1
  elif [ -n "$1" ]; then session "$1"; fi
}
manage() { # start, stop or restart a service; systemd would not start what has failed too often
  if command -v svc >/dev/null; then svc "$@"
  else systemctl reset-failed "$2" 2>/dev/null; systemctl "$@"; fi
}
"""


def with_leader(service: str, script: str) -> str:
    """A script in which `leader_of`, `keeper_of`, `members` and `manage` tell and change what runs of `$service`."""
    return f"{SESSION}{_LEADER}service={shlex.quote(service)}\n{script}"


#: Inject: the service runs, and whoever reverts knows that it did. Revert: it runs again, if it did.
RUNS: Final = """[ -n "$(leader_of "$service")" ] || { echo "$service does not run"; exit 1; }
echo yes >"$FAULT/ran" || exit 1
"""
RUN_AGAIN: Final = """[ ! -e "$FAULT/ran" ] || manage start "$service"
"""

_LIST = 'members "$(leader_of "$service")" "$(keeper_of "$service")"'


async def look(ctx: Context, p: Service) -> Processes:
    """Count them. Unobservable if the host does not answer."""
    host = known(ctx, p.host)
    done = await ctx.use(Ssh).run(host.name, ["sh", "-c", with_leader(p.service, _LIST)])
    if done.exit_code != 0:
        raise Unobservable(f"the processes of {p.service} on {host.name} cannot be listed: {done.errors.strip()}")
    states = [line.split()[2] for line in done.output.splitlines()]
    return Processes(answered_by=host.name, processes=len(states), stopped=sum(state == "T" for state in states))
