"""The operations that are served, compiled once for every module that asks them something."""

from identity_gateway.protocol.aws import load_services

AWS = load_services()
