// Generated from /openapi.json by `python docs/generate.py`: do not edit.
import type {
  TrafficClass,
  VerdictAnswer,
} from './contract'

/** What a verdict asks for; carried out, or not, by drains and steering under their own guards. */
export type Action = "none" | "watch" | "eject_node" | "drain_data_center" | "drain_provider_region" | "drain_provider" | "eject_target" | "steer_group" | "tell_support" | "discard_vantage"

/** An agent as it is kept. */
export type AgentAnswer = {
  id: string; pool: string; data_center: string; node: string | null; state: AgentState; epoch: number; session: string | null
  sessions: LeaseAnswer[]; capacity: number; held: number; served: number; cordoned: boolean; version: string; address: string
  since: string; deadline_at: string | null; seen_at: string
}

/** Life of a stateful agent; the table is `pools.AGENT_TRANSITIONS`. Only `ready` ones are taken. */
export type AgentState = "announced" | "warming" | "ready" | "reserved" | "busy" | "wrapping" | "resetting" | "broken" | "suspect" | "lost" | "retired"

/** Places of agents in a target, and how many sessions will lose their agent when the drain's time is over. */
export type AgentsBehindAnswer = { held: number; idle: number; cut: number }

/** Something else that would explain the same. */
export type AlternativeAnswer = { kind: ComponentKind; id: string; confidence: number }

/** Sessions of one arm since the rung began. */
export type ArmAnswer = { begun: number; settled: number; set_up: number; setup_failed: number; ended: number; dropped: number }

/** A path to fall back on, and what it protects from losing. */
export type BackupPath = {
  path: string[]; transports: string[]; delay_ms: number; error_ms: number | null; jitter_ms: number | null; loss_pct: number | null
  mos: number; metric_us: number; age_ms: number | null; protects: "provider" | "data_center" | "link"
}

/** Ordered backups of both ways. */
export type Backups = { forward: BackupPath[]; return: BackupPath[] }

/** The agent a session is bound to. */
export type BoundAgent = { id: string; data_center: string; address: string }

/** What may be bought at all; `enabled` is false without a purchasing file. */
export type BuyingAnswer = {
  enabled: boolean; dry_run: boolean; counted_at: string | null; budget_usd_per_hour: number | null; spent_usd_per_hour: number
  max_machines: number; machines: number; failure: string; offers: OfferAnswer[]
}

/** What a machine that is a canary has shown so far, and what it waits for. */
export type CanaryAnswer = {
  open: number; agents: number; begun: number; settled: number; setup_failed: number; dropped: number; e_value: number; limit: number
  waits: string[]
}

/** An edge that is worth measuring, and where it is reached. */
export type CandidateAnswer = { data_center: string; url: string }

/** What fits in a data center; 0 is unlimited. */
export type Capacity = { sessions?: number; mbps?: number }

/** How much of a pool there is, is expected, and is bought. */
export type CapacityAnswer = {
  pool: string; idle: number; busy: number; warming: number; queued: number; buffer: number; forecast: number; pending_launches: number
  price_usd_per_hour: number; data_centers: CapacityPlace[]; regions: CapacityRegion[]; providers: CapacityProvider[]
  plan: PurchasePlanAnswer | null
}

/** A pool's agents in one data center; places, not agents, are counted as idle and busy. */
export type CapacityPlace = {
  data_center: string; provider: string | null; idle: number; busy: number; warming: number; cordoned: number
  states: Record<string, number>
}

/** What a pool has with one provider, in all regions together. */
export type CapacityProvider = { provider: string; busy: number; idle: number; warming: number; pending_launches: number; machines: number; price_usd_per_hour: number }

/** What a pool has and will need in a region; users of a region without agents count where theirs are. */
export type CapacityRegion = {
  region: string; busy: number; idle: number; coming: number; queued: number; forecast: number; forecast_at_most: number; horizon_s: number
  level: number; spike: boolean; buffer: number; buffer_rule: string; desired: number; missing: number; spare: number
}

/** One provider's data centers in one region. */
export type Cell = {
  region: string; provider: string; data_centers: string[]; state: Health; sessions: number; headroom_pct: number | null
  blame: VerdictAnswer | null; evidence: string
}

/** A client as it is kept. */
export type ClientAnswer = { prefix: string | null; asn: number | null; country: string | null; latitude: number | null; longitude: number | null }

/** What was seen on the present rung; lost in a restart, after which the rung begins anew. */
export type ClimbAnswer = {
  canary: ArmAnswer; control: ArmAnswer; e_value: number; limit: number; worst: string; robots: Record<string, CourseAnswer>
  waits: string[]; held: boolean
}

