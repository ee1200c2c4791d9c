// Generated from /openapi.json by `python docs/generate.py`: do not edit.

/** What a verdict asks for; carried out, or not, by drains and steering under their own guards. */
export type Action = "none" | "watch" | "eject_node" | "drain_data_center" | "drain_provider_region" | "drain_provider" | "eject_target" | "steer_group" | "tell_support" | "discard_vantage"

/** An agent as it is kept. */
export type AgentAnswer = {
  id: string; pool: string; data_center: string; node: string | null; state: AgentState; epoch: number; session: string | null
  sessions: LeaseAnswer[]; capacity: number; held: number; served: number; cordoned: boolean; version: string; address: string
  since: string; deadline_at: string | null; seen_at: string
}

/** One page of agents. */
export type AgentList = { items: AgentAnswer[]; next: string | null }

/** Life of a stateful agent; the table is `pools.AGENT_TRANSITIONS`. Only `ready` ones are taken. */
export type AgentState = "announced" | "warming" | "ready" | "reserved" | "busy" | "wrapping" | "resetting" | "broken" | "suspect" | "lost" | "retired"

/** Places of agents in a target, and how many sessions will lose their agent when the drain's time is over. */
export type AgentsBehindAnswer = { held: number; idle: number; cut: number }

/** Something else that would explain the same. */
export type AlternativeAnswer = { kind: ComponentKind; id: string; confidence: number }

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

/** All pools in id order, what may be bought, and what was: open launches first, then the newest. */
export type CapacityList = { items: CapacityAnswer[]; next: string | null; buying: BuyingAnswer; launches: LaunchAnswer[] }

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

/** Everything believed about one client network, the nearest edge first. */
export type ClientNetworkAnswer = { client: ClientAnswer; edges: router__schemas__beacons__LegAnswer[]; candidates: CandidateAnswer[] }

/** What can be at fault. */
export type ComponentKind = "node" | "edge_region" | "provider_region" | "provider" | "target" | "transit" | "client_isp" | "prober"

/** What the caller of a session insisted on. */
export type ConstraintsAnswer = {
  allow_providers: string[] | null; deny_providers: string[]; allow_regions: string[] | null; deny_regions: string[]
  max_rtt_ms: number | null
}

/** One provider's presence in one region; an `intent` that is left out stays what it is. */
export type DataCenterBody = {
  id?: string | null; revision?: number | null; provider: string; region: string; roles?: Role[]; latitude?: number | null
  longitude?: number | null; capacity?: Capacity; egress_usd_per_gb?: number | null; media_url?: string; intent?: Intent | null
  labels?: Record<string, unknown>
}

/** One data center: what was asked of it, what is measured, what still fits. */
export type DataCenterHealthAnswer = {
  id: string; provider: string; region: string; roles: string[]; latitude: number | null; longitude: number | null; intent: Intent
  state: Health; since: string | null; age_ms: number | null; vantages_ok: number; vantages_lost: number; reason: string; sessions: number
  capacity_sessions: number; headroom_pct: number | null; nodes: NodeAge[]
}

/** A drain as it is. */
export type DrainAnswer = {
  id: string; selector: string; mode: DrainMode; state: DrainState; targets: string[]; previous: Record<string, string>; reason: string
  created_at: string; created_by: string; deadline_at: string | null; expires_at: string | null; sessions_at_start: number
  sessions_left: number; finished_at: string | null; revision: number; origin: DrainOrigin; nodes: string[]; share_pct: number; note: string
  expired: boolean; cut_at: string | null; routes_through: number; agents_behind: Record<string, number>; agents_left: number
  rate_per_s: number; eta_s: number | null; blocked_by: string[]; outcome: string
}

/** A drain to plan or to start. */
export type DrainBody = {
  selector: SelectorBody | string; mode?: DrainMode; reason?: string; deadline_s?: number | null; expires_at?: string | null
  dry_run?: boolean; force?: boolean; stage_s?: number | null
}

/** One page of drains, newest first, and what the calendar says. */
export type DrainList = { items: DrainAnswer[]; next: string | null; practices: PracticeAnswer[] }

/** How a drain treats live sessions. */
export type DrainMode = "soft" | "hard" | "emergency"

/** Who wants a drain; the first of two wins where they overlap. */
export type DrainOrigin = "operator" | "practice" | "automatic"

/** What a drain does; `drain` is null when it was only planned. */
export type DrainPlanAnswer = {
  id: string | null; dry_run: boolean; targets: string[]; sessions_to_move: number; sessions: Record<string, number>; shifts: ShiftAnswer[]
  agents_behind: Record<string, number>; routes_through: number; headroom_after_pct: number | null; refusals: RefusalAnswer[]
  drain: DrainAnswer | null; nodes: string[]; headroom: HeadroomAnswer; agents: Record<string, AgentsBehindAnswer>; forecast: ForecastAnswer
  delay_growth_p95_ms: number | null; timeline: StageAnswer[]; notes: string[]
}

