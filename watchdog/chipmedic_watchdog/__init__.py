"""The central service: takes in what agents report, tells people, and moves jobs."""
