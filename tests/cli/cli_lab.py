"""The real command, in a process of its own, with a private state home, in a small project without a sandbox.

The project's environment `lab` has two regions and nothing in them; its runbook makes files on this machine, so that
every part of a run is real but cheap: runner, journal, lease and copies (in a folder), orders, resume.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

Result = subprocess.CompletedProcess[str]

PROJECT = """
environment = "lab"

[environments.lab]
kind = "staging"
account = "nobody (..0000)"
state_store = "file://{folder}/store"
runbook = "walk"
sites = [{{name = "us-east-1", kind = "region"}}, {{name = "us-west-2", kind = "region"}}]
people = [{{name = "tester", uid = {uid}, roles = ["incident-commander"]}}]
"""

WALK = """
apiVersion: drkit/v1
kind: Runbook
metadata: {{name: walk, owner: nobody}}
objectives: {{rto: 1m}}
parameters:
  second: {{default: "{folder}/made/second", description: Path of the second file}}
probes:
  start: {{uses: process.exists, with: {{creates: "{folder}/go"}}}}
decide: "probes.start.exists"
steps:
  - {{id: first, uses: process.run, with: {{creates: "{folder}/made/first", argv: [touch, "{folder}/made/first"]}}}}
  - {{id: agree, uses: gate.approve, with: {{role: incident-commander, question: "Go on?"}}}}
  - {{id: second, uses: process.run, with: {{creates: "${{ params.second }}", argv: [touch, "${{ params.second }}"]}}}}
"""


@dataclass(frozen=True)
class Lab:
    """The project's folder, what its runbook makes, and how to run drkit in it."""

    folder: Path
    environment: dict[str, str]

    @property
    def made(self) -> list[str]:
        """Files that steps have made."""
        return sorted(path.name for path in (self.folder / "made").iterdir())

    def healthy(self, yes: bool) -> None:
        """Whether the runbook's `decide` says that the source is lost."""
        go = self.folder / "go"
        go.unlink(missing_ok=True) if yes else go.touch()

    def command(self, *words: str) -> list[str]:
        """The command line."""
        return [sys.executable, "-m", "drkit.cli", *words]

    def drkit(self, *words: str, cwd: Path | None = None, timeout_s: float = 40.0, **env: str) -> Result:
        """Run it to its end; no terminal on any side."""
        return subprocess.run(
            self.command(*words), cwd=cwd or self.folder, env=self.environment | env, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=timeout_s,
        )  # fmt: skip
