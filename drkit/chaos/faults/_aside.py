"""What faults set aside or spoil in a host's files: kept beside where it was, so that putting it back is a rename.

The kept thing carries the fault's key in its name: whoever finds it knows whose it is and where it belongs.
"""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

from drkit.catalog import probe
from drkit.chaos.faults._kept import said
from drkit.chaos.onhost import OnHost
from drkit.context import Context
from drkit.model.observation import Observation, State

_NAMES = r"""shows() { stat -c %d:%i:%s:%y -- "$1" 2>/dev/null; } # a file that somebody wrote anew shows another time
names() { # of a file that fault $2 sets aside
  folder=${1%/*} name=${1##*/}
  kept=$folder/.drkit-kept-$2.$name new=$folder/.drkit-new-$2
}
"""

#: Shell: `plain FILE` refuses what a line of a file could not hold: who reverts would look for another one.
PLAIN: Final = r"""plain() {
  case $1 in *[[:cntrl:]]* | *" ") echo "$1 is a name that cannot be written down in a line"; exit 1 ;; esac
}
"""

#: Inject: `set_aside FILE [MAKE]` takes away a file or folder; MAKE is a function that makes `$new`, what is to be seen
#: in its place, of `$was`. Owner, mode and time of that are those of what it stands for.
SET_ASIDE: Final = (
    PLAIN
    + _NAMES
    + r"""set_aside() {
  plain "$1"
  was=$1; names "$1" "${FAULT##*/}"
  for other in "$folder"/.drkit-kept-*."$name"; do
    [ ! -e "$other" ] || { echo "$was is set aside already, as $other"; exit 1; }
  done
  printf '%s\n' "$was" >"$FAULT/aside" || exit 1
  if [ -n "${2:-}" ]; then
    "$2" && chown --reference="$was" -- "$new" && chmod --reference="$was" -- "$new" && touch -r "$was" -- "$new" &&
      shows "$new" >"$FAULT/stands-in" || exit 1
  fi
  mv -T -- "$was" "$kept" || exit 1
  [ -z "${2:-}" ] || mv -T -- "$new" "$was"
}
"""
)

#: Revert of `set_aside`. What somebody wrote there meanwhile is not ours to remove: a person decides between the two.
PUT_BACK: Final = (
    _NAMES
    + r"""IFS= read -r was 2>/dev/null <"$FAULT/aside" || exit 0
names "$was" "${FAULT##*/}"
rm -rf -- "$new" || exit 1
[ -e "$kept" ] || exit 0
if [ -e "$was" ]; then
  if [ "$(shows "$was")" = "$(cat "$FAULT/stands-in" 2>/dev/null)" ]; then
    rm -rf -- "$was" || exit 1
  elif cmp -s -- "$kept" "$was"; then
    rm -- "$kept"; exit
  else
    echo "somebody wrote $was anew; what was there before is $kept: remove one of the two"; exit 1
  fi
fi
mv -T -- "$kept" "$was"
"""
)

#: Shell: `byte` is the one that a fault has flipped a bit of.
BYTE: Final = r"""byte() { od -An -tu1 -j "$offset" -N1 -- "$file" 2>/dev/null | tr -d ' \n'; }
"""

_LIST = f"""{_NAMES}{BYTE}for f in var/lib/drkit/faults/*; do
  if IFS= read -r was 2>/dev/null <"$f/aside"; then
    names "$was" "${{f##*/}}"
    if [ ! -e "$kept" ]; then is=whole
    elif [ "$(shows "$was")" = "$(cat "$f/stands-in" 2>/dev/null)" ]; then is=spoilt
    else is=unclear
    fi
    printf '%s %s %s\\n' "${{f##*/}}" $is "$was"
  fi
  if read -r offset before becomes file 2>/dev/null <"$f/bit"; then
    if [ "$(byte)" = "$becomes" ]; then is=spoilt; else is=whole; fi
    printf '%s %s %s\\n' "${{f##*/}}" $is "$file"
  fi
done
"""


class Spoilt(BaseModel):
    """What became of the file or folder of one fault."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    file: str
    state: Literal["spoilt", "unclear", "whole"]
    """`unclear`: what was there is set aside, and something else than was meant is in its place."""


class AllSpoilt(Observation):
    """Files and folders that faults have spoilt on a host, as they are now."""

    files: tuple[Spoilt, ...] = ()

    def state(self, key: str) -> State:
        """Whether the fault `key` is in effect."""
        is_now = next((one.state for one in self.files if one.key == key), "whole")
        return {"spoilt": State.HOLDS, "unclear": State.IN_PROGRESS, "whole": State.ABSENT}[is_now]


@probe("data.spoilt")
async def spoilt(ctx: Context, p: OnHost) -> AllSpoilt:
    """What faults have done to files and folders of a host, read from those themselves."""
    rows = [line.split(" ", 2) for line in (await said(ctx, p, _LIST)).splitlines()]
    files = [Spoilt.model_validate({"key": key, "state": state, "file": file}) for key, state, file in rows]
    return AllSpoilt(answered_by=p.host, files=tuple(files))
