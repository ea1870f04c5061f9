# A fault on a host. drkit sends this text over SSH; it needs POSIX sh, flock and setsid, and no drkit.
#   inject KEY OWNER MACHINE FENCING BOOT START_BY LEASE META INJECT REVERT
#   heal KEY BY        list
# A fault lives in var/lib/drkit/faults/KEY: who owns it, what it is (meta), how it is reverted, its lease, its state.
# Arming and injecting are one script, and nothing is injected unless its lease is alive: an injector that was frozen
# and wakes too late is stopped here (START_BY and LEASE are hundredths of a second, START_BY since this boot).
set -u
verb=$1; shift
cd "${DRKIT_HOST_ROOT:-/}" || exit 95
home=var/lib/drkit

now() { IFS=' .' read -r s cs rest </proc/uptime; echo $((s * 100 + 1$cs - 100)); }
started() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }
is_alive() { # a process that a file names by pid and start time
  [ -f "$1" ] && read -r pid born <"$1" && [ -n "$born" ] && [ "$(started "$pid")" = "$born" ]
}
lease_alive() {
  [ -f "$f/boot" ] && [ "$(cat "$f/boot")" = "$(cat /proc/sys/kernel/random/boot_id)" ] || return 1
  if [ -f "$f/unit" ]; then systemctl is-active --quiet "$(cat "$f/unit").timer"; else is_alive "$f/lease"; fi
}
state() { cat "$f/state" 2>/dev/null; }
become() { echo "$1" >"$f/state.new" && mv "$f/state.new" "$f/state"; }
revert() { FAULT=$f sh "$f/revert" >>"$f/log" 2>&1 9>&-; }

# What heals when drkit does not. It outlives our connection; it kills an injector that holds the lock beyond the lease.
lease='
f=$1 owner=$2 left=$3
started() { sed "s/.*) //" "/proc/$1/stat" 2>/dev/null | cut -d" " -f20; }
echo "$$ $(started $$)" >"$f/lease.new" && mv "$f/lease.new" "$f/lease"
sleep "$left"
exec 9>"$f/lock"
if ! flock -w 0.2 9; then
  for who in injector script; do
    read -r pid born <"$f/$who" && [ "$(started "$pid")" = "$born" ] && kill -KILL "-$pid" "$pid" 2>/dev/null
  done
  flock 9
fi
[ "$(cat "$f/owner")" = "$owner" ] || exit 0
case "$(cat "$f/state")" in healed*) exit 0 ;; esac
until FAULT=$f sh "$f/revert" >>"$f/log" 2>&1 9>&-; do sleep 1; done
echo "healed lease" >"$f/state.new" && mv "$f/state.new" "$f/state"
'

arm() { # the lease, and wait until it is seen
  rm -f "$f/lease" "$f/unit" "$f/injector"
  echo "$$ $(started $$)" >"$f/script"
  cat /proc/sys/kernel/random/boot_id >"$f/boot"
  echo $(($(now) + length)) >"$f/until"
  seconds=$((length / 100)).$(printf %02d $((length % 100)))
  case "$(systemctl is-system-running 2>/dev/null)" in
    running | degraded)
      unit=drkit-lease-$key
      systemctl reset-failed "$unit.service" 2>/dev/null
      systemd-run --quiet --unit="$unit" --on-active="$seconds" --timer-property=AccuracySec=100ms \
        --property=WorkingDirectory="$PWD" sh -c "$lease" drkit-lease "$f" "$owner" 0 || return 1
      echo "$unit" >"$f/unit" ;;
    *) setsid sh -c "$lease" drkit-lease "$f" "$owner" "$seconds" </dev/null >/dev/null 2>&1 9>&- & ;;
  esac
  tries=100
  until lease_alive; do
    tries=$((tries - 1)); [ "$tries" -gt 0 ] || return 1
    sleep 0.01
  done
}

cancel_lease() {
  if [ -f "$f/unit" ]; then systemctl stop "$(cat "$f/unit").timer" 2>/dev/null
  elif is_alive "$f/lease"; then kill -KILL "$pid"; fi
}

