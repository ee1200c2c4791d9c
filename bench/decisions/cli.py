"""Command line of the decisions benchmark, and its form for ``make bench``."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

import bench.decisions
from bench.decisions import report
from bench.decisions.replay import open_log, score_log, scored
from bench.decisions.rules import FAMILIES
from bench.decisions.score import Judge
from bench.decisions.tune import LIMIT, Trial, trials
from router.core.errors import InputRejected
from router.sim.series import Series, load_series

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"  # beside the checkout, where there is one
STABLE, NOISY = "rtt_series_planetlab120.csv.gz", "rtt_series_seattle_A.csv.gz"
TRACES = "rtt_traces_atlas_labelled_A.csv.gz"


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.decisions", description=(bench.decisions.__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--series", type=Path, help="CSV: slice, src, one column per destination; ms; .gz too")
    parser.add_argument("--log", type=Path, help="write the paths in force of our engine, or of the one rule named")
    parser.add_argument("--score", type=Path, help="judge this log of paths instead of replaying rules")
    parser.add_argument("--rules", default="all", help="all, or names separated by commas: " + ", ".join(FAMILIES))
    parser.add_argument("--from-slice", type=int, default=0, help="judge from this slice (by position) on")
    parser.add_argument("--slice-s", type=float, help="length of a slice in seconds, for moves per link-day")
    parser.add_argument(
        "--frontier", action="store_true", help="tune every rule on the first half; with --synthetic, try every grid"
    )
    parser.add_argument("--plot", type=Path, help="write an SVG: share worse against gain; implies --frontier")
    parser.add_argument("--table", type=Path, help="write the table here instead of stderr")
    parser.add_argument("--budget", type=float, help="share of the full mesh's probes that may be sent")
    parser.add_argument("--hide", type=float, default=0.8, help="share of pairs hidden with --budget")
    parser.add_argument("--asymmetric", action="store_true", help="one-way routing with clocks that are wrong")
    parser.add_argument("--synthetic", type=Path, help="labelled traces to fit noise to: reaction against false moves")
    parser.add_argument("--probe-s", type=float, default=0.05, help="time between probes with --synthetic")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args(argv)


def cli(argv: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; exit code 1 with the reason if the input is refused, 2 on wrong usage."""
    args = _arguments(argv)
    try:
        outcome = _run(args)
    except InputRejected as error:
        print(f"{error.code}: {error.message}", file=sys.stderr)
        return 1
    if outcome is None:
        print("one of --series, --synthetic and --asymmetric is needed; see --help", file=sys.stderr)
        return 2
    print(json.dumps(report.rounded(outcome)))
    return 0


def _run(args: argparse.Namespace) -> dict[str, Any] | None:
    outcome: dict[str, Any] = {}
    # By name: these two judge parts of the product that the replay of a series does not need.
    if args.asymmetric:
        outcome["asymmetric"] = importlib.import_module("bench.decisions.asymmetric").main(args.seed)
    if args.synthetic:
        synthetic = importlib.import_module("bench.decisions.synthetic")
        names = _names(args.rules)
        outcome["synthetic"] = synthetic.run(args.synthetic, names, args.probe_s, args.seed, args.frontier)
        _show(synthetic.table(outcome["synthetic"]), args.table)
    if args.series is None:
        return outcome or None
    if args.budget is not None:
        budget = importlib.import_module("bench.decisions.budget")
        outcome["budget"] = budget.main(args.series, args.budget, args.hide, args.log)
        return outcome
    return outcome | judge_series(args)


