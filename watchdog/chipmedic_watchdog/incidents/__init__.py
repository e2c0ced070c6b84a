"""From open faults to incidents: one cause, one page."""
