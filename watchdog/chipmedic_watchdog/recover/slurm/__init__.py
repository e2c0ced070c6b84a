"""Slurm: how nodes are drained and jobs moved there."""

from chipmedic_watchdog.recover.slurm.adapter import Slurm

__all__ = ["Slurm"]
