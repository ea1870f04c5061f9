"""Chaos Toolkit's experiments, run natively: read with places, journaled, leased, locked, and stopped within a call.

What was decided, and why:
- A file means here what it means there (tolerances, substitution, statuses, the journal's keys), with four
  differences, all on the safe side: rollbacks run always unless told otherwise; a rollback that exits with an error
  failed; a file with mistakes is refused as a whole, nothing named in it is imported to find them; a secret is never
  written down.
- Everything happens in one process, without an event loop: an experiment is a list, and what it waits for can be
  waited for together with the wish to stop (`abort`).
- What an activity calls is killed when it has to end. Processes have a session of their own; Python functions and HTTP
  calls run in a child (`worker`) that lives as long as the experiment, because functions keep state in their modules.
  Only functions that return at once and change nothing (`calling.AT_ONCE`) run in process.
- An experiment's rollbacks are the inverse of all its actions together: one fault of the ledger is one experiment.
- The lease is a fork of the runner, made before its first thread: it holds secrets in memory and nothing on disk, and
  hears from the kernel at once when the runner dies (`lease`).
"""
