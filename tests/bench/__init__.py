"""`make bench`: the gateway beside its peers, measured in one run. Nothing here is a test: speed is compared, never asserted."""
