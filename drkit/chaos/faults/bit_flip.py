"""data.bit-flip: one bit of a file is another one, as on a disk that rots."""

from __future__ import annotations

import hashlib
import shlex
from typing import Final

from drkit.chaos.faults._aside import BYTE, PLAIN, AllSpoilt, spoilt
from drkit.chaos.faults._copies import DataFault, copies_only
from drkit.chaos.onhost import Recipe, host_fault
from drkit.model.faults import fault_key
from drkit.model.observation import State


class BitFlip(DataFault):
    """Which file, and which of its bits."""

    seed: int = 0
    """Which bit it is follows from this and from the file's size."""


#: Shell: `around` is what the byte lies in; `put BYTE` writes it there. A disk that rots leaves no time of change.
_PUT: Final = r"""around() { dd if="$file" bs=512 skip="$((offset / 512))" count=1 2>/dev/null; }
put() {
  touch -r "$file" "$FAULT/time" && printf "\\$(printf %03o "$1")" |
    dd of="$file" bs=1 seek="$offset" conv=notrunc,fsync 2>/dev/null && touch -r "$FAULT/time" -- "$file"
}
"""


@host_fault("data.bit-flip", observe=spoilt, consent="original", guard=copies_only)
def flip(p: BitFlip) -> Recipe:
    """Flip one bit of a file, and leave its time as it was: nothing tells but a checksum."""
    drawn = hashlib.sha256(str(p.seed).encode()).digest()
    place, mask = int.from_bytes(drawn[:7]), 1 << (drawn[7] & 7)
    flip_it = f"""{PLAIN}{BYTE}{_PUT}file=$(readlink -f -- {shlex.quote(p.path)})
plain "$file"
[ -f "$file" ] && [ -s "$file" ] || {{ echo "$file is no file with anything in it"; exit 1; }}
[ "$(stat -c %h -- "$file")" = 1 ] || {{ echo "$file has another name too, which may be an original's"; exit 1; }}
offset=$(({place} % $(stat -c %s -- "$file")))
was=$(byte) && becomes=$((was ^ {mask})) || exit 1
printf '%s %s %s %s\\n' "$offset" "$was" "$becomes" "$file" >"$FAULT/bit" || exit 1
around >"$FAULT/around" && put "$becomes\""""
    # A byte that is not what we made of it was written by somebody since, and is theirs. So may one be that only looks
    # as if it were ours: then more than that one differs from what was there.
    flip_back = f"""{BYTE}{_PUT}read -r offset was becomes file 2>/dev/null <"$FAULT/bit" || exit 0
[ "$(byte)" = "$becomes" ] || exit 0
[ "$(around | cmp -l - "$FAULT/around" | wc -l)" -eq 1 ] || {{
  echo "somebody wrote to $file around byte $offset since: put it back from another copy, or remove it"; exit 1
}}
put "$was\""""
    return Recipe(flip_it, flip_back)


@flip.check
def flipped(p: BitFlip, now: AllSpoilt) -> State:
    """That byte is what it was made."""
    return now.state(fault_key(flip.name, p))
