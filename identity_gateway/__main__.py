"""`python -m identity_gateway` is the command line."""

from identity_gateway.cli import main

main()