/** Progress of a drain; the table is `drain.TRANSITIONS`. */
export type DrainState = "cordoned" | "shifting" | "bleeding" | "moving" | "forcing" | "paused" | "drained" | "undone"

/** The edge a user connects to. */
export type Edge = { data_center: string; node: string | null; url: string }

/** One line of audit or decision. */
export type EventAnswer = {
  id?: number | null; at: string; kind: string; subject: string; actor: string; reason: string
  detail: Record<string, string | number | boolean | null>
}

/** One page of events, newest first. */
export type EventList = { items: EventAnswer[]; next: string | null }

/** A candidate: what it would cost, term by term, and why it is or is not in force. */
export type ExplainedPath = {
  path: string[]; transports: string[]; hops: Hop[]; terms: Record<string, number>; metric_us: number | null
  verdict: "in force" | "candidate" | "lost" | "not allowed" | "unusable"; why: string
}

/** Every candidate of both ways under one generation. */
export type ExplanationAnswer = {
  from: string; to: string; class: TrafficClass; policy: string | null; generation: number; rule: string; forward: ExplainedPath[]
  return: ExplainedPath[]
}

/** Where the sessions' media runs now; a session counts once in each direction it uses a link. */
export type Flows = { links: LinkFlow[]; relays: RelayFlow[] }

/** The sessions that must fit while the drain lasts, and what that number rests on. */
export type ForecastAnswer = { sessions: number; basis: string }

/** What was measured of one prefix, AS number or country, the nearest edge first. */
export type GroupAnswer = { id: string; asn: number | null; country: string | null; age_ms: number; edges: MeasuredEdge[] }

/** One page of groups. */
export type GroupList = { items: GroupAnswer[]; next: string | null }

/** Free share of the edges' capacity in per cent: now, afterwards, and if the largest that is left fails on top. */
export type HeadroomAnswer = { now_pct: number | null; after_pct: number | null; after_next_loss_pct: number | null; next_loss: string | null }

/** What measurement says about a data center. */
export type Health = "unknown" | "up" | "degraded" | "down"

/** The whole fleet at one look. */
export type HealthAnswer = {
  generation: number; now: string; routes_age_ms: number | null; stale: boolean; frozen: boolean; frozen_reason: string
  judged_at: string | null; verdicts: VerdictAnswer[]; data_centers: DataCenterHealthAnswer[]; cells: Cell[]
}

/** History of one directed link over one transport, and of the routes between its ends. */
export type History = { from: string; to: string; transport: string; step_s: number; items: HistoryPoint[]; route_changes: HistoryRouteChange[] }

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

/** A key as it is kept; `key` is shown once, when it is made. */
export type KeyAnswer = { id: string; scope: string; name: string; created_at: string; revoked_at: string | null; key?: string | null }

/** A key to make: its scope, and a name that says whose it is. */
export type KeyBody = { scope: string; name: string }

/** One page of keys. */
export type KeyList = { items: KeyAnswer[]; next: string | null }

/** A machine that was bought; its id is the idempotency key that its provider knows. */
export type LaunchAnswer = {
  id: string; state: LaunchState; pool: string; region: string; need: string; provider: string; data_center: string; size: string
  agents: number; price_usd_per_hour: number; node: string; machine: string | null; reason: string; why: string[]; refusal: string
  tries: number; created_at: string; since: string; finished_at: string | null; revision: number
}

/** How far a launch has come; the table is `machines.TRANSITIONS`. */
export type LaunchState = "announced" | "requested" | "pending" | "running" | "joined" | "serving" | "leaving" | "terminating" | "gone" | "failed"

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
}

/** Live sessions over one directed link; `mbps` is what their classes are reckoned with, not measured. */
export type LinkFlow = { from: string; to: string; transport: string; sessions: number; mbps: number }

/** One page of links. */
export type LinkList = { generation: number; items: LinkAnswer[]; next: string | null }

/** One transport as matrices: rows from, columns to, null where unknown. */
export type Matrix = {
  generation: number; transport: string; data_centers: string[]; rtt_ms: ((number | null)[])[]; forward_ms: ((number | null)[])[]
  return_ms: ((number | null)[])[]; jitter_ms: ((number | null)[])[]; loss_pct: ((number | null)[])[]; age_ms: ((number | null)[])[]
  mos: ((number | null)[])[] | null; mos_gain: ((number | null)[])[] | null
}

/** What was measured between a group of clients and one edge. */
export type MeasuredEdge = {
  data_center: string; rtt_ms: number; samples: number; witnesses: number; age_ms: number; loss_pct: number | null; jitter_ms: number | null
}

