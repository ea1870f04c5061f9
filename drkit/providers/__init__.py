"""How drkit reaches things: one provider a way of talking, each call with its own timeout, SDKs imported on first use.

What every provider promises: *Unreachable* if nobody answered and nothing was sent, *ShutOut* if we are not let in
(and will not be later), *Unobservable* if an answer to a question did not come, *OutcomeUnknown* if a change was sent
and its answer never seen, *StepFailed* if whoever answered said no. What it writes it notes (`model.written`). A
provider knows the environment and its secrets; it knows nothing of runs, steps or rules.
"""