/** What can be at fault. */
export type ComponentKind = "node" | "edge_region" | "provider_region" | "provider" | "target" | "transit" | "client_isp" | "prober"

/** What the caller of a session insisted on. */
export type ConstraintsAnswer = {
  allow_providers: string[] | null; deny_providers: string[]; allow_regions: string[] | null; deny_regions: string[]
  max_rtt_ms: number | null
}

/** Robots on one errand since the rung began. */
export type CourseAnswer = { tried: number; failed: number }

/** One data center: what was asked of it, what is measured, what still fits. */
export type DataCenterHealthAnswer = {
  id: string; provider: string; region: string; roles: string[]; latitude: number | null; longitude: number | null; intent: Intent
  state: Health; since: string | null; age_ms: number | null; vantages_ok: number; vantages_lost: number; reason: string; sessions: number
  capacity_sessions: number; headroom_pct: number | null; nodes: NodeAge[]
}

/** Room of one data center, now and then. */
export type DataCenterRoomAnswer = {
  id: string; provider: string; region: string; roles: Role[]; change: "kept" | "removed" | "added"; capacity_sessions: number
  sessions_before: number; sessions_after: number; headroom_before_pct: number | null; headroom_after_pct: number | null
}

/** How a drain treats live sessions. */
export type DrainMode = "soft" | "hard" | "emergency"

/** Who wants a drain; the first of two wins where they overlap. */
export type DrainOrigin = "operator" | "practice" | "automatic"

/** Progress of a drain; the table is `drain.TRANSITIONS`. */
export type DrainState = "cordoned" | "shifting" | "bleeding" | "moving" | "forcing" | "paused" | "drained" | "undone"

/** The edge a user connects to. */
export type Edge = { data_center: string; node: string | null; url: string }

/** A candidate: what it would cost, term by term, and why it is or is not in force. */
export type ExplainedPath = {
  path: string[]; transports: string[]; hops: Hop[]; terms: Record<string, number>; metric_us: number | null
  verdict: "in force" | "candidate" | "lost" | "not allowed" | "unusable"; why: string
}

/** Live sessions between one edge and one hub whose path changes; round trips, null without a path. */
export type FlowChangeAnswer = { edge: string; hub: string; class: TrafficClass; sessions: number; before_rtt_ms: number | null; after_rtt_ms: number | null }

/** The sessions that must fit while the drain lasts, and what that number rests on. */
export type ForecastAnswer = { sessions: number; basis: string }

/** What was measured of one prefix, AS number or country, the nearest edge first. */
export type GroupAnswer = { id: string; asn: number | null; country: string | null; age_ms: number; edges: MeasuredEdge[] }

/** By how many ms of one-way delay: half stay within `p50`, 95 % within `p95`. */
export type GrowthAnswer = { p50: number; p95: number; max: number }

/** Free share of the edges' capacity in per cent: now, afterwards, and if the largest that is left fails on top. */
export type HeadroomAnswer = { now_pct: number | null; after_pct: number | null; after_next_loss_pct: number | null; next_loss: string | null }

/** What measurement says about a data center. */
export type Health = "unknown" | "up" | "degraded" | "down"

/** One step; null where nothing was measured in it. */
export type HistoryPoint = {
  at: string; rtt_ms: Quantiles | null; forward_ms: Spread | null; return_ms: Spread | null; jitter_ms: Spread | null
  loss_pct: number | null; samples: number; lost: number
}

/** The path in force from here to there became another one; null where there is no path. */
export type HistoryRouteChange = { at: string; generation: number; class: string; from_path: string[] | null; to_path: string[] | null }

/** One hop of an explained candidate. */
export type Hop = {
  from: string; to: string; transport: string; delay_ms: number | null; error_ms: number | null; jitter_ms: number | null
  loss_pct: number | null; age_ms: number | null; state: string; metric_us: number | null
}

/** What operators asked of a target; measurement never overwrites it. */
export type Intent = "serving" | "canary" | "cordoned" | "draining" | "drained" | "retired"

/** A machine that was bought; its id is the idempotency key that its provider knows. */
export type LaunchAnswer = {
  id: string; state: LaunchState; pool: string; region: string; need: string; provider: string; data_center: string; size: string
  agents: number; price_usd_per_hour: number; node: string; machine: string | null; reason: string; why: string[]; refusal: string
  tries: number; created_at: string; since: string; finished_at: string | null; revision: number; canary: CanaryAnswer | null
}

