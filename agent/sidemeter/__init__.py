"""Sidemeter's agent: record usage beside the service, forward it exactly once, decide limits in memory."""
