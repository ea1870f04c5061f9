"""From files to a plan: read, check everything at once, resolve against an environment. Touches nothing but files.

Decision behind it: whatever can be known to be wrong before a run is known at load, with file, line and column. Only
what steps will have observed (`${ steps.… }`) is left open in a plan.
"""
