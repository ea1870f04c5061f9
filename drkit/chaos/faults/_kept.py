"""What faults keep running on a host: the processes of each fault's session, as the kernel lists them."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from drkit.catalog import probe
from drkit.chaos.onhost import SESSION, OnHost, known
from drkit.context import Context
from drkit.errors import Unobservable
from drkit.model.observation import Observation
from drkit.providers.ssh import Ssh


class Kept(BaseModel):
    """What one fault keeps running."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    processes: int
    stopped: int = 0
    """How many of them the kernel does not schedule."""
    held_bytes: int = 0
    """Memory that they occupy."""


class AllKept(Observation):
    """What every fault of the host keeps running; a fault that keeps nothing is not among them."""

    kept: tuple[Kept, ...] = ()

    def of(self, key: str) -> Kept:
        """What the fault `key` keeps running."""
        return next((one for one in self.kept if one.key == key), Kept(key=key, processes=0))


#: Shell: a line for each process that a fault keeps: `kept`, key, pid, start time, state, resident bytes.
LIST_KEPT = f"""{SESSION}page=$(getconf PAGESIZE)
for f in var/lib/drkit/faults/*/injector; do
  [ -f "$f" ] && read -r pid born <"$f" || continue
  key=${{f%/injector}}
  session "$pid" "$born" | while read -r one born state pages; do
    echo "kept ${{key##*/}} $one $born $state $((pages * page))"
  done
done
"""


@probe("host.kept")
async def kept(ctx: Context, p: OnHost) -> AllKept:
    """What faults keep running on a host: processes that burn or hold something."""
    return AllKept(answered_by=p.host, kept=listed(await said(ctx, p, LIST_KEPT)))


async def said(ctx: Context, p: OnHost, script: str, *args: str) -> str:
    """What a script that only looks says on a host. Unobservable if it fails."""
    host = known(ctx, p.host)
    path = "PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin\n"
    done = await ctx.use(Ssh).run(host.name, ["sh", "-c", path + script, "look", *args])
    if done.exit_code != 0:
        why = (done.errors.strip() or done.output.strip() or "it said nothing").splitlines()[-1]
        raise Unobservable(f"{host.name} cannot tell what is there: {why}")
    return done.output


def listed(output: str) -> tuple[Kept, ...]:
    """The lines of `LIST_KEPT`, a fault each."""
    found: dict[str, list[list[str]]] = {}
    for line in output.splitlines():
        if line.startswith("kept "):
            _, key, *rest = line.split()
            found.setdefault(key, []).append(rest)
    return tuple(
        Kept(
            key=key, processes=len(rows), stopped=sum(state == "T" for _, _, state, _ in rows),
            held_bytes=sum(int(held) for *_, held in rows),
        )
        for key, rows in found.items()
    )  # fmt: skip
