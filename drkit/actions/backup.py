"""backup.newest: what a restore would begin with, and whether it is a backup at all.

A place that holds something new and large is no proof: a backup is believed when it says itself when it began, and
when every file that its own manifest names is there with the right content.
"""

from __future__ import annotations

from typing import Final

from drkit.catalog import probe
from drkit.context import Context
from drkit.errors import Refused, Unobservable
from drkit.model.observation import Observation
from drkit.model.params import Params
from drkit.providers.ssh import Ssh


class BackupPlace(Params):
    """Where base backups of PostgreSQL are kept on a host."""

    host: str
    """Name of the host in the environment."""
    path: str
    """Folder with a folder for each backup, as the host names it."""
    content: bool = True
    """Whether what is in each file is compared, which reads all of it; else only that it is there, with its size."""
    timeout_s: float = 60.0
    """How long that may take, in seconds."""


class Newest(Observation):
    """The newest backup of a place. Null: there is none, or it does not say."""

    name: str | None
    files: int
    age_h: float | None
    """Since it began, as its own label says; what the file system says is not believed."""
    complete: bool
    """Every file of its manifest is there, and is what it was."""
    why: str | None = None
    """Why it is not complete."""


#: Answers a line each: machine-id, name, files, seconds since it began, how the verification ended, and its last word.
#: (`pg_verifybackup` wants the log too, which a place may keep elsewhere: then only the files are verified.)
_LOOK: Final = r"""cat etc/machine-id
cd -- "$1" || exit 1
newest=$(ls -t | while read -r one; do if [ -d "$one" ] && [ ! -L "$one" ]; then echo "$one"; fi; done | sed -n 1p)
[ -n "$newest" ] || exit 0
echo "$newest"
find "$newest" -type f | wc -l
began=$(sed -n 's/^START TIME: //p' "$newest/backup_label" 2>/dev/null)
[ -z "$began" ] || echo $(($(date +%s) - $(date -d "$began" +%s)))
[ -n "$began" ] || echo unknown
ls "$newest/pg_wal" 2>/dev/null | grep -Eq '^[0-9A-F]{24}$' && log= || log=--no-parse-wal
said=$(pg_verifybackup --quiet $2 $log "$newest" 2>&1)
echo $?
echo "$said" | sed -n '$p'
"""


@probe("backup.newest", side="neither")
async def newest(ctx: Context, p: BackupPlace) -> Newest:
    """Look at the newest base backup in a place on a host: when it began, and whether all of it is there."""
    try:
        host = ctx.environment.host(p.host)
    except KeyError as error:
        raise Refused(f"there is no host {error.args[0]}", hint="drkit doctor") from error
    argv = ["sh", "-c", _LOOK, "look", p.path, "" if p.content else "--skip-checksums"]
    done = await ctx.use(Ssh).run(host.name, argv, timeout_s=p.timeout_s)
    machine_id, *said = done.output.splitlines() or [""]
    if machine_id != host.machine_id:
        raise Unobservable(f"Host {host.name} has machine-id {machine_id}, not {host.machine_id}.")
    if done.exit_code != 0:
        raise Unobservable(f"{p.path} on {host.name} cannot be looked at: {done.errors.strip()}.")
    return judged(said, answered_by=machine_id)


#: The shell found no `pg_verifybackup`: then nothing is known, not even that a backup is bad.
_NO_TOOL: Final = 127


def judged(said: list[str], answered_by: str | None = None) -> Newest:
    """What the lines of a place amount to. Pure. Unobservable where nothing could verify it."""
    if not said:
        return Newest(name=None, files=0, age_h=None, complete=False, why="there is no backup", answered_by=answered_by)
    name, files, age_s, code, *rest = said
    if int(code) == _NO_TOOL:
        raise Unobservable(f"{name} cannot be verified there: {''.join(rest)}.")
    began = age_s != "unknown"
    why = "".join(rest) or f"its verification ended with {code}" if int(code) else None
    if why is None and not began:
        why = "it does not say when it began"
    return Newest(
        name=name, files=int(files), age_h=round(int(age_s) / 3600, 3) if began else None, complete=why is None,
        why=why, answered_by=answered_by,
    )  # fmt: skip
