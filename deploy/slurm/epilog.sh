#!/bin/sh
# Epilog for slurm.conf: what fell ill under a job takes no other.
#   Epilog=/etc/chipmedic/slurm/epilog.sh
# It always ends with 0: another status would make Slurm drain the node with `Epilog error` as reason.
. "$(dirname "$0")/fit.sh"
is_fit || drain
exit 0
