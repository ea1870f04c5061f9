"""What drkit can break, how a scenario becomes a plan (settings, steady state, faults, heals), and when it starts."""
