# A fault on a host. drkit sends this text over SSH; it needs POSIX sh, flock and setsid, and no drkit.
#   inject KEY OWNER MACHINE FENCING BOOT START_BY LEASE META STARTS INJECT REVERT
#   heal KEY        list        clock
# A fault lives in var/lib/drkit/faults/KEY: what it is (meta), how it is reverted, its lease, and `state`: a line of
# armed, injected, healed or never-injected, who ended it, and who owns it. Arming and injecting are one script, and
# nothing is injected unless its lease is alive: an injector that was frozen and wakes too late is stopped here (START_BY
# and LEASE are hundredths of a second, START_BY since this boot).
# While `go` is there its injector may begin. Whoever reverts takes it away first and kills who is named after that; an
# injector leaves its name first and looks for `go` after that. So one of the two sees the other, wherever they freeze.
set -u
verb=$1 calm=; shift
cd "${DRKIT_HOST_ROOT:-/}" || exit 95
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
home=var/lib/drkit

common='
now() { IFS=" ." read -r s cs rest </proc/uptime; echo $((s * 100 + 1$cs - 100)); }
started() { # when a process did; nothing if it is over, though nobody may have noticed yet
  line=; { read -r line <"/proc/$1/stat"; } 2>/dev/null
  set -- ${line##*) }
  case "${1:-Z}" in Z | X) ;; *) echo "${20}" ;; esac
}
is_alive() { # a process that a file names by pid and start time
  [ -f "$1" ] && read -r pid born <"$1" && [ -n "$born" ] && [ "$(started "$pid")" = "$born" ]
}
write() { printf "%s\n" "$2" >"$f/$1.new" && mv "$f/$1.new" "$f/$1"; } 2>/dev/null
become() { mv "$f/as-$1" "$f/state"; } 2>/dev/null # what it may become is written beforehand: a full disk keeps it not
over() { # by whom; where no injector has ever left its name, nothing was injected and there was nothing to heal
  if [ -e "$f/injector" ]; then become "$1"; else become "never-$1"; fi
}
state() { by= owner=; read -r now_is by owner 2>/dev/null <"$f/state" || now_is=; }
is_over() { case "$now_is" in healed | never-injected) ;; *) false ;; esac; }
kill_named() { # with its group; by the shell itself, since a program called kill may take -12 for -1: everybody
  if is_alive "$f/$1" && [ "$pid" -gt 1 ]; then kill -s KILL -- "-$pid" "$pid" 2>/dev/null; fi
}
kill_holders() { # whoever else has the lock open: the kernel knows, even if they froze before they could leave a name
  for open in /proc/[0-9]*/fd/*; do # a shell keeps 9 under another number while it waits for who is not to have it
    if [ "$open" -ef "$f/lock" ] && open=${open#/proc/} && [ "${open%%/*}" != "$$" ]; then
      kill -s KILL "${open%%/*}" 2>/dev/null
    fi
  done
}
revert() { FAULT=$f $calm sh "$f/revert" >>"$f/log" 2>&1 9>&-; }
'
eval "$common"

# What heals when drkit does not. It outlives our connection, and kills who holds the lock beyond the lease.
lease=$common'
f=$1 own=$2 calm=$3
mine() { state; [ "$owner" = "$own" ] && ! is_over; }
mine || exit 0
write lease "$$ $(started $$)"
read -r until <"$f/until"
left=$((until - $(now)))
[ "$left" -le 0 ] || sleep "$((left / 100)).$(printf %02d $((left % 100)))"
mine || exit 0
exec 9>"$f/lock"
rm -f "$f/go"
if ! flock -w 0.2 9; then
  kill_named injector
  until kill_holders; flock -w 0.2 9; do :; done
fi
mine || exit 0
kill_named injector
until revert && over lease; do sleep 1; done
'

read -r this_boot </proc/sys/kernel/random/boot_id
lease_alive() {
  { read -r then <"$f/boot"; } 2>/dev/null && [ "$then" = "$this_boot" ] || return 1
  is_alive "$f/lease" && return
  [ -f "$f/unit" ] && case "$(systemctl is-active "$(cat "$f/unit").service")" in active | activating) ;; *) false ;; esac
}

mark() { # what is to be remembered, before anything else happens; the state last
  set --
  for old in "$f"/*; do
    case "${old##*/}" in lock | state | log) ;; *) set -- "$@" "$old" ;; esac
  done
  rm -rf "$@"
  { echo "$meta" >"$f/meta" && printf '%s\n' "$undo" >"$f/revert" && printf '%s\n' "$lease" >"$f/heals" &&
    echo "$boot" >"$f/boot" && true >>"$f/log" &&
    echo $(($(now) + length)) >"$f/until" && echo >"$f/go" && echo "injected - $who" >"$f/as-injected" &&
    echo "healed drkit $who" >"$f/as-drkit" && echo "healed lease $who" >"$f/as-lease" &&
    echo "never-injected drkit $who" >"$f/as-never-drkit" && echo "never-injected lease $who" >"$f/as-never-lease" &&
    echo "armed - $who" >"$f/as-armed" && become armed; } 2>/dev/null
}

go_first() { # lets a lease run before all that computes, where this host permits it; what its revert starts to stay, not
  first= calm=
  if chrt -R -f 1 true 2>/dev/null; then first="chrt -f 1" calm=${starts:+chrt -R -f 1}; fi
}

