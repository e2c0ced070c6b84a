"""NVML without a chip: a C library behind NVML's ABI, and its stand-in in Python."""
