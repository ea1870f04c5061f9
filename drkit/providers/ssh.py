"""SSH: argument lists run on known hosts, and changes that a second holder or a second attempt cannot repeat.

A host whose key is not the one in the environment is never logged in to. `run` is for reading. `change` first compares
the machine-id with the one the plan meant, then runs under a guard *on the host*: a lock named by the idempotency
token, refusal of a lower fencing token and of what arrives when our lease is over (an instant of the host's own
uptime, which it was asked for just before), and a folder that keeps the job's pid, output and exit code, so that
whoever asks again with the same token adopts the job instead of starting a second one. The job outlives our connection.
asyncio only (asyncssh).
"""

from __future__ import annotations

import base64
import hashlib
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

import anyio

from drkit.errors import OutcomeUnknown, Refused, ShutOut, StepFailed, Unobservable, Unreachable
from drkit.model import written
from drkit.model.environment import Environment, Host, SecretRef
from drkit.model.permit import Permit

if TYPE_CHECKING:
    from asyncssh import SSHClientConnection

CONNECT_TIMEOUT_S = 3.0

#: Exit codes of the guard itself; the job's own code is in the first line of its output.
_GUARD_LOCKED, _GUARD_REFUSED, _GUARD_STRANGER, _GUARD_RUNNING, _GUARD_VANISHED, _GUARD_LATE = 90, 91, 92, 93, 94, 96

#: Which boot of the host this is, and for how long it has been up (its CLOCK_BOOTTIME, cut to hundredths of a second).
_BOOT, _UPTIME = "/proc/sys/kernel/random/boot_id", "/proc/uptime"

GUARD = r"""
token=$1 fencing=$2 until=$3 machine=$4 wait_s=$5; shift 5
cd "${DRKIT_HOST_ROOT:-/}" || exit 95
found=$(cat etc/machine-id 2>/dev/null)
[ "$found" = "$machine" ] || { echo "this host is ${found:-without machine-id}, not $machine"; exit 92; }
home=var/lib/drkit job=var/lib/drkit/jobs/$token
mkdir -p "$job" || exit 95
exec 9>"$job/lock" || exit 95
flock -w "$wait_s" 9 || { echo "another holder of $token is at work"; exit 90; }
exec 8>"$home/fence.lock" || exit 95
flock -w 2 8 || { echo "the fencing token cannot be locked"; exit 90; }
highest=$(cat "$home/fence" 2>/dev/null || echo 0)
[ "$fencing" -ge "$highest" ] || { echo "fencing token $fencing is older than $highest"; exit 91; }
echo "$fencing" >"$home/fence.new" && mv "$home/fence.new" "$home/fence"
exec 8>&-
started() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }
alive() { read -r pid born <"$job/pid" 2>/dev/null && [ -n "$born" ] && [ "$(started "$pid")" = "$born" ]; }
vanished() { echo "the job of $token ended without leaving its exit code"; rm -f "$job/pid"; exit 94; }
late() {  # an instant of another boot means nothing here
  [ "$until" != never ] || return 1
  read -r boot </proc/sys/kernel/random/boot_id; read -r up idle </proc/uptime
  [ "$boot" != "${until%:*}" ] || [ "$(echo "$up" | tr -d .)" -ge "${until#*:}" ]
}
adopted=1
if [ -f "$job/exit" ] && [ "$(cat "$job/exit")" = 0 ]; then :
elif [ -f "$job/pid" ] && alive; then :
elif [ -f "$job/pid" ] && [ ! -f "$job/exit" ]; then
  vanished
else
  ! late || { echo "it came after its sender's lease of the environment was over"; exit 96; }
  adopted=0
  rm -f "$job/exit" "$job/pid"
  setsid sh -c 'job=$1; shift
    born=$(sed "s/.*) //" /proc/$$/stat | cut -d" " -f20)
    (set -C; echo "$$ $born" >"$job/pid") 2>/dev/null || exit 0  # a job whose guard was killed got there first
    "$@" >"$job/out" 2>&1; echo $? >"$job/exit.new" && mv "$job/exit.new" "$job/exit"
  ' drkit-job "$job" "$@" </dev/null >/dev/null 2>&1 9>&- &
fi
ticks=$((wait_s * 20))
while [ ! -f "$job/exit" ] && [ "$ticks" -gt 0 ]; do
  if [ -f "$job/pid" ] && ! alive; then sleep 0.05; [ -f "$job/exit" ] || vanished; fi
  sleep 0.05; ticks=$((ticks - 1))
done
[ -f "$job/exit" ] || { echo "the job of $token still runs"; exit 93; }
echo "$adopted $(cat "$job/exit")"; cat "$job/out"
"""