def judge_series(args: argparse.Namespace) -> dict[str, Any]:
    """Replay the rules over a series, or score a log of it."""
    series = load_series(args.series)
    slices = len(series.slices)
    if not 0 <= args.from_slice < slices:
        rule = f"must be from 0 to {slices - 1}"
        raise InputRejected("bad_slice", f"--from-slice {rule}", field="from_slice", rule=rule, limit=slices - 1)
    judge = Judge.of(series.one_way_ms, args.slice_s)
    head = _about(series, args)
    if args.score:
        score = score_log(series, judge, args.score)
        halves = {"all": score.result(args.from_slice), "second_half": score.result(max(args.from_slice, slices // 2))}
        return head | {"log": halves}
    names = _names(args.rules)
    rules = replay_rules(judge, names, args.from_slice, args.frontier or args.plot is not None)
    if args.log:
        _write_log(series, judge, names, args.log)
    _show(report.table(rules), args.table)
    if args.plot:
        args.plot.write_text(report.plot(rules, f"{series_name(args.series)}, second half"), encoding="utf-8")
    return head | {"rules": rules, "dominance": report.dominance(rules)}


def replay_rules(judge: Judge, names: Sequence[str], first: int, with_frontier: bool) -> dict[str, Any]:
    """The report of each rule: published constants, and its tuned frontier if wanted."""
    jobs = [(name, FAMILIES[name].published, first) for name in names]
    if with_frontier:
        jobs += [(name, constants, first) for name in names for constants in FAMILIES[name].grid]
    done = trials(judge, jobs)
    published = dict(zip(names, done, strict=False))
    tried: dict[str, list[Trial]] = {name: [] for name in names}
    for one in done[len(names) :]:
        tried[one.family].append(one)
    return report.rules_report(published, tried)


def series_name(path: Path) -> str:
    """File name without its endings."""
    return path.name.removesuffix(".gz").removesuffix(".csv")


def _names(wanted: str) -> list[str]:
    names = list(FAMILIES) if wanted == "all" else [name.strip() for name in wanted.split(",")]
    unknown = [name for name in names if name not in FAMILIES]
    if unknown:
        rule = "one of " + ", ".join(FAMILIES)
        raise InputRejected("unknown_rule", f"there is no rule {unknown[0]!r}: {rule}", field="rules", rule=rule)
    return names


def _about(series: Series, args: argparse.Namespace) -> dict[str, Any]:
    off = ~np.eye(len(series.nodes), dtype=np.bool_)
    return {
        "series": series_name(args.series), "nodes": len(series.nodes), "slices": len(series.slices),
        "missing_share": float(np.isnan(series.rtt_ms[:, off]).mean()), "from_slice": args.from_slice,
        "tuned_before_slice": len(series.slices) // 2, "tuned_for_share_worse": LIMIT, "slice_s": args.slice_s,
    }  # fmt: skip


def _write_log(series: Series, judge: Judge, names: Sequence[str], path: Path) -> None:
    ours = [name for name in names if FAMILIES[name].ours] or (list(names) if len(names) == 1 else [])
    if not ours:
        rule = "needs our engine among the rules, or exactly one rule"
        raise InputRejected("no_rule_to_log", f"--log {rule}", field="log", rule=rule)
    with ExitStack() as stack:
        scored(judge, FAMILIES[ours[0]].rule(), stack.enter_context(open_log(path, series)))


def _show(text: str, path: Path | None) -> None:
    if path is None:
        print(text, file=sys.stderr)
    else:
        path.write_text(text + "\n", encoding="utf-8")


def main() -> bool:
    """``make bench NAME=decisions``: the shared series and traces, one line per rule; what is not there is skipped."""
    met = True
    for name, worse, key, least in ((STABLE, 0.02, "share_of_oracle", 0.8), (NOISY, 0.08, "mean_gain_ms", 10.0)):
        path = DATA / name
        if not _there(path):
            continue
        judge = Judge.of(load_series(path).one_way_ms)
        rules = replay_rules(judge, list(FAMILIES), 0, with_frontier=True)
        half = "all" if name == STABLE else "second_half"
        met &= _series_lines(series_name(path), rules, half, worse, key, least)
    if _there(DATA / TRACES):
        synthetic = importlib.import_module("bench.decisions.synthetic")
        met &= _event_lines(synthetic.run(DATA / TRACES, list(FAMILIES), 0.05, 1))
    return met


def _there(path: Path) -> bool:
    if not path.exists():
        print(json.dumps({"name": "decisions", "case": series_name(path), "skipped": "no such file"}), flush=True)
    return path.exists()


def _series_lines(case: str, rules: dict[str, Any], half: str, worse: float, key: str, least: float) -> bool:
    met = True
    beside = report.dominance(rules)
    for name, entry in rules.items():
        metrics = entry[half]
        share, value = metrics["share_worse"] or 0.0, metrics[key] or 0.0
        row: dict[str, Any] = {
            "name": "decisions", "case": case, "rule": name, "half": half, "share_worse": share, key: value,
            "moves_per_pair_1000": metrics["moves_per_pair_1000"], "mos": metrics["mos"],
        }  # fmt: skip
        if entry["ours"]:
            good = share <= worse and value >= least and beside is not None and not beside["unbeaten"]
            row |= {"goal": "D3", "bound": {"share_worse": worse, key: least}, "dominance": beside, "met": good}
            met &= good
        print(json.dumps(report.rounded(row)), flush=True)
    return met


def _event_lines(outcome: dict[str, Any]) -> bool:
    met = True
    for name, measured in outcome["published"].items():
        step, loss = measured["step"], measured["loss"]
        row: dict[str, Any] = {
            "name": "decisions", "case": "events on measured noise", "rule": name, "probe_s": outcome["probe_s"],
            "false_per_link_day": measured["false_per_link_day"], "step_p95_s": step["p95_s"],
            "moves_per_event": step["moves_per_event"], "loss_mean_slices": loss["mean_slices"],
            "loss_cusum_slices": loss["cusum_slices"],
        }  # fmt: skip
        if FAMILIES[name].ours:
            good = measured["false_per_link_day"] <= 1 and (step["moves_per_event"] or 9) <= 2
            good &= step["p95_s"] is not None and step["p95_s"] <= 1
            good &= loss["mean_slices"] is not None and loss["mean_slices"] <= 1.3 * loss["cusum_slices"]
            row |= {
                "goal": "D4",
                "bound": {"false_per_link_day": 1, "step_p95_s": 1, "loss_of_cusum": 1.3},
                "met": good,
            }
            met &= good
        print(json.dumps(report.rounded(row)), flush=True)
    return met
