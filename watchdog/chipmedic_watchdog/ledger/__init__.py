"""Where the time of a job went: each lost second tied to an incident."""