/** How far a launch has come; the table is `machines.TRANSITIONS`. */
export type LaunchState = "announced" | "requested" | "pending" | "running" | "joined" | "canary" | "serving" | "leaving" | "returning" | "terminating" | "gone" | "failed"

/** A session that an agent holds, and the fencing number of its lease. */
export type LeaseAnswer = { id: string; epoch: number }

/** A leg as a session shows it. */
export type LegSummary = {
  id: string; state: SessionState; client: ClientAnswer | null; edge: string | null; node: string | null; pool: string | null
  agent: string | null; agent_data_center: string | null; epoch: number; moved_from: string | null; created_at: string
  metadata: Record<string, string>; ended_at: string | null; end_reason: string | null
}

/** A directed link over one transport: its configuration, if it has one, and its estimate, if there is one. */
export type LinkAnswer = {
  id: string | null; from: string; to: string; transport: string; capacity_mbps: number | null; price_usd_per_gb: number | null
  intent: Intent; labels: Record<string, unknown>; revision: number | null; rtt_ms: number | null; forward_ms: number | null
  return_ms: number | null; error_ms: number | null; expected_ms: number | null; metric_us: Record<string, number | null> | null
  jitter_ms: number | null; loss_pct: number | null; age_ms: number | null; samples: number; state: string; provenance: string
  suspected_by: number; down_by: number
}

/** Live sessions over one directed link; `mbps` is what their classes are reckoned with, not measured. */
export type LinkFlow = { from: string; to: string; transport: string; sessions: number; mbps: number }

/** A directed link, all of its transports. */
export type LinkNameAnswer = { from: string; to: string }

/** All transports from one data center to another; the way back is a link of its own. */
export type LinkNameBody = { from: string; to: string }

/** What was measured between a group of clients and one edge. */
export type MeasuredEdge = {
  data_center: string; rtt_ms: number; samples: number; witnesses: number; age_ms: number; loss_pct: number | null; jitter_ms: number | null
}

/** Whether a region gets over losing its largest edge on top. */
export type NPlus1Answer = { holds: boolean; next_loss: string | null; missing: number }

/** A data center that is not there; without a position that of its region is taken, or the catalogue's. */
export type NewDataCenterBody = {
  id: string; provider: string; region: string; roles?: Role[]; latitude?: number | null; longitude?: number | null; capacity?: Capacity
  egress_usd_per_gb?: number | null
}

/** A data center that is not there, and how far it is believed to be from those that are. */
export type NewcomerAnswer = {
  id: string; provider: string; region: string; roles: Role[]; latitude: number | null; longitude: number | null; position_from: string
  links: number; nearest: PredictedLinkAnswer[]
}

/** When a node's probe agent was last heard. */
export type NodeAge = { id: string; age_ms: number | null }

/** Machines that may be bought, as they are known now. */
export type OfferAnswer = { provider: string; data_center: string; size: string; agents: number; price_usd_per_hour: number | null; left: number; blocked: string }

/** One ordered pair, its best path now and then; null without a path. */
export type PairChangeAnswer = {
  from: string; to: string; before_path: string[] | null; after_path: string[] | null; before_ms: number | null; after_ms: number | null
  delta_ms: number | null; predicted: boolean
}

/** Groups of data centers that reach each other both ways; more than one: the network falls apart. */
export type PartitionsAnswer = { before: string[][]; after: string[][] }

/** One way of a route; delays in ms, `metric_us` is what the solver compared. */
export type Path = {
  path: string[]; transports: string[]; delay_ms: number; error_ms: number | null; jitter_ms: number | null; loss_pct: number | null
  mos: number; metric_us: number; age_ms: number | null
}

/** A drain that is practised every week. */
export type PracticeAnswer = { selector: string; at: string; next_at: string }

/** A link that nobody measured, both ways alike: one-way delay, and the interval that holds it 9 times in 10. */
export type PredictedLinkAnswer = { data_center: string; delay_ms: number; low_ms: number; high_ms: number; provenance: "geo" }

/** Agents of one offer for the users of one region, and why these. */
export type PurchaseAnswer = {
  region: string; provider: string; data_center: string; size: string; agents: number; usd_per_agent_hour: number; delay_ms: number
  rejected: RejectedOffer[]
}

/** What was bought last for a pool, or would be in a dry run. */
export type PurchasePlanAnswer = {
  at: string; by: string; machines: Record<string, number>; cost_usd_per_hour: number; purchases: PurchaseAnswer[]
  unmet: Record<string, number>; notes: string[]
}

