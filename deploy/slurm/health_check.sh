#!/bin/sh
# HealthCheckProgram for slurm.conf: an idle node that falls ill takes no work.
#   HealthCheckProgram=/etc/chipmedic/slurm/health_check.sh
#   HealthCheckInterval=60
#   HealthCheckNodeState=ANY,CYCLE
# It gives nothing back by itself (a node is checked under load first: `chipmedic give-back` or
# `scontrol update NodeName=N State=RESUME`), unless CHIPMEDIC_RESUME=yes.
. "$(dirname "$0")/fit.sh"
if ! is_fit; then
    drain
    exit 0
fi
if [ "$CHIPMEDIC_RESUME" = yes ]; then
    case $(shown) in
        *State=*DRAIN*"Reason=$TAG"*) timeout 10 scontrol update "NodeName=$NODE" State=RESUME ;;
    esac
fi
exit 0
