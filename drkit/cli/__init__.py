"""How people ask: one small file per group of commands, and no policy.

Nothing of drkit is imported when these modules are, but its errors: a command imports what it needs when it runs, so
that `drkit --help` answers at once and a broken SDK breaks only the command that uses it. Results go to stdout,
everything else to stderr.
"""
