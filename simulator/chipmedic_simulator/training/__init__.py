"""A small data-parallel training job: real processes, a real barrier, real checkpoints.

It needs the standard library alone. It behaves as training does where it matters to a watcher: one
rank that does not arrive stalls all of them without a word, a rank whose chip has an uncorrectable
error dies and leaves the others waiting in their collective, as NCCL does, and a restart begins at
the last checkpoint.
"""
