"""A self-hosted identity and authentication gateway for AI agents.

It stands in front of agent runtimes, verifies who calls (AWS Signature Version 4 or a JWT), forwards the call, and
hands the agent a workload access token. It speaks the wire protocol of Amazon Bedrock AgentCore, so unmodified AWS SDKs
work.
"""

__version__ = "0.1.0"
