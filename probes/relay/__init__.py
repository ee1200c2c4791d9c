"""Source-routed UDP: the small data plane for media servers that cannot follow a relay path (off by default).

A packet carries the list of relays it visits; each hands it to the next, and the last one delivers the payload to a UDP
port of its own machine. Version 2 is *sealed*: every hop proves to the next who it is (:class:`Keyring`). Version 1 is
*open*: no proof, for those without keys, and only where a relay is told to take it. A :class:`Relay` forwards and
delivers; a :class:`Tunnel` takes packets from the media server beside it.

For the agent: one keyring per node, whether it relays or not.

    keyring = Keyring()
    relay = Relay(open_udp(host, 7422), delivers, keyring=keyring, open=config.relay_open)
    relay.follow(plan.node, plan.own_key, neighbours_of(plan, addresses))  # without a relay: keyring.install(…)
    tunnel = Tunnel(relay, lambda context, target: paths, bind=("127.0.0.1", 7428), unix_path=None)
    packet = keyring.wrap(hops, reflector_port, probe, wall_us)  # a probe along a path; send it to hops[0]
    probe = keyring.unwrap(packet, monotonic_ns, wall_us)  # its answer, from hops[0] to the socket that sent it
"""

from probes.relay.forward import MEDIA_PORTS, Relay
from probes.relay.keyring import Keyring, Neighbour, neighbours_of, sender_id
from probes.relay.packet import FIRST_TTL, MAX_HOPS, MAX_PAYLOAD, RelayError, RelayHeader, SealedHeader, unwrap
from probes.relay.tunnel import TUNNEL_PORT, Tunnel, TunnelError, pack_send, unpack_answer

__all__ = [
    "FIRST_TTL",
    "MAX_HOPS",
    "MAX_PAYLOAD",
    "MEDIA_PORTS",
    "TUNNEL_PORT",
    "Keyring",
    "Neighbour",
    "Relay",
    "RelayError",
    "RelayHeader",
    "SealedHeader",
    "Tunnel",
    "TunnelError",
    "neighbours_of",
    "pack_send",
    "sender_id",
    "unpack_answer",
    "unwrap",
]