class Secrets(Protocol):
    """What is needed of the run's secrets."""

    def get(self, ref: SecretRef | str) -> str:
        """The secret."""


@dataclass(frozen=True, slots=True)
class Completed:
    """A command that ended on a host. `adopted`: an earlier attempt had started it."""

    exit_code: int
    output: str
    errors: str = ""
    adopted: bool = False


class Ssh:
    """The hosts of one environment: one connection each, opened on first use."""

    def __init__(self, environment: Environment, secrets: Secrets) -> None:
        self._environment = environment
        self._secrets = secrets
        self._open: dict[str, SSHClientConnection] = {}
        self._locks: dict[str, anyio.Lock] = {}

    @classmethod
    def connect(cls, environment: Environment, secrets: Secrets) -> Self:
        """A provider; opens nothing yet."""
        return cls(environment, secrets)

    async def aclose(self) -> None:
        """Close every connection."""
        for connection in self._open.values():
            connection.abort()
        self._open.clear()

    async def login(self, host: str) -> None:
        """Log in anew, past any connection that is open, and leave again. Unreachable, or ShutOut."""
        (await self._connect(self._environment.host(host))).abort()

    async def run(self, host: str, argv: Sequence[str], *, timeout_s: float = 5.0, text: str = "") -> Completed:
        """Run a command that reads, in the host's root (`DRKIT_HOST_ROOT` there, else `/`); `text` is its input.

        Unreachable, ShutOut, or Unobservable if the answer does not come in time. A non-zero exit code is an answer.
        """
        command = f'cd "${{DRKIT_HOST_ROOT:-/}}" && {shlex.join(argv)}'
        return await self._execute(self._environment.host(host), command, timeout_s, text)

    async def change(
        self, host: str, argv: Sequence[str], *, token: str, permit: Permit, timeout_s: float = 20.0
    ) -> Completed:
        """Run a command that changes the host, at most once successfully for each `token`.

        Refused for another machine, an older fencing token or a lease that is over, Unreachable or ShutOut if nothing
        was sent, StepFailed if the command failed, OutcomeUnknown if it may have run or still does.
        """
        with written.writing(f"{shlex.join(argv[:2])} on {host}"):
            return await self._change(host, argv, token, permit, timeout_s)

    async def _change(self, host: str, argv: Sequence[str], token: str, permit: Permit, timeout_s: float) -> Completed:
        meant = self._environment.host(host)
        wait_s = max(1, int(timeout_s))
        until = await self._until(meant, permit)
        guard = ["sh", "-c", GUARD, "drkit-guard", token, str(permit.token), until, meant.machine_id, str(wait_s)]
        try:
            done = await self._execute(meant, shlex.join([*guard, *argv]), timeout_s + 2, "")
        except (Unreachable, ShutOut):
            raise
        except Unobservable as lost:
            raise OutcomeUnknown(f"{lost.message} It may have run; job {token}.") from lost
        return _judged(meant, token, argv, done)

    async def put(self, host: str, path: str, content: bytes, *, token: str, permit: Permit) -> Completed:
        """Make a file on the host have this content, replaced in one instant; errors as `change`.

        It is staged under its digest first, so that what is moved into place is whole.
        """
        digest = hashlib.sha256(content).hexdigest()
        staged = f"var/lib/drkit/stage/{digest}"
        stage = 'mkdir -p var/lib/drkit/stage && base64 -d >"$1.$$" && sha256sum "$1.$$" && mv "$1.$$" "$1"'
        text = base64.b64encode(content).decode()
        done = await self.run(host, ["sh", "-c", stage, "stage", staged], timeout_s=15, text=text)
        if done.exit_code != 0 or not done.output.startswith(digest):
            why = done.errors.strip() or done.output
            raise StepFailed(f"{host} did not take {path}: {why}", world=written.so_far().world)
        move = 'mkdir -p "$(dirname "$2")" && cp "$1" "$2.drkit" && mv "$2.drkit" "$2"'
        argv = ["sh", "-c", move, "put", staged, path]
        name = re.sub(r"[^a-zA-Z0-9-]+", "-", path)
        return await self.change(host, argv, token=f"{token}-{name}-{digest[:12]}", permit=permit)

    async def _until(self, host: Host, permit: Permit) -> str:
        """When the guard must refuse us, `BOOT:HUNDREDTHS` of the host's uptime. ShutOut, or Unreachable if it does not
        say."""
        if permit.lease is None:
            return "never"
        try:
            said = await self._execute(host, f"cat {_BOOT} {_UPTIME}", CONNECT_TIMEOUT_S, "")
            boot, up, *_ = said.output.split()
            until = permit.until(float(up))
        except ShutOut:
            raise
        except Unobservable as silent:
            raise Unreachable(f"{silent.message} Nothing was sent.") from silent
        except ValueError as odd:
            raise Unreachable(f"{_label(host)} does not say for how long it is up; nothing was sent.") from odd
        assert until is not None  # there is a lease
        return f"{boot}:{int(until * 100)}"

    async def _execute(self, host: Host, command: str, timeout_s: float, text: str) -> Completed:
        import asyncssh

        connection = await self._connection(host)
        try:
            with anyio.fail_after(timeout_s):
                done = await connection.run(command, input=text, check=False, encoding="utf-8", errors="replace")
        except TimeoutError as slow:
            self._forget(host)  # the channel may be dead: the next question gets a new connection
            raise Unobservable(f"{_label(host)} gave no answer within {timeout_s:g} s.") from slow
        except (asyncssh.Error, OSError) as error:
            self._forget(host)
            raise Unobservable(f"{_label(host)}: {_said(error)}.") from error
        if done.exit_status is None or done.exit_status < 0:
            self._forget(host)
            raise Unobservable(f"{_label(host)} dropped the connection before the command ended.")
        return Completed(done.exit_status, _text(done.stdout), _text(done.stderr))

    async def _connection(self, host: Host) -> SSHClientConnection:
        async with self._locks.setdefault(host.name, anyio.Lock()):
            held = self._open.get(host.name)
            if held is None or held.is_closed():
                held = self._open[host.name] = await self._connect(host)
            return held

    async def _connect(self, host: Host) -> SSHClientConnection:
        import asyncssh

        try:
            key = asyncssh.import_private_key(self._secrets.get(host.key))
            known = asyncssh.import_public_key(host.known_host)
        except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as odd:
            raise _shut_out(host, f"a key that is written down for it cannot be read: {_said(odd)}") from odd
        try:
            with anyio.fail_after(CONNECT_TIMEOUT_S):
                return await asyncssh.connect(
                    host.address.host,
                    host.address.port,
                    username=host.user,
                    client_keys=[key],
                    known_hosts=([known], [], []),
                    config=None,
                    agent_path=None,
                    preferred_auth="publickey",
                    keepalive_interval=2,
                    keepalive_count_max=2,
                )
        except TimeoutError as slow:
            raise Unreachable(f"{_label(host)} did not answer within {CONNECT_TIMEOUT_S:g} s.") from slow
        except asyncssh.HostKeyNotVerifiable as stranger:
            raise _shut_out(host, "it showed a host key that is not the known one") from stranger
        except _never() as refused:
            raise _shut_out(host, f"it refused the login: {_said(refused)}") from refused
        except (asyncssh.Error, OSError) as error:
            raise Unreachable(f"{_label(host)} cannot be logged in to: {_said(error)}.") from error

    def _forget(self, host: Host) -> None:
        connection = self._open.pop(host.name, None)
        if connection is not None:
            connection.abort()


