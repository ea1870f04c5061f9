"""A virtual machine with systemd, for faults that no namespace of this machine can take: netem, cgroup v2, a clock.

`image` makes its disk once, `machine` starts and ends it, `outside` looks at it as others would. `guest/` is laid over
Debian's files.
"""
