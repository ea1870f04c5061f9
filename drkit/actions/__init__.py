"""What drkit can do, one file per subject; each is named by an entry point and loaded when a file uses it.

A subject's file holds its probes, its actions and their pure checks and undos. Nothing here decides when something is
done: that is the engine's. Nothing here knows which environment it acts on beyond what its context says.
"""
