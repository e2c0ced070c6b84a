"""Which of several watchdogs on one store leads, and what the others may not do."""
