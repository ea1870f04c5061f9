"""How drkit reaches things: one provider a way of talking, each call with its own timeout, SDKs imported on first use.

What every provider promises: *Unreachable* if nobody answered and nothing was sent, *Unobservable* if an answer to a
question did not come, *OutcomeUnknown* if a change was sent and its answer never seen, *StepFailed* if whoever answered
said no. A provider knows the environment and its secrets; it knows nothing of runs, steps or rules.
"""