/** Round trips of a step in ms: the least exactly, the others within 1 %. */
export type Quantiles = { min: number; p50: number; p95: number; max: number }

/** What has to earn its users, and why. */
export type RampKind = "new" | "return" | "version"

/** Where a data center is on its way to all of its users; the table is `ramp.TRANSITIONS`. */
export type RampState = "registered" | "connected" | "shadow" | "synthetic" | "canary" | "serving" | "paused" | "rolled_back" | "withdrawn"

/** An edge in order of preference; the numbers are those of the moment of placement. */
export type RankedEdgeAnswer = {
  data_center: string; node: string | null; url: string; hub: string | null; access_ms: number | null; access_provenance: string | null
  forward_ms: number | null; return_ms: number | null; total_ms: number | null; reason: string | null
}

/** Why a drain is refused: the rule, the number, the limit and how to insist. */
export type RefusalAnswer = { rule: string; message: string; value: number; limit: number; override: string; shortfall: number; cure: string }

/** Room of one region's edges that take sessions; capacity null: unlimited. */
export type RegionRoomAnswer = {
  region: string; edges_before: number; edges_after: number; capacity_before: number | null; capacity_after: number | null
  sessions_before: number; sessions_after: number; headroom_before_pct: number | null; headroom_after_pct: number | null
  n_plus_1: NPlus1Answer
}

/** An offer that was not taken, by which rule, with its number and its limit. */
export type RejectedOffer = { provider: string; data_center: string; size: string; rule: string; number: number; limit: number; detail: string }

/** Live sessions that a data center only relays. */
export type RelayFlow = { data_center: string; sessions: number; mbps: number }

/** What the question takes away, looked up; a data center whose last node goes is gone, too. */
export type RemovedAnswer = { data_centers: string[]; nodes: string[]; links: LinkNameAnswer[] }

/** What a data center is for; one may be both. */
export type Role = "edge" | "hub"

/** One routing context: ordered pairs of data centers that are there now and stay. */
export type RouteEffectAnswer = {
  class: TrafficClass; policy: string | null; pairs: number; lost: number; gained: number; rerouted: number; slower: number; faster: number
  faster_at_worst: number; broken: number; growth_ms: GrowthAnswer | null; saving_ms: GrowthAnswer | null; worst: PairChangeAnswer[]
  best: PairChangeAnswer[]; lost_pairs: PairChangeAnswer[]; gained_pairs: PairChangeAnswer[]
}

/** What to act on; all given parts must match. */
export type SelectorBody = { provider?: string | null; region?: string | null; data_center?: string | null; node?: string | null }

/** What happens to live sessions, by number. */
export type SessionEffectAnswer = {
  live: number; to_move: number; shifts: ShiftAnswer[]; no_place: number; lose_agent: number; lose_path: number; rerouted: number
  rerouted_growth_ms: GrowthAnswer | null; moved_growth_p95_ms: number | null; flows: FlowChangeAnswer[]
}

/** Where a session is in its life; the table is `pools.SESSION_TRANSITIONS`. */
export type SessionState = "queued" | "attaching" | "active" | "moving" | "detached" | "ended"

/** How many sessions would go from one data center to another. */
export type ShiftAnswer = { from: string; to: string; sessions: number }

/** Least, mean and greatest of the buckets in a step, in ms. */
export type Spread = { min: number; mean: number; max: number }

/** What happens, and how many seconds after the start. */
export type StageAnswer = { after_s: number; what: string }

/** One target and its three facts. */
export type TargetAnswer = { kind: TargetKind; id: string; intent: string; health: TargetHealth; capacity: TargetCapacity }

/** What fits. */
export type TargetCapacity = { sessions: number; capacity_sessions: number; headroom_pct: number | null; agents_idle: number; agents_busy: number }

/** What is measured. */
export type TargetHealth = { state: Health; evidence: string; age_ms: number | null; blame: VerdictAnswer | null }

/** What can be a target. */
export type TargetKind = "node" | "data_center" | "provider_region" | "provider" | "agent_host"

/** What speaks for a verdict, counted. */
export type VerdictEvidence = {
  vantages_bad: number; vantages: number; providers: number; loss_pct: number; failed_pct: number; probes: number; outcomes: number
  sources: string[]; self_report: string; age_ms: number | null
}

/** What is believed about the way to one edge. */
export type router__schemas__beacons__LegAnswer = {
  data_center: string; rtt_ms: number | null; error_ms: number | null; confidence: number | null; provenance: string; age_ms: number | null
  loss_pct: number | null; jitter_ms: number | null
}
