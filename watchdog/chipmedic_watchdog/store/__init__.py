"""The durable memory of the watchdog."""
