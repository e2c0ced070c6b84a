"""The parts of the daemon, a file per concern: each makes its own from the configuration."""
