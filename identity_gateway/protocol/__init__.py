"""Pure protocol code: values in, values or errors out.

Nothing in this package awaits, reads a clock, the environment or a socket; the caller passes what is needed.
"""
