#!/bin/sh
# Prolog for slurm.conf: a job does not begin on a node whose agent knows it to be sick.
#   Prolog=/etc/chipmedic/slurm/prolog.sh
#   PrologFlags=Alloc
#   SchedulerParameters=nohold_on_prolog_fail    else Slurm holds the job that was refused
# On refusal the node is drained with the fault as its reason, and Slurm queues the job again.
. "$(dirname "$0")/fit.sh"
if is_fit; then
    begins
    exit 0
fi
echo "$TAG $NODE refuses job ${SLURM_JOB_ID:-?}: $REASON" >&2
drain
exit 1
