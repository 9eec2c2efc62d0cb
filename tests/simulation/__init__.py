"""Refresh under fire: replicas, vendors and stores in one deterministic event loop, where anything may fail anywhere.

`python -m tests.simulation --schedules N` runs N random schedules for each kind of vendor, and a crash at every single
step of a refresh, and prints what came of them. The same seed tells the same story.
"""
