#!/bin/sh
# Epilog for slurm.conf: what fell ill under a job takes no other.
#   Epilog=/etc/chipmedic/slurm/epilog.sh
# It always ends with 0: another status would make Slurm drain the node with `Epilog error` as reason.
# After three jobs in a row that failed young it waits, so that the watchdog can take the node out
# before the next job gets it; with the prolog, which notes when a job begins.
. "$(dirname "$0")/fit.sh"
if ! is_fit; then
    drain
elif died_young; then
    brake
fi
exit 0