def _judged(host: Host, token: str, argv: Sequence[str], done: Completed) -> Completed:
    """What the guard's answer means."""
    said = done.output.strip() or done.errors.strip()
    if done.exit_code in (_GUARD_REFUSED, _GUARD_STRANGER, _GUARD_LATE):
        raise Refused(f"{_label(host)} refused: {said}.")
    if done.exit_code in (_GUARD_LOCKED, _GUARD_RUNNING, _GUARD_VANISHED):
        raise OutcomeUnknown(f"{_label(host)}: {said}.")
    if done.exit_code != 0:
        world = written.so_far().world
        raise StepFailed(f"{_label(host)}: the guard could not run: {done.errors.strip() or said}.", world=world)
    first, _, output = done.output.partition("\n")
    adopted, exit_code = first.split()
    if exit_code != "0":
        last = (output.strip().splitlines() or ["no output"])[-1]
        raise StepFailed(f"{shlex.join(argv)} on {host.name} ended with {exit_code}: {last}", world="unknown")
    return Completed(0, output, adopted=adopted == "1")


def _never() -> tuple[type[Exception], ...]:
    """How a login ends that will end so again: the key does not count, or both sides have no way in common."""
    import asyncssh

    return (
        asyncssh.PermissionDenied, asyncssh.IllegalUserName, asyncssh.KeyExchangeFailed, asyncssh.ProtocolNotSupported,
    )  # fmt: skip


def _shut_out(host: Host, why: str) -> ShutOut:
    hint = f"ssh -p {host.address.port} {host.user}@{host.address.host} true"
    return ShutOut(f"{_label(host)} cannot be logged in to: {why}.", hint=hint)


def _label(host: Host) -> str:
    return f"host {host.name} in {host.site} ({host.address})"


def _said(error: Any) -> str:
    return (str(error).strip() or type(error).__name__).rstrip(".")


def _text(output: object) -> str:
    return output if isinstance(output, str) else ""
