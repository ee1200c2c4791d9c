"""The periodic jobs as data; the runtime's scheduler and the simulator drive the same table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Job:
    """A job with its period; ``core`` jobs enter the inbox as ``Tick(name)``, the others are work of the shell."""

    name: str
    period_s: float
    core: bool = True


JOBS = (
    Job("health", 0.25),  # an outage is noticed within this of its evidence
    Job("routes", 1.0),
    Job("blame", 1.0),  # who is at fault; three windows of two seconds make it sure
    Job("drains", 1.0),
    Job("ramps", 1.0),
    Job("rollup", 30.0),
    Job("clients", 30.0),  # learn from client networks, if anything was measured
    Job("counters", 10.0, core=False),  # absolute counters from the database heal any drift of the differences
    Job("agents", 1.0, core=False),  # what other control planes on the same database have taken and given back
    Job("expire", 2.0, core=False),  # sessions whose lease is over, agents that fell silent
    Job("stock", 5.0, core=False),  # agents, queues and bought machines are counted; purchases follow from it
    Job("prices", 900.0, core=False),  # what providers say of prices and quotas
    Job("reap", 60.0, core=False),  # machines whose launch was answered by nobody
    Job("pools", 1.0, core=False),  # sessions that wait for an agent, and agents whose state has lasted long enough
    Job("webhooks", 1.0, core=False),  # messages whose time to be tried again has come
    Job("save_table", 5.0, core=False),
    Job("forget_ended", 300.0, core=False),  # what is known of sessions that ended long ago
    Job("thin_history", 3600.0, core=False),
)
