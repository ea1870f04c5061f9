"""What happens: the fold decides, the driver carries out, the journal remembers, the lease keeps others away.

The fold is pure and owns every rule; everything that touches a disk, a socket, a clock or the state store is beside
it and has none. What the world is reached through enters from above: nothing here knows a provider.
"""
