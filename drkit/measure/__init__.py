"""What is measured, and how: users' journeys, the ledgers of acknowledged writes, and what both say of a recovery.

Measuring is a service of the environment and goes on whether or not anything is recovered; a run only attaches to it.
The rules (`recovery`, `loss`) are pure, so that a report can be made again from the readings alone. Submodules are
imported by name: `findings.attach`, `findings.findings`, `journeys.users_now`, `ledgers.write_present`,
`loss.expected_loss`; `python -m drkit.measure.prober` is the service.
"""

from __future__ import annotations