/** When a node's probe agent was last heard. */
export type NodeAge = { id: string; age_ms: number | null }

/** Machines that may be bought, as they are known now. */
export type OfferAnswer = { provider: string; data_center: string; size: string; agents: number; price_usd_per_hour: number | null; left: number; blocked: string }

/** One way of a route; delays in ms, `metric_us` is what the solver compared. */
export type Path = {
  path: string[]; transports: string[]; delay_ms: number; error_ms: number | null; jitter_ms: number | null; loss_pct: number | null
  mos: number; metric_us: number; age_ms: number | null
}

/** A drain that is practised every week. */
export type PracticeAnswer = { selector: string; at: string; next_at: string }

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

/** An edge in order of preference; the numbers are those of the moment of placement. */
export type RankedEdgeAnswer = {
  data_center: string; node: string | null; url: string; hub: string | null; access_ms: number | null; access_provenance: string | null
  forward_ms: number | null; return_ms: number | null; total_ms: number | null; reason: string | null
}

/** Why a drain is refused: the rule, the number, the limit and how to insist. */
export type RefusalAnswer = { rule: string; message: string; value: number; limit: number; override: string; shortfall: number; cure: string }

/** An offer that was not taken, by which rule, with its number and its limit. */
export type RejectedOffer = { provider: string; data_center: string; size: string; rule: string; number: number; limit: number; detail: string }

/** Live sessions that a data center only relays. */
export type RelayFlow = { data_center: string; sessions: number; mbps: number }

/** What a data center is for; one may be both. */
export type Role = "edge" | "hub"

/** The best route now; `forward` or `return` is null, with a reason, where there is no path. */
export type Route = {
  from: string; to: string; class: TrafficClass; policy: string | null; generation: number; computed_at: string | null
  age_ms: number | null; stale: boolean; forward: Path | null; return: Path | null; rtt_ms: number | null; direct_rtt_ms: number | null
  backups: Backups; valid_until: string | null; reasons: string[]
}

/** What to act on; all given parts must match. */
export type SelectorBody = { provider?: string | null; region?: string | null; data_center?: string | null; node?: string | null }

/** A session; `token` is given to who starts or resumes it, and to nobody else. */
export type SessionAnswer = {
  id: string; state: SessionState; class: TrafficClass; client: ClientAnswer; edge: Edge; edges: RankedEdgeAnswer[]
  agent: BoundAgent | null; pool: string | null; to: string | null; generation: number; forward: Path | null; return: Path | null
  backups: Backups; epoch: number; token: string | null; created_at: string; lease_expires_at: string; grace_s: number
  moved_from: string | null; position: number | null; queued_until: string | null; constraints: ConstraintsAnswer
  metadata: Record<string, string>; reasons: string[]; ended_at: string | null; end_reason: string | null; legs: LegSummary[]
}

/** One page of sessions. */
export type SessionList = { items: SessionAnswer[]; next: string | null }

/** Where a session is in its life; the table is `pools.SESSION_TRANSITIONS`. */
export type SessionState = "queued" | "attaching" | "active" | "moving" | "detached" | "ended"

/** How many sessions would go from one data center to another. */
export type ShiftAnswer = { from: string; to: string; sessions: number }

/** Who is signed in; `csrf_token` goes into `X-Tendril-CSRF` of every request that changes something. */
export type SignInAnswer = { scope: string; name: string; key: string; expires_at: string | null; csrf_token: string | null }

/** Least, mean and greatest of the buckets in a step, in ms. */
export type Spread = { min: number; mean: number; max: number }

/** What happens, and how many seconds after the start. */
export type StageAnswer = { after_s: number; what: string }

/** What the bytes are; each class has its own metric. */
export type TrafficClass = "voice" | "agent" | "video" | "bulk"

/** Somebody is blamed; a lease that fresh evidence must renew. */
export type VerdictAnswer = {
  kind: ComponentKind; id: string; confidence: number; sure: boolean; windows: number; since: string; expires_at: string; action: Action
  evidence: VerdictEvidence; alternatives: AlternativeAnswer[]; sessions: number | null; sessions_moved: number; text: string
}

/** What speaks for a verdict, counted. */
export type VerdictEvidence = {
  vantages_bad: number; vantages: number; providers: number; loss_pct: number; failed_pct: number; probes: number; outcomes: number
  sources: string[]; age_ms: number | null
}

/** What is believed about the way to one edge. */
export type router__schemas__beacons__LegAnswer = {
  data_center: string; rtt_ms: number | null; error_ms: number | null; confidence: number | null; provenance: string; age_ms: number | null
  loss_pct: number | null; jitter_ms: number | null
}
