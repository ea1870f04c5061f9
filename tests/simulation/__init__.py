"""The real engine in a made-up world: driver, executor, fold, lease and copy on a virtual clock, for thousands of runs.

    python -m tests.simulation --histories 1000 --seed 0

One history is one run, from `go` until everybody has left: `plans` makes up a runbook of `drafts`, `scopes` what stands
for several of its steps, `world` two regions in which calls fail, hang, lose their answers, arrive late and show what
was, `machines` the computers that crash and freeze, `bucket` the state store, `people` those who order, approve, and
mistake; `history` lets them live. Afterwards `invariants` says what must hold, by what `account` reads in the journals.
`mutants` breaks the engine on purpose: each must be noticed.

Everything follows one number, not hypothesis: a violation is told as `seed 1234`, and that seed gives the same history
byte for byte in every process, on the command line as in a test.
"""
