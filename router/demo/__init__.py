"""The living demo world: emulated WAN, world files, people talking to agents, and the launcher of it all."""
