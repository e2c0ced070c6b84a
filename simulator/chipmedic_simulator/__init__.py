"""Simulated chips, tools, kernel log, jobs and the demo, at the lowest interface there is."""
