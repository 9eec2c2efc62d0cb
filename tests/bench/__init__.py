"""Measurements. None of them is a test: speed is never asserted, it is compared in one run."""
