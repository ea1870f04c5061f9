"""Faults of data hit copies only: what is theirs to spoil, and how a host makes sure that it is no original.

A path is a copy if it really lies (links followed) in a folder that the environment declares as one of copies
(`copies` of the host). An original takes the consent of two persons, which the plan asks for.
"""

from __future__ import annotations

import shlex

from drkit.chaos.onhost import HostFault, OnHost, isolated_enough
from drkit.errors import Refused
from drkit.model.environment import Host


class OnCopy(OnHost):
    """A file or folder of a host."""

    path: str
    """As the host names it; in one of the host's folders of copies."""


class DataFault(OnCopy, HostFault):
    """Base of the parameters of faults of data."""

    original: bool = False
    """It is no copy: two persons in the role chaos-owner have to consent, and it never starts unattended."""


def copies_only(name: str, host: Host, p: DataFault) -> str:
    """Shell before an inject, which goes on only for a copy. Refused where the environment declares none.

    Of an original it asks nothing: nobody gets here without the consent that the plan asks for. Who names one on a
    host that shares a machine could mean another host's file, so that is refused.
    """
    if p.original:
        isolated_enough(host, f"{name} of an original", "mount-ns")
        return ""
    if not host.copies:
        raise Refused(
            f"{name} on {host.name}: {p.path} is not known to be a copy: the environment declares no folders of copies "
            "there (copies).", hint="drkit help environments",
        )  # fmt: skip
    path, folders = shlex.quote(p.path), " ".join(shlex.quote(folder) for folder in host.copies)
    sorry = shlex.quote(f"{p.path} is no copy; copies lie in {', '.join(host.copies)}")
    return f"""is_copy=
really=$(readlink -f -- {path})
for copies in {folders}; do
  copies=$(readlink -f -- "$copies") || continue
  case "$really/" in "$copies"/*) is_copy=yes ;; esac
done
[ -n "$is_copy" ] || {{ echo {sorry}; exit 1; }}
"""
