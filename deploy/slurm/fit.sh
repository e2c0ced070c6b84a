# What the Slurm scripts of this folder share; they read it with `.`, it is no program.
#
# The node's own agent says whether the node is fit, so this works without the watchdog. Settings
# stand in /etc/chipmedic/slurm.env, as NAME=value; it is read by the shell and may use $NODE:
#   CHIPMEDIC_AGENT=127.0.0.1:9480   where the agent serves its pages ([http] listen)
#   CHIPMEDIC_WHEN_UNKNOWN=open      the agent does not answer: open takes the job, closed refuses it
#   CHIPMEDIC_SECONDS=3              how long it is waited for
#   CHIPMEDIC_RESUME=no              yes: the health check gives back what these scripts drained
#   CHIPMEDIC_YOUNG_SECONDS=60       a job that fails within this of its start died young
#   CHIPMEDIC_BRAKE_SECONDS=30       how long the epilog waits after three of them in a row; 0: never
#   CHIPMEDIC_STATE=/run/chipmedic-slurm    where that is counted

PATH=$PATH:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin  # Slurm gives a prolog none
NODE=${SLURMD_NODENAME:-$(hostname -s)}
: "${CHIPMEDIC_ENV:=/etc/chipmedic/slurm.env}"
if [ -r "$CHIPMEDIC_ENV" ]; then . "$CHIPMEDIC_ENV"; fi
: "${CHIPMEDIC_AGENT:=127.0.0.1:9480}" "${CHIPMEDIC_WHEN_UNKNOWN:=open}"
: "${CHIPMEDIC_SECONDS:=3}" "${CHIPMEDIC_RESUME:=no}"
: "${CHIPMEDIC_YOUNG_SECONDS:=60}" "${CHIPMEDIC_BRAKE_SECONDS:=30}"
: "${CHIPMEDIC_STATE:=/run/chipmedic-slurm}"
STATE=$CHIPMEDIC_STATE/$NODE  # several nodes may be one host

TAG='chipmedic-node:'  # not the watchdog's `chipmedic:`: it gives back only what it took out itself

# Sets REASON; returns 0 for a fit node, 1 for one that must not get work.
is_fit() {
    answer=$(curl --silent --noproxy '*' --max-time "$CHIPMEDIC_SECONDS" \
        --write-out '\n%{http_code}' "http://$CHIPMEDIC_AGENT/fit" 2>/dev/null)
    status=$(printf '%s\n' "$answer" | tail -n 1)
    REASON=$(printf '%s\n' "$answer" | head -n 1)
    case $status in
        200) return 0 ;;
        409) return 1 ;;
    esac
    # No curl, no agent, one that is stuck, or one that does not know the page: nobody can say.
    REASON="the agent at $CHIPMEDIC_AGENT does not say whether the node is fit"
    case $CHIPMEDIC_WHEN_UNKNOWN in
        closed) return 1 ;;
        open) ;;
        *) echo "$TAG CHIPMEDIC_WHEN_UNKNOWN is '$CHIPMEDIC_WHEN_UNKNOWN', neither open nor closed" >&2
            return 1 ;;
    esac
    echo "$TAG $REASON; it is taken for fit (CHIPMEDIC_WHEN_UNKNOWN=open)" >&2
    return 0
}

# The node's state and reason, as Slurm has them; empty where it does not answer.
shown() {
    timeout 10 scontrol -o show node "$NODE" 2>/dev/null
}

# Drains the node for $REASON, unless somebody else has taken it out: then their reason stays.
drain() {
    case $(shown) in
        '') return 1 ;;
        *State=*DRAIN* | *State=DOWN*' Reason='*) return 0 ;;
    esac
    timeout 10 scontrol update "NodeName=$NODE" State=DRAIN "Reason=$TAG $REASON"
}

# Notes that a job begins here; what cannot be noted only leaves the brake off.
begins() {
    mkdir -p "$STATE" 2>/dev/null && : >"$STATE/began.$SLURM_JOB_ID"
}

# Whether the job that ends here failed within CHIPMEDIC_YOUNG_SECONDS; keeps count of those in a row.
died_young() {
    began=$(stat -c %Y "$STATE/began.$SLURM_JOB_ID" 2>/dev/null) || return 1
    rm -f "$STATE/began.$SLURM_JOB_ID"
    age=$(($(date +%s) - began))
    case ${SLURM_JOB_EXIT_CODE2:-0:0} in
        *:2 | *:15) return 1 ;;  # somebody ended it: that says nothing
        0:0) ;;
        *)
            if [ "$age" -le "$CHIPMEDIC_YOUNG_SECONDS" ]; then
                : >"$STATE/young.$SLURM_JOB_ID"
                return 0
            fi ;;
    esac
    rm -f "$STATE"/young.*
    return 1
}

# Keeps the node COMPLETING for a while, where three jobs in a row died young within ten minutes;
# not longer than until somebody has taken it out.
brake() {
    find "$STATE" -name 'young.*' -mmin +10 -delete
    count=$(find "$STATE" -name 'young.*' | wc -l)
    [ "$count" -ge 3 ] && [ "$CHIPMEDIC_BRAKE_SECONDS" -gt 0 ] || return 0
    echo "$TAG $count jobs in a row failed young on $NODE; it waits $CHIPMEDIC_BRAKE_SECONDS s" >&2
    end=$(($(date +%s) + CHIPMEDIC_BRAKE_SECONDS))
    while [ "$(date +%s)" -lt "$end" ]; do
        case $(shown) in *State=*DRAIN*) return 0 ;; esac
        sleep 3
    done
}
