"""What can go wrong: kinds, the vendors' codes as data, and the reading of log lines."""
