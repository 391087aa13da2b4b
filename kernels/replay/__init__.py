"""Replay: draws in proportion to priorities."""
