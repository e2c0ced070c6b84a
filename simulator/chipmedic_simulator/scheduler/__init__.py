"""A scheduler of one job, for hosts without a real one: what `[recover.exec]` calls in the demo.

`python -m chipmedic_simulator.scheduler --help` names its commands. They change `scheduler.json`
under a lock; the daemon (`run`) brings the world to it.
"""
