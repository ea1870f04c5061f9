"""What drkit can break, and how a scenario becomes a plan: settings, steady state, faults, heals."""
