"""ReliableTech's batch worker, a release artifact: started on a host as `python batch.py CONFIG.json`.

It writes one row a second, but only while it holds the single-runner lock: an advisory lock in the database, so that
of all workers on all sites at most one works on a database at a time. What it does stands in its status file.

Config: `{name, site, database: {host, port, dbname, user}, password_file, lock: NAME, status: FILE, interval_s?: 1.0}`.
Status: `{"state": "waiting"|"running"|"failing"|"stopped", "pid", "runs", "last_run_at", "reason", "database"}`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import psycopg

RETRY_S = 0.5


class Worker:
    """One runner; `stopped` ends it within its present statement."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.stopped = False
        self._status: dict[str, Any] = {
            "state": "waiting",
            "pid": os.getpid(),
            "runs": 0,
            "last_run_at": None,
            "reason": None,
            "database": f"{config['database']['host']}:{config['database']['port']}",
        }

    def run(self) -> None:
        """Work whenever the lock can be had, until stopped."""
        while not self.stopped:
            try:
                self._work()
            except (psycopg.Error, OSError) as error:
                self._say(state="failing", reason=str(error).strip().splitlines()[0])
                self._pause(RETRY_S)
        self._say(state="stopped", reason="told to stop")

    def _work(self) -> None:
        with psycopg.connect(
            **self.config["database"],
            password=Path(self.config["password_file"]).read_text().strip(),
            connect_timeout=2,
            autocommit=True,
            application_name=f"batch {self.config['name']}",
            options="-c statement_timeout=4000",
        ) as connection:
            while not self.stopped and not self._locked(connection):
                self._say(state="waiting", reason="another runner holds the lock")
                self._pause(RETRY_S)
            while not self.stopped:
                connection.execute(
                    "INSERT INTO batch_runs (runner, site) VALUES (%s, %s)", (self.config["name"], self.config["site"])
                )
                self._say(state="running", reason=None, runs=self._status["runs"] + 1, last_run_at=_now())
                self._pause(self.config.get("interval_s", 1.0))

    def _pause(self, seconds: float) -> None:
        """Sleep so long, or until told to stop; a signal's handler may not touch a lock that its thread waits with."""
        deadline = time.monotonic() + seconds
        while not self.stopped and time.monotonic() < deadline:
            time.sleep(0.05)

    def _locked(self, connection: psycopg.Connection[tuple[Any, ...]]) -> bool:
        row = connection.execute("SELECT pg_try_advisory_lock(hashtext(%s))", (self.config["lock"],)).fetchone()
        return row is not None and bool(row[0])

    def _say(self, **changes: Any) -> None:
        self._status.update(changes)
        path = Path(self.config["status"])
        draft = path.with_name(path.name + ".new")
        draft.write_text(json.dumps(self._status) + "\n")
        draft.replace(path)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def main() -> None:
    """Run until SIGTERM."""
    worker = Worker(json.loads(Path(sys.argv[1]).read_text()))

    def stop(number: int, frame: object) -> None:
        worker.stopped = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    worker.run()


if __name__ == "__main__":
    main()