arm() { # the lease, and wait until it is seen
  case "$(systemctl is-system-running 2>/dev/null)" in
    running | degraded | starting)
      # A service that waits, not a timer: at a daemon-reload systemd begins to count a timer's OnActiveSec= anew (its
      # issue 31914). Who kills it has it back; short memory spares it. Its text is a file, as systemd would expand it.
      unit=drkit-lease-$key
      systemctl stop "$unit.service" 2>/dev/null
      systemctl reset-failed "$unit.service" 2>/dev/null
      write unit "$unit" || return 1
      systemd-run --quiet --unit="$unit" --property=Restart=on-failure --property=RestartSec=100ms \
        --property=StartLimitIntervalSec=0 --property=OOMScoreAdjust=-1000 \
        --property=WorkingDirectory="$PWD" --setenv=PATH="$PATH" sh "$f/heals" "$f" "$who" >>"$f/log" 2>&1 9>&- || return 1 ;;
    *) go_first; setsid $first sh "$f/heals" "$f" "$who" "$calm" </dev/null >/dev/null 2>&1 9>&- & ;;
  esac
  tries=100
  until lease_alive; do
    tries=$((tries - 1)); [ "$tries" -gt 0 ] || return 1
    sleep 0.01
  done
}

cancel_lease() {
  if [ -f "$f/unit" ]; then
    systemctl stop "$(cat "$f/unit").service" 2>/dev/null
  else kill_named lease; fi
}

undone() { # reverted, by whom; nobody can inject any more
  rm -f "$f/go"
  kill_named injector
  revert && over "$1" && cancel_lease
  state; is_over
}

no_room() { echo "nothing can be written down here: nothing is injected"; exit 95; }
in_time() { [ "$(now)" -le "$start_by" ]; }

case "$verb" in
inject)
  key=$1 who=$2 machine=$3 fencing=$4 boot=$5 start_by=$6 length=$7 meta=$8 starts=$9; shift 9
  inject=$1 undo=$2
  f=$home/faults/$key
  found=$(cat etc/machine-id 2>/dev/null)
  [ "$found" = "$machine" ] || { echo "this host is ${found:-without machine-id}, not $machine"; exit 92; }
  { mkdir -p "$f" && true >>"$f/lock" && true >>"$home/fence.lock"; } 2>/dev/null || no_room
  exec 8>"$home/fence.lock"
  flock -w 2 8 || { echo "the fencing token cannot be locked"; exit 90; }
  highest=$(cat "$home/fence" 2>/dev/null || echo 0)
  [ "$fencing" -ge "${highest:-0}" ] || { echo "fencing token $fencing is older than $highest"; exit 91; }
  { echo "$fencing" >"$home/fence.new" && mv "$home/fence.new" "$home/fence"; } 2>/dev/null || no_room
  exec 8>&-
  exec 9>"$f/lock"
  flock -w 5 9 || { echo "somebody else is at work on $key"; exit 90; }
  [ "$boot" = "$this_boot" ] || { echo "the host has restarted since it was asked"; exit 96; }
  in_time || { echo "it came too late: the lease it was to have is over"; exit 96; }
  state
  case "$now_is" in
    '' | healed | never-injected)
      if [ "$owner" = "$who" ]; then echo "its lease is over, $now_is $by before"; exit 96; fi
      mark || no_room
      arm || { owner=$who; undone drkit; echo "its lease could not be armed"; exit 99; } ;;
    *)
      [ "$owner" = "$who" ] || { echo "$key is injected already, by $owner"; exit 93; }
      lease_alive || { echo "its lease is gone"; exit 96; }
      if [ "$now_is" = armed ]; then # whatever an attempt before us had begun
        kill_named injector
        revert || { echo "reverting failed: $(tail -n 1 "$f/log"); its lease tries again"; exit 98; }
      fi ;;
  esac
  state
  if [ "$now_is" = armed ]; then
    left=$(($(cat "$f/until") - $(now)))
    if [ "$left" -le 0 ] || ! in_time; then undone drkit; echo "its lease is over"; exit 96; fi # frozen meanwhile
    scope= # under systemd what it leaves running is not of our session, which may be ended when we log out
    [ ! -f "$f/unit" ] || scope="systemd-run --quiet --scope --collect --unit=drkit-fault-$key-$$"
    FAULT=$f LEFT_S=$((left / 100 + 1)) LEFT_MS=${left}0 $scope setsid -w sh -c '
      f=$FAULT; '"$common"'
      write injector "$$ $(started $$)" || { echo "nothing can be written down here"; exit 95; }
      [ -e "$f/go" ] || { echo "its lease is over"; exit 96; }
      eval "$1"
    ' drkit-inject "$inject" >>"$f/log" 2>&1 9>&- || {
      echo "injecting ended with $?: $(tail -n 1 "$f/log")"
      if undone drkit; then exit 97; fi
      echo "and reverting failed: $(tail -n 1 "$f/log"); its lease tries again"; exit 98
    }
    become injected
  fi
  echo "injected $(($(cat "$f/until") - $(now))) $(if [ -f "$f/unit" ]; then echo systemd; else echo process; fi)" ;;
heal)
  f=$home/faults/$1
  [ -f "$f/state" ] || { echo "absent"; exit 0; }
  exec 9>"$f/lock" || exit 95
  flock -w 10 9 || { echo "somebody else is at work on $1"; exit 90; }
  state
  if ! is_over; then
    undone drkit || { echo "reverting failed: $(tail -n 1 "$f/log")"; exit 98; }
  fi
  echo "$now_is $by"; cat "$f/meta" ;;
list)
  for f in "$home"/faults/*; do
    state
    if [ -z "$now_is" ] || is_over; then continue; fi
    if lease_alive; then left=$(($(cat "$f/until") - $(now))); else left=-; fi
    printf '%s\t%s\t%s\t%s\n' "${f##*/}" "$now_is" "$left" "$(cat "$f/meta")"
  done ;;
clock) echo "$this_boot"; now ;;
*) echo "no verb $verb"; exit 64 ;;
esac
