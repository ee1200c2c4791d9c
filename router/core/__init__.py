"""The pure core: facts, estimates, decisions. No clock, no randomness, no I/O."""
