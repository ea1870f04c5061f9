"""The four verbs of the sandbox: `up`, `status`, `down`, `load`.

`up` starts the supervisor in a session of its own and returns when everything is ready. `down` needs nobody's help: it
finds what belongs to the world by the marks in the processes' environment, so it also works after everything of ours
was killed with -9. A folder holds one world; a second `up` on it is refused.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from drkit.errors import DrkitError, Refused
from drkit.model.environment import Environment
from drkit.sandbox import postgres
from drkit.sandbox.layout import REGIONS, Folders, Replication, Settings, default_folder
from drkit.sandbox.processes import SITE_VARIABLE, WORLD_VARIABLE, Process, kill_all, of_world, wait_gone

UP_WITHIN_S = 180.0
_FREE_BYTES_MIN = 400 << 20
_SOCKET_PATH_MAX = 100

__all__ = ["default_folder", "down", "load", "status", "up"]


def up(
    folder: Path,
    *,
    link_delay_s: float = 0.05,
    replication: Replication = "async",
    tell: Callable[[str], None] = lambda _: None,
) -> Environment:
    """Build the world in `folder` and return its environment when every part is ready.

    `link_delay_s` is the one-way delay of the replication link. `tell` hears which part is ready. Raises DrkitError
    naming the part that failed and its log; nothing is left running then.
    """
    folder = folder.absolute()
    folders = Folders(folder)
    with _only_one(folder, "up"):
        if (running := _supervisor(folders)) is not None:
            raise Refused(
                f"a sandbox is already up in {folder} (supervisor {running.pid})",
                hint="drkit sandbox down",
                code="E0804",
            )
        _clean(folders)
        if any(folder.iterdir()):
            raise Refused(f"{folder} is not empty and not a sandbox; it is left alone", code="E0807")
        try:
            _prepare(folders, Settings(link_delay_s, replication))
            _launch(folders, tell)
        except OSError as error:
            _stop(folders)
            raise _explained(error, folder) from error
        except BaseException:
            _stop(folders)
            raise
    return load(folder)


def load(folder: Path) -> Environment:
    """The environment of the world that is up in `folder`. Raises DrkitError if there is none."""
    folders = Folders(folder.absolute())
    if _supervisor(folders) is None or not folders.environment.exists():
        raise DrkitError("the sandbox is not running", hint="drkit sandbox up", code="E0806")
    return Environment.model_validate_json(folders.environment.read_text())


def status(folder: Path) -> dict[str, Any]:
    """What runs, as the supervisor says: `{"up": bool, "parts": [...], "links": [...], "outages": [...]}`.

    `up` is False if there is no supervisor; `left` then counts processes of the world that are still there.
    """
    folders = Folders(folder.absolute())
    if _supervisor(folders) is None:
        return {"up": False, "left": len(of_world(folders.world)), "folder": str(folders.world)}
    import urllib.request

    url = json.loads(folders.supervisor.read_text())["control"]
    try:
        with urllib.request.urlopen(f"{url}/status", timeout=5) as reply:
            found: dict[str, Any] = json.load(reply)
    except OSError as error:
        raise DrkitError(f"the sandbox's supervisor does not answer: {error}", hint="drkit sandbox down") from error
    return {"up": True, "folder": str(folders.world), **found}


def down(folder: Path) -> bool:
    """End everything of the world in `folder` and remove the folder; False if there was nothing.

    Raises DrkitError if a process survives, or if the folder is not a sandbox.
    """
    folder = folder.absolute()
    folders = Folders(folder)
    if not folder.exists():
        return False
    with _only_one(folder, "down"):
        there = _is_world(folders)
        if not there and any(folder.iterdir()):
            raise Refused(f"{folder} is not a sandbox; it is left alone", code="E0807")
        _stop(folders)
        _clean(folders)
        folder.rmdir()
    return there


def _is_world(folders: Folders) -> bool:
    return folders.settings.exists()


def _supervisor(folders: Folders) -> Process | None:
    """The living supervisor; None if there is none."""
    try:
        found = json.loads(folders.supervisor.read_text())
    except (OSError, ValueError):
        return None
    process = Process(found["pid"], found["start"])
    return process if process.alive else None


@contextmanager
def _only_one(folder: Path, verb: str) -> Iterator[None]:
    """Hold a lock on the folder itself, so that no lock file is left. Raises Refused if somebody has it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise _explained(error, folder) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(
                f"another `sandbox up` or `down` is at work in {folder}", hint=f"drkit sandbox {verb}", code="E0808"
            ) from None
        if not folder.exists() or folder.stat().st_ino != os.fstat(handle).st_ino:
            raise Refused(f"{folder} was just removed", hint=f"drkit sandbox {verb}", code="E0808")
        yield
    finally:
        os.close(handle)