case "$verb" in
inject)
  key=$1 owner=$2 machine=$3 fencing=$4 boot=$5 start_by=$6 length=$7 meta=$8 inject=$9; shift 9; undo=$1
  f=$home/faults/$key
  found=$(cat etc/machine-id 2>/dev/null)
  [ "$found" = "$machine" ] || { echo "this host is ${found:-without machine-id}, not $machine"; exit 92; }
  mkdir -p "$f" || exit 95
  exec 8>"$home/fence.lock" || exit 95
  flock -w 2 8 || { echo "the fencing token cannot be locked"; exit 90; }
  highest=$(cat "$home/fence" 2>/dev/null || echo 0)
  [ "$fencing" -ge "$highest" ] || { echo "fencing token $fencing is older than $highest"; exit 91; }
  echo "$fencing" >"$home/fence.new" && mv "$home/fence.new" "$home/fence"
  exec 8>&-
  exec 9>"$f/lock" || exit 95
  flock -w 5 9 || { echo "somebody else is at work on $key"; exit 90; }
  [ "$boot" = "$(cat /proc/sys/kernel/random/boot_id)" ] || { echo "the host has restarted since it was asked"; exit 96; }
  [ "$(now)" -le "$start_by" ] || { echo "it came too late: the lease it was to have is over"; exit 96; }
  case "$(state)" in
    '' | healed*)
      if [ "$(cat "$f/owner" 2>/dev/null)" = "$owner" ]; then echo "its lease is over, $(state) before"; exit 96; fi
      echo "$owner" >"$f/owner"; echo "$meta" >"$f/meta"; printf '%s\n' "$undo" >"$f/revert"
      become armed
      arm || { cancel_lease; become "healed drkit"; echo "its lease could not be armed"; exit 99; } ;;
    *)
      [ "$(cat "$f/owner")" = "$owner" ] || { echo "$key is injected already, by $(cat "$f/owner")"; exit 93; }
      lease_alive || { echo "its lease is gone"; exit 96; } ;;
  esac
  if [ "$(state)" = armed ]; then
    left=$(($(cat "$f/until") - $(now)))
    [ "$left" -gt 0 ] || { echo "its lease is over"; exit 96; }
    FAULT=$f LEFT_S=$((left / 100 + 1)) setsid -w sh -c '
      echo "$$ $(sed "s/.*) //" /proc/$$/stat | cut -d" " -f20)" >"$FAULT/injector"; eval "$1"
    ' drkit-inject "$inject" >>"$f/log" 2>&1 9>&- || {
      echo "injecting ended with $?: $(tail -n 1 "$f/log")"
      if revert; then cancel_lease; become "healed drkit"; exit 97; fi
      echo "and reverting failed: $(tail -n 1 "$f/log"); its lease tries again"; exit 98
    }
    become injected
  fi
  echo "injected $(($(cat "$f/until") - $(now))) $(if [ -f "$f/unit" ]; then echo systemd; else echo process; fi)" ;;
heal)
  f=$home/faults/$1 by=$2
  [ -f "$f/state" ] || { echo "absent"; exit 0; }
  exec 9>"$f/lock" || exit 95
  flock -w 10 9 || { echo "somebody else is at work on $1"; exit 90; }
  case "$(state)" in
    healed*) ;;
    *)
      revert || { echo "reverting failed: $(tail -n 1 "$f/log")"; exit 98; }
      become "healed $by"; cancel_lease ;;
  esac
  echo "$(state)"; cat "$f/meta" ;;
list)
  for f in "$home"/faults/*; do
    [ -f "$f/state" ] || continue
    case "$(state)" in healed*) continue ;; esac
    if lease_alive; then left=$(($(cat "$f/until") - $(now))); else left=-; fi
    printf '%s\t%s\t%s\t%s\n' "${f##*/}" "$(state)" "$left" "$(cat "$f/meta")"
  done ;;
clock) cat /proc/sys/kernel/random/boot_id; now ;;
*) echo "no verb $verb"; exit 64 ;;
esac
