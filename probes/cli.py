"""The commands of the probe agent: ``tendril agent run|reflect|once``. Exit codes: 0 done, 1 failed, 2 wrong usage."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx

from probes.agent import AgentConfig, AgentError, ProbeAgent
from probes.clock import Clock
from probes.netcheck import check_control
from probes.once import (
    OnceError,
    Place,
    Result,
    Surroundings,
    fetch_places,
    find,
    look_around,
    measure,
    nearest_candidates,
)
from probes.relay import MAX_HOPS, MEDIA_PORTS, TUNNEL_PORT, RelayError
from probes.sockets import Address, Reflector, new_loop, open_udp, settle
from probes.vantage import Network, read_opt_out

PROBE_PORT, REFLECTOR_PORT, RELAY_PORT = 7420, 7421, 7422
CONFIRM_PORTS = (7430, 7431, 7432)
LOCAL_API = ("127.0.0.1", 7401)
ONCE_PORT = 7426  # the one-shot measurement's own fixed port, for firewalls (and the demo's emulator) that let it pass


def main(argv: Sequence[str]) -> int:
    """Run one command; returns its exit code."""
    try:
        options = _parser().parse_args(argv)
    except SystemExit as leaving:  # argparse has already said why
        return leaving.code if isinstance(leaving.code, int) else 2
    logging.basicConfig(level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # one line per report otherwise
    command = {"run": _run, "reflect": _reflect, "once": _once}[options.command]
    try:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            return runner.run(command(options))
    except (AgentError, OnceError, RelayError) as error:
        print(f"tendril agent {options.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tendril agent", description="The probe agent of one node.")
    parser.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    commands = parser.add_subparsers(dest="command", required=True)
    _add_run(commands.add_parser("run", help="join, probe, answer probes and report, until stopped"))
    reflect = commands.add_parser("reflect", help="only answer STAMP probes, until stopped")
    reflect.add_argument("--bind", default="0.0.0.0", metavar="HOST")
    reflect.add_argument("--port", type=_port, default=REFLECTOR_PORT, help="862 is STAMP's own and needs privileges")
    _add_once(commands.add_parser("once", help="measure round trips now, directly or through relays"))
    return parser


def _add_run(run: argparse.ArgumentParser) -> None:
    _add_control(run)
    run.add_argument("--node", default=os.environ.get("TENDRIL_NODE"), help="this node's id (TENDRIL_NODE)")
    run.add_argument("--state-dir", type=Path, default=Path("/var/lib/tendril"), help="keeps identity and last plan")
    run.add_argument("--bind", default="0.0.0.0", metavar="HOST", help="local address of all sockets")
    run.add_argument("--address", action="append", default=[], type=_address, metavar="TRANSPORT=HOST",
                     help="where others reach this node; once per transport")  # fmt: skip
    run.add_argument("--probe-port", type=_port, default=PROBE_PORT)
    run.add_argument("--confirm-ports", type=_ports, default=CONFIRM_PORTS, metavar="A,B,C",
                     help="further source ports, for the routers' parallel links; 0 is any free one, empty for none "
                          f"(default {','.join(map(str, CONFIRM_PORTS))})")  # fmt: skip
    run.add_argument("--reflector-port", type=_port, default=REFLECTOR_PORT)
    run.add_argument("--local-api", type=_local, default=LOCAL_API, metavar="HOST:PORT",
                     help="where the media server on this node asks for routes: loopback only, empty for off "
                          f"(default {LOCAL_API[0]}:{LOCAL_API[1]})")  # fmt: skip
    run.add_argument("--relay", action="store_true", help="also forward relayed packets (off by default)")
    run.add_argument("--relay-port", type=_port, default=RELAY_PORT)
    run.add_argument("--relay-delivers", action="append", type=_port, metavar="PORT",
                     help="local UDP port that relayed packets may reach, besides the reflector's; may be repeated "
                          f"(default: {', '.join(str(port) for port in sorted(MEDIA_PORTS))})")  # fmt: skip
    run.add_argument("--relay-open", action="store_true",
                     help="also take relayed packets that prove nothing, from addresses in the probe plan")  # fmt: skip
    run.add_argument("--opt-out", type=Path, metavar="FILE",
                     help="networks that are never asked as vantage targets, whatever the plan says: one address or "
                          "CIDR a line")  # fmt: skip
    run.add_argument("--tunnel-port", type=_port, default=TUNNEL_PORT,
                     help="loopback port of a relay's ingress for the media server on this node; 0: none")  # fmt: skip
    run.add_argument("--media-url", default="", help="where users reach the media server of this node")
    run.add_argument("--inject-clock", type=Path, metavar="FILE",
                     help="testbeds only: be as wrong about the time as this file says, and as it changes")  # fmt: skip
    run.add_argument("--join-token", default=os.environ.get("TENDRIL_JOIN_TOKEN"),
                     help="single use; better given as TENDRIL_JOIN_TOKEN, where ps does not show it")  # fmt: skip


def _add_once(once: argparse.ArgumentParser) -> None:
    _add_control(once)
    once.add_argument("targets", nargs="*", metavar="TARGET",
                      help="data center, node or HOST:PORT of a reflector; none: every data center")  # fmt: skip
    once.add_argument("--via", type=_names, default=(), metavar="A,B",
                      help=f"also measure through these relays (at most {MAX_HOPS - 1})")  # fmt: skip
    once.add_argument("--count", type=_positive, default=10, help="probes per path (default 10)")
    once.add_argument("--interval", type=_positive, default=200, metavar="MS", help="between probes of a path")
    once.add_argument("--timeout", type=_positive, default=1000, metavar="MS", help="then a probe is lost")
    once.add_argument("--as", "--from", dest="as_node", metavar="NODE",
                      help=f"measure from this node's local address, port {ONCE_PORT}, on its machine")  # fmt: skip
    once.add_argument("--bind", metavar="HOST", help="measure from this local address")
    once.add_argument("--port", type=_port, help="local port (default: any, with --as the port above)")
    once.add_argument("--no-checks", action="store_true",
                      help="only measure; do not look for what is blocked")  # fmt: skip
    once.add_argument("-o", "--output", choices=("table", "json"), default="table")


def _add_control(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", default=os.environ.get("TENDRIL_URL"), help="control plane (TENDRIL_URL)")
    parser.add_argument("--key", default=os.environ.get("TENDRIL_KEY", ""), help="API key, viewer (TENDRIL_KEY)")


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"a port is a number from 0 to 65535, not {text!r}")
    return int(text)


def _ports(text: str) -> tuple[int, ...]:
    return tuple(_port(part) for part in text.split(",")) if text else ()


def _local(text: str) -> Address | None:
    host, colon, port = text.rpartition(":")
    if not text:
        return None
    if not (colon and host):
        raise argparse.ArgumentTypeError(f"must be HOST:PORT, or empty for off, not {text!r}")
    return host.strip("[]"), _port(port)


def _positive(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) <= 100_000:
        raise argparse.ArgumentTypeError(f"must be a number from 1 to 100000, not {text!r}")
    return int(text)


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise argparse.ArgumentTypeError(f"must be names joined by commas, not {text!r}")
    return names


def _address(text: str) -> tuple[str, str]:
    transport, equals, host = text.partition("=")
    if not (transport and equals and host):
        raise argparse.ArgumentTypeError(f"must be TRANSPORT=HOST, such as internet=198.51.100.7, not {text!r}")
    return transport, host


def _stop_signal() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def _run(options: argparse.Namespace) -> int:
    if not options.node or not options.url:
        raise AgentError("run needs --node and --url (or TENDRIL_NODE and TENDRIL_URL)")
    if not options.address and options.bind in ("0.0.0.0", "::"):
        raise AgentError(
            "run needs --address internet=HOST (where others reach this node), or --bind with that address"
        )
    config = AgentConfig(
        node=options.node,
        control_url=options.url,
        state_dir=options.state_dir,
        bind_host=options.bind,
        probe_port=options.probe_port,
        reflector_port=options.reflector_port,
        relay_port=options.relay_port if options.relay else None,
        join_token=options.join_token,
        clock_file=options.inject_clock,
        advertise_addresses=dict(options.address),
        media_url=options.media_url,
        relay_delivers=frozenset(options.relay_delivers or MEDIA_PORTS),
        relay_open=options.relay_open,
        opt_out=_opt_out(options.opt_out),
        tunnel=("127.0.0.1", options.tunnel_port) if options.tunnel_port else None,
        confirm_ports=options.confirm_ports,
        local_api=options.local_api,
    )
    stop = asyncio.create_task(_stop_signal().wait())
    agent = ProbeAgent(config)
    try:
        await agent.start()
        settle()
        ended = asyncio.create_task(agent.wait())
        await asyncio.wait([stop, ended], return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            ended.result()
        ended.cancel()
    finally:
        stop.cancel()
        await agent.stop()
    return 0


def _opt_out(path: Path | None) -> tuple[Network, ...]:
    """The networks in the file. Raises :class:`AgentError`: who opted out must not be asked because of a typo."""
    if path is None:
        return ()
    try:
        return read_opt_out(path.read_text())
    except (OSError, ValueError) as error:
        raise AgentError(f"cannot read {path}: {error}") from error


async def _reflect(options: argparse.Namespace) -> int:
    try:
        reflector = Reflector(open_udp(options.bind, options.port), Clock())
    except OSError as error:
        raise AgentError(f"cannot listen on {options.bind} port {options.port}: {error.strerror}") from error
    print("reflecting on {} port {}".format(*reflector.address), flush=True)
    try:
        await _stop_signal().wait()
    finally:
        reflector.close()
    print(json.dumps(dict(reflector.counters)))
    return 0


async def _once(options: argparse.Namespace) -> int:
    places = await _places(options)
    bind, own = _bind(options, places)
    via = tuple(find(places, name) for name in options.via)
    targets = [find(places, name) for name in options.targets] or nearest_candidates(places)
    targets = [place for place in targets if place != own]
    paths: list[tuple[Place, tuple[Place, ...]]] = [(place, ()) for place in targets]
    if via:
        paths += [(place, via) for place in targets if place not in via]
    interval_s, timeout_s = options.interval / 1e3, options.timeout / 1e3
    results = await measure(bind, paths, count=options.count, interval_s=interval_s, timeout_s=timeout_s)
    found = None if options.no_checks else await look_around(bind, targets, results, options.url)
    print(_json(results, found) if options.output == "json" else _table(results, found))
    return 0 if any(result.received for result in results) else 1


async def _places(options: argparse.Namespace) -> list[Place]:
    if not options.url:
        if options.as_node or options.via or not options.targets:
            raise OnceError("names need a control plane: give --url and --key, or only targets of the form HOST:PORT")
        return []
    try:
        async with httpx.AsyncClient() as client:
            return await fetch_places(client, options.url, options.key)
    except OnceError as error:
        raise OnceError(f"{error} ({await check_control(options.url)})") from error


def _bind(options: argparse.Namespace, places: Sequence[Place]) -> tuple[Address, Place | None]:
    if options.as_node is None:
        return (options.bind or "0.0.0.0", options.port or 0), None
    own = find(places, options.as_node)
    host = options.bind or own.labels.get("bind_host") or own.host
    return (host, ONCE_PORT if options.port is None else options.port), own


def _nearest_first(results: Sequence[Result]) -> list[Result]:
    best: dict[str, int] = {}
    for result in results:
        if result.rtt_us is not None:
            best[result.place.node] = min(result.rtt_us, best.get(result.place.node, result.rtt_us))
    unanswered = max(best.values(), default=0) + 1
    return sorted(results, key=lambda r: (best.get(r.place.node, unanswered), r.place.node, len(r.via)))


def _saved_us(result: Result, results: Sequence[Result]) -> int | None:
    """How much faster a path through relays is than the direct one."""
    direct = next((r for r in results if r.place == result.place and not r.via), None)
    if not result.via or direct is None or direct.rtt_us is None or result.rtt_us is None:
        return None
    return direct.rtt_us - result.rtt_us


def _ms(value_us: int | None) -> float | None:
    return None if value_us is None else value_us / 1_000


def _json(results: Sequence[Result], found: Surroundings | None = None) -> str:
    return json.dumps(
        ({} if found is None else found.json())
        | {
            "results": [
                {
                    "data_center": result.place.data_center,
                    "node": result.place.node,
                    "via": list(result.via),
                    "rtt_ms": _ms(result.rtt_us),
                    "rtt_min_ms": _ms(result.rtt_min_us),
                    "jitter_ms": _ms(result.jitter_us),
                    "loss_pct": result.loss_pct,
                    "sent": result.sent,
                    "received": result.received,
                    "saved_ms": _ms(_saved_us(result, results)),
                }
                | ({} if found is None or result.via else found.check_json(result.place.node))
                for result in _nearest_first(results)
            ]
        },
        indent=2,
    )


def _table(results: Sequence[Result], found: Surroundings | None = None) -> str:
    heads = ("TARGET", "NODE", "VIA", "RTT MS", "MIN MS", "JITTER MS", "LOSS %", "SAVED MS")
    lines: list[tuple[str, ...]] = [heads if found is None else (*heads, "CHECK")]
    for result in _nearest_first(results):
        figures = (result.rtt_us, result.rtt_min_us, result.jitter_us)
        saved_us = _saved_us(result, results)
        lines.append((
            result.place.data_center,
            result.place.node,
            ",".join(result.via) or "direct",
            *("-" if value is None else f"{value / 1_000:.2f}" for value in figures),
            f"{result.loss_pct:.1f}",
            "" if saved_us is None else f"{saved_us / 1_000:+.2f}",
            *(() if found is None else ("" if result.via else str(found.checks[result.place.node]),)),
        ))  # fmt: skip
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    rows = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join(rows if found is None else [*rows, "", *found.lines()])