def _prepare(folders: Folders, settings: Settings) -> None:
    if shutil.disk_usage(folders.world).free < _FREE_BYTES_MIN:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    sockets = {region: str(folders.sockets(region)) for region in REGIONS}
    if max(len(path) for path in sockets.values()) + len("/.s.PGSQL.5432.lock") > _SOCKET_PATH_MAX:
        base = Path(tempfile.mkdtemp(prefix="drkit-"))  # Unix socket paths end at 107 bytes
        base.chmod(0o711)
        sockets = {region: str(base / region) for region in REGIONS}
    made = replace(settings, sockets=sockets)
    folders.settings.write_text(json.dumps(made.as_json()))
    folders.make()


def _launch(folders: Folders, tell: Callable[[str], None]) -> None:
    reading, writing = os.pipe()
    try:
        environment = {
            **os.environ,
            "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
            "DRKIT_SANDBOX_REPORT": str(writing),
            WORLD_VARIABLE: str(folders.world),
            SITE_VARIABLE: "supervisor",
        }
        with folders.log("supervisor").open("ab") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", "drkit.sandbox.serving", str(folders.world)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=environment,
                pass_fds=(writing,),
                start_new_session=True,
            )
        os.close(writing)
        writing = -1
        _follow(reading, child, folders, tell)
    finally:
        os.close(reading)
        if writing >= 0:
            os.close(writing)


def _follow(reading: int, child: subprocess.Popen[bytes], folders: Folders, tell: Callable[[str], None]) -> None:
    """Read the supervisor's reports until it is ready. Raises DrkitError if it is not to be."""
    hint = f"cat {folders.log('supervisor')}"
    deadline = time.monotonic() + UP_WITHIN_S
    buffer = b""
    while True:
        ready, _, _ = select.select([reading], [], [], max(0.0, deadline - time.monotonic()))
        chunk = os.read(reading, 65536) if ready else b""
        if not chunk:
            why = "ended" if ready else f"was not ready within {UP_WITHIN_S:g} s"
            child.poll()
            raise DrkitError(f"the sandbox's supervisor {why}", hint=hint, code="E0805")
        buffer += chunk
        while b"\n" in buffer:
            line, _, buffer = buffer.partition(b"\n")
            message = json.loads(line)
            if "error" in message:
                raise DrkitError(message["error"], hint=message["hint"] or hint, code=message["code"])
            if message.get("ready") is True:
                return
            tell(str(message.get("part")))


def _stop(folders: Folders) -> None:
    """End every process of the world, and what servers killed with -9 leave in the kernel."""
    supervisor = _supervisor(folders)
    if supervisor is not None and supervisor.send(signal.SIGTERM):
        wait_gone([supervisor], within_s=8.0)
    for _ in range(20):
        left = kill_all(of_world(folders.world))
        if not left:
            break
        wait_gone(left, within_s=2.0)
    else:
        raise DrkitError(f"processes of {folders.world} survive SIGKILL", code="E0809")
    for region in REGIONS:
        postgres.remove_leftover_memory(folders.data(region))


def _clean(folders: Folders) -> None:
    """Remove the files of a world that is not running; keep the folder."""
    if not folders.world.exists() or not _is_world(folders):
        return
    if any(True for _ in of_world(folders.world)):
        _stop(folders)
    with contextlib.suppress(OSError, ValueError, KeyError):  # a torn settings file names no sockets elsewhere
        for path in (json.loads(folders.settings.read_text())["sockets"] or {}).values():
            if folders.world not in Path(path).parents:
                shutil.rmtree(Path(path).parent, ignore_errors=True)
    for entry in sorted(folders.world.iterdir(), key=lambda path: path == folders.settings):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()  # settings.json last: while it is there this is known to be a sandbox


def _explained(error: OSError, folder: Path) -> DrkitError:
    if error.errno == errno.ENOSPC:
        need = _FREE_BYTES_MIN >> 20
        return DrkitError(
            f"the disk of {folder} is full (the sandbox needs {need} MB)", hint=f"df -h {folder}", code="E0810"
        )
    return DrkitError(f"the sandbox cannot be built in {folder}: {error}", code="E0805")
