"""A world of real files, actions that write them, and real runner processes.

No sandbox, no network: what a killed process leaves behind is looked at with `cat`.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import anyio

from drkit.catalog import Catalog, action, probe
from drkit.context import Context, Providers, Secrets
from drkit.engine import runs
from drkit.engine.fold import replay
from drkit.engine.identity import login
from drkit.engine.journal import read_rows
from drkit.engine.lease import claim_key
from drkit.engine.runner import Means, carry_out
from drkit.engine.runs import Request, RunFolder
from drkit.engine.spawning import Spawned, spawn, wait_for_go
from drkit.engine.state import RunState
from drkit.errors import DrkitError
from drkit.model.environment import Environment, Person, Site
from drkit.model.observation import Observation
from drkit.model.params import Params, Use
from drkit.model.permit import Permit
from drkit.model.plan import Plan, PlanStep
from drkit.model.values import Json


class Files:
    """The world: a folder, one file a name, and a log of every write."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def connect(cls, environment: Environment, secrets: Secrets) -> Self:
        return cls(Path(str(environment.parameters["files"])))

    async def aclose(self) -> None:
        """Nothing to close."""

    def write(self, name: str, text: str, token: str) -> None:
        with (self.folder / "writes.log").open("a") as log:
            log.write(f"{name} {token}\n")
        draft = self.folder / f".{name}"
        draft.write_text(text)
        draft.replace(self.folder / name)

    def read(self, name: str) -> str | None:
        path = self.folder / name
        return path.read_text() if path.exists() else None

    def written(self) -> Counter[str]:
        log = self.folder / "writes.log"
        return Counter(line.split()[0] for line in log.read_text().splitlines()) if log.exists() else Counter()


class Named(Params):
    """A file of the world."""

    name: str
    """Its name."""


class Write(Named):
    """Write a file of the world."""

    text: str = "done"
    """What it holds then."""
    after: str = ""
    """A file of the world that must be there first."""


class Content(Observation):
    """What the file holds."""

    text: str | None = None


@probe("files.content", side="neither")
async def content(ctx: Context, p: Named) -> Content:
    """What a file of the world holds now."""
    return Content(text=ctx.use(Files).read(p.name))


@action("files.write", observe=content, repeat="safe", side="neither", poll_s=0.02)
async def write(ctx: Context, p: Write, before: Content) -> None:
    while p.after and ctx.use(Files).read(p.after) is None:
        await anyio.sleep(0.02)
    ctx.use(Files).write(p.name, p.text, ctx.token)


@write.check
def written(p: Write, now: Content) -> bool:
    return now.text == p.text


@write.undo
def write_back(p: Write, before: Content, after: Content | None) -> Use | None:
    return Use(uses="files.write", params={"name": p.name, "text": before.text or ""})


@action("files.final", observe=content, repeat="safe", side="neither", poll_s=0.02, irreversible="nothing undoes it")
async def final(ctx: Context, p: Write, before: Content) -> None:
    ctx.use(Files).write(p.name, p.text, ctx.token)


final.check(written)


def catalog() -> Catalog:
    return Catalog(["runner_fakes", "drkit.engine.gates", "drkit.actions.aws_ssm"])


def step(id: str, *needs: str, uses: str = "files.write", **more: Any) -> PlanStep:
    """A step that writes a file named after itself; `after`: only once that file is there."""
    params: dict[str, Json] = {"name": id} if uses.startswith("files.") else {"role": "ic"}
    if "after" in more:
        params["after"] = more.pop("after")
    kind = "gate" if uses.startswith("gate.") else "action"
    declared: dict[str, Any] = {"repeat": "safe"} if kind == "action" else {}
    if uses == "files.final":
        declared["irreversible"] = "nothing undoes it"
    return PlanStep(
        **declared, id=id, number=1, uses=uses, kind=kind, params=params, needs=needs, timeout_s=20.0, poll_s=0.02,
        **more,
    )  # fmt: skip


def chain(*ids: str, **more: Any) -> list[PlanStep]:
    """Steps one after the other."""
    return [step(id, *ids[n - 1 : n] if n else (), **more) for n, id in enumerate(ids)]


