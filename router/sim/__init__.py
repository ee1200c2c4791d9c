"""Deterministic simulator: the very same core, job table and probe scheduler on a virtual clock with a seed."""
