"""The collectors: one module or folder per vendor or source, reached through entry points only."""
