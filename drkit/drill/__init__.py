"""A runbook under a scenario, for evidence: one plan, one journal, one report."""
