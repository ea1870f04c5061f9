"""Where runs live: a folder each, `$XDG_STATE_HOME/drkit/runs/<id>`, private unless shared on purpose (`sharing`).

`request.json` is everything a runner needs and holds no secret; `journal.db` is the truth; `runner.json` says which
process carries the run out; `exit.json` how it ended. A folder without a journal is a run that never began.
"""

from __future__ import annotations

import difflib
import json
import os
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from drkit.engine import sharing
from drkit.engine.identity import ProcessId, this_process
from drkit.errors import JournalError, UsageError

if TYPE_CHECKING:
    from drkit.engine.requests import Request as Request
    from drkit.engine.requests import Start as Start

ALPHABET: Final = "23456789abcdefghjkmnpqrstvwxyz"  # nothing that is read aloud or written by hand as something else
_ID_LENGTH: Final = 4


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of one run."""

    path: Path

    @property
    def id(self) -> str:
        """Run id."""
        return self.path.name

    @property
    def journal(self) -> Path:
        """SQLite file."""
        return self.path / "journal.db"

    @property
    def log(self) -> Path:
        """What the runner prints, tracebacks included."""
        return self.path / "runner.log"

    @property
    def socket(self) -> Path:
        """Where the runner takes orders."""
        return self.path / "inbox.sock"

    @property
    def spool(self) -> Path:
        """Orders given while nobody listened."""
        return self.path / "spool"

    def request(self) -> Request:
        """What was asked. JournalError if it is not there."""
        from drkit.engine.requests import Request

        path = self.path / "request.json"
        try:
            return Request.from_bytes(path.read_bytes(), str(path))
        except OSError as error:
            raise JournalError(
                f"run {self.id} has no request: {error.strerror}", state="Nothing was changed."
            ) from error

    def ask(self, request: Request) -> None:
        """Write what a runner is asked to do, durably."""
        write_durably(self.path / "request.json", request.to_bytes())

    def plan_start(self, start: Start) -> None:
        """Write how the next runner is to begin."""
        write_durably(self.path / "start.json", start.model_dump_json(indent=1).encode())

    def take_start(self) -> Start | None:
        """How to begin, if somebody said so; asked once."""
        from drkit.engine.requests import Start

        path = self.path / "start.json"
        data = _read_json(path)
        path.unlink(missing_ok=True)
        return None if data is None else Start.model_validate(data)

    def runner(self) -> ProcessId | None:
        """The process that carries or last carried this run out, dead or alive; None if there never was one."""
        data = _read_json(self.path / "runner.json")
        return None if data is None else ProcessId(int(data["pid"]), int(data["start"]), str(data["machine"]))

    def claim(self) -> None:
        """This process carries the run out. (Which one may write is decided by the journal's lock, not by this.)"""
        write_durably(self.path / "runner.json", json.dumps(this_process().to_json()).encode())

    def ended(self) -> dict[str, Any] | None:
        """What the last runner left behind: `exit`, `outcome`, `why`, `head`; None: it runs or was killed."""
        return _read_json(self.path / "exit.json")

    def end(self, data: dict[str, Any] | None) -> None:
        """Write how the runner ended; None: it has begun again."""
        if data is None:
            (self.path / "exit.json").unlink(missing_ok=True)
        else:
            write_durably(self.path / "exit.json", json.dumps(data, indent=1).encode())

    def discard(self) -> None:
        """Remove a run that never began. A folder with a journal stays, whatever is asked."""
        if not self.journal.exists():
            shutil.rmtree(self.path, ignore_errors=True)


def __getattr__(name: str) -> Any:
    """`Request` and `Start`, on first use: who only looks for folders needs no models."""
    if name not in ("Request", "Start"):
        raise AttributeError(name)
    from drkit.engine import requests

    return getattr(requests, name)


def state_home() -> Path:
    """`$XDG_STATE_HOME/drkit`."""
    from platformdirs import user_state_path

    return user_state_path("drkit")


def new(home: Path | None = None, *, taken: Callable[[str], bool] = lambda run: False) -> RunFolder:
    """A new, empty run folder. `taken` says whether an id is in use elsewhere (in the state store).

    UsageError if the folder cannot be made.
    """
    runs = (home or state_home()) / "runs"
    try:
        sharing.make_runs(runs)
        while True:
            id = "".join(secrets.choice(ALPHABET) for _ in range(_ID_LENGTH))
            if id[0].isdigit() or id == "last" or taken(id):
                continue
            try:
                (runs / id).mkdir(mode=0o700)  # atomic: two commands cannot get the same id
            except FileExistsError:
                continue
            (runs / id / "spool").mkdir(mode=0o700)
            sharing.admit(runs / id)
            return RunFolder(runs / id)
    except OSError as error:
        raise UsageError(
            f"no run can be kept in {runs}: {error.strerror}", hint="export XDG_STATE_HOME=/var/tmp/drkit-state"
        ) from error


def adopt(id: str, home: Path | None = None) -> RunFolder:
    """The folder of a run that began on another machine, made if it is not there."""
    runs = (home or state_home()) / "runs"
    sharing.make_runs(runs)
    path = runs / id
    (path / "spool").mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)
    sharing.admit(path)
    return RunFolder(path)


def all_runs(home: Path | None = None) -> list[RunFolder]:
    """Every run of this state folder that was asked for, oldest first. UsageError if it is somebody else's alone."""
    runs = (home or state_home()) / "runs"
    try:
        if not runs.is_dir():
            return []
        asked = [(path / "request.json", path) for path in runs.iterdir()]
        dated = sorted((request.stat().st_mtime_ns, path) for request, path in asked if request.exists())
    except PermissionError as error:
        raise UsageError(f"{error.filename} is not shared with you", hint="drkit help approvals") from error
    return [RunFolder(path) for _, path in dated]


def find(run: str, home: Path | None = None) -> RunFolder:
    """The folder of `run`, or of the newest one for `last`. UsageError names the closest ids."""
    known = all_runs(home)
    if run == "last":
        if not known:
            raise UsageError("there is no run on this machine yet", hint="drkit plan --region REGION")
        return known[-1]
    for folder in known:
        if folder.id == run:
            return folder
    ids = [folder.id for folder in known]
    close = difflib.get_close_matches(run, ids, n=3, cutoff=0.5)
    raise UsageError(
        f'there is no run "{run}" on this machine' + (f"; did you mean {' or '.join(close)}?" if close else ""),
        hint="drkit runs" if ids else f"drkit resume {run} --state URL",
    )


def alive(folder: RunFolder) -> bool:
    """A runner carries this run out right now, on this machine."""
    runner = folder.runner()
    return runner is not None and runner.here and not runner.dead


def write_durably(path: Path, data: bytes) -> None:
    """Replace a file as a whole: whoever reads it, also after a crash, sees the old content or the new. OSError."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with draft.open("wb") as file:
        os.fchmod(file.fileno(), sharing.file_mode(path.parent))
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        data: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise JournalError(f"{path} cannot be read: {error}", state="Nothing was changed.") from error
    return data
