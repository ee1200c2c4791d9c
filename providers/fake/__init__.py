"""Stand-ins for the clouds: stateful, on loopback, speaking each cloud's own HTTP, with faults on request.

They prove adapters: whatever the real service would refuse by its own description is recorded as a violation, and a
machine that was made stays until somebody deletes it, however many answers got lost. They forget all when they stop.
"""