def environment(root: Path, name: str = "files", store: Path | None = None) -> Environment:
    """The world in `root/world`, its state store in `root/store`; we are dana, the incident commander."""
    (root / "world").mkdir(exist_ok=True)
    return Environment(
        name=name, kind="sandbox", account="none",
        sites=(Site(name="east", kind="region"), Site(name="west", kind="region")),
        state_store=(store or root / "store").as_uri(),
        people=(Person(name="dana", uid=os.getuid(), roles=("ic",)),),
        parameters={"files": str(root / "world")},
    )  # fmt: skip


def plan(steps: list[PlanStep], env: Environment) -> Plan:
    numbered = tuple(s.model_copy(update={"number": number}) for number, s in enumerate(steps, 1))
    return Plan(
        schema="drkit.plan/1", runbook="test", runbook_digest="sha256:0", environment=env.name,
        environment_kind=env.kind, account="none", source="east", target="west", steps=numbered, catalog="sha256:0",
        drkit="0",
    )  # fmt: skip


def asked(root: Path, steps: list[PlanStep], *, env: Environment | None = None, **more: Any) -> RunFolder:
    """A run folder with a request for these steps."""
    env = env or environment(root)
    folder = runs.new()
    folder.ask(
        Request(
            run=folder.id, kind="run", plan=plan(steps, env), environment=env,
            by={"name": login(), "uid": os.getuid(), "how": "terminal"}, wall=time.time(), **more,
        )
    )  # fmt: skip
    return folder


def started(folder: RunFolder, *options: str) -> Spawned:
    """A runner process for this folder, told to go."""
    runner = waiting(folder, *options)
    runner.go()
    return runner


def waiting(folder: RunFolder, *options: str) -> Spawned:
    """A runner process that was not told to go yet."""
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import runner_fakes as r; sys.exit(r.main())"
    )
    return spawn(folder, [sys.executable, "-c", code, str(folder.path), *options])


def until(true: Callable[[], object], within_s: float = 15.0) -> None:
    """Poll; AssertionError when it does not come true in time."""
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def state(folder: RunFolder) -> RunState:
    return replay(read_rows(folder.journal)).state


def waited_s(folder: RunFolder, root: Path) -> float:
    """For how long a real run claimed its environment from a drill before it had it; printed, for the record."""
    env = folder.request().environment
    claimed_at = (root / "store" / claim_key(env.name)).stat().st_mtime
    waited_s = state(folder).wall(0.0) - claimed_at
    print(f"a real run had the drill's environment {waited_s:.1f} s after it had claimed it")
    return waited_s


def kinds(folder: RunFolder) -> list[str]:
    return [row.fact.kind for row in read_rows(folder.journal)] if folder.journal.exists() else []


def kill(runner: Spawned) -> None:
    """As the kernel does it when memory runs out."""
    os.kill(runner.pid, signal.SIGKILL)
    until(runner.gone)


def stop(runner: Spawned) -> None:
    """Whatever is left of it after a test."""
    runner.forget()
    if not runner.gone():
        kill(runner)


#: Environment variable: a runner freezes (SIGSTOP) once between looking at its lease and sending, and makes this file.
FREEZES = "DRKIT_TEST_FREEZES"


def freeze_once(mark: Path) -> None:
    """Stop this process the first time a change is about to be sent to a target that can refuse it."""
    until = Permit.until

    def then_freeze(permit: Permit, there_s: float) -> float | None:
        instant = until(permit, there_s)
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGSTOP)
        return instant

    setattr(Permit, "until", then_freeze)  # noqa: B010 (mypy knows no methods of ours that are put there)


def main() -> int:
    """The runner process."""
    from drkit.cli.compose import teller
    from drkit.providers.objects import open_objects
    from drkit.providers.secrets import Secrets as SecretStore

    folder = RunFolder(Path(sys.argv[1]))
    if not wait_for_go():
        return 0
    if mark := os.environ.get(FREEZES):
        freeze_once(Path(mark))
    env = folder.request().environment
    secrets = SecretStore(env)
    providers = Providers(env, secrets)
    telling = teller(folder.request(), folder, providers)
    means = Means(catalog(), providers, secrets, open_objects(env), teller=telling)
    try:
        return int(anyio.run(lambda: carry_out(folder, means, stay="--leave" not in sys.argv)))
    except DrkitError as error:
        print(f"{error.code} {error.message}", file=sys.stderr)
        return int(error.exit_code)
