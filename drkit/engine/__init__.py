"""What happens: the fold decides, the driver carries out, the journal remembers, the lease keeps others away.

The fold is pure and owns every rule; everything that touches a disk, a socket, a clock or the state store is beside
it and has none. What the world is reached through enters from above: nothing here knows a provider.

- Deciding: `fold` (what each fact does), `moves` (what that is made of), `state` (what anybody may read), `gates`,
  `refusals` (who may order what), `steering` (what orders do), `compensation` (taking a run back); `decisions`
  (a journal decided again).
- Doing: `driver` (inbox, fold, commit, start), `executor` (one command), `watching`, `scene`, `undoing`, `clock`.
- Keeping: `journal`, `chain`, `copy`, `evidence`; `lease`; `runs`, `runner`, `orders`, `inbox`, `identity`.
- `memory` and `simulated` are the same engine without a disk and without real time.
"""
