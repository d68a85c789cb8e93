"""Answers that go on: subscriptions, over WebSockets and as server-sent events."""
