"""The per-host daemon: scans, detects, spools and streams."""
