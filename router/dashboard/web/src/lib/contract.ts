// Generated from /openapi.json by `python docs/generate.py`: do not edit.
import type {
  Action,
  AgentAnswer,
  AgentsBehindAnswer,
  AlternativeAnswer,
  Backups,
  BoundAgent,
  BuyingAnswer,
  CandidateAnswer,
  Capacity,
  CapacityAnswer,
  Cell,
  ClientAnswer,
  ClimbAnswer,
  ComponentKind,
  ConstraintsAnswer,
  DataCenterHealthAnswer,
  DataCenterRoomAnswer,
  DrainMode,
  DrainOrigin,
  DrainState,
  Edge,
  ExplainedPath,
  ForecastAnswer,
  GroupAnswer,
  HeadroomAnswer,
  HistoryPoint,
  HistoryRouteChange,
  Intent,
  LaunchAnswer,
  LegSummary,
  LinkAnswer,
  LinkFlow,
  LinkNameBody,
  NewDataCenterBody,
  NewcomerAnswer,
  PartitionsAnswer,
  Path,
  PracticeAnswer,
  RampKind,
  RampState,
  RankedEdgeAnswer,
  RefusalAnswer,
  RegionRoomAnswer,
  RelayFlow,
  RemovedAnswer,
  Role,
  RouteEffectAnswer,
  SelectorBody,
  SessionEffectAnswer,
  SessionState,
  ShiftAnswer,
  StageAnswer,
  TargetAnswer,
  VerdictEvidence,
  router__schemas__beacons__LegAnswer,
} from './contract-parts'

/** One page of agents. */
export type AgentList = { items: AgentAnswer[]; next: string | null }

/** All pools in id order, what may be bought, and what was: open launches first, then the newest. */
export type CapacityList = { items: CapacityAnswer[]; next: string | null; buying: BuyingAnswer; launches: LaunchAnswer[] }

/** Everything believed about one client network, the nearest edge first. */
export type ClientNetworkAnswer = { client: ClientAnswer; edges: router__schemas__beacons__LegAnswer[]; candidates: CandidateAnswer[] }

/** One provider's presence in one region; an `intent` that is left out stays what it is. */
export type DataCenterBody = {
  id?: string | null; revision?: number | null; provider: string; region: string; roles?: Role[]; latitude?: number | null
  longitude?: number | null; capacity?: Capacity; egress_usd_per_gb?: number | null; media_url?: string; intent?: Intent | null
  labels?: Record<string, unknown>
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

/** What a drain does; `drain` is null when it was only planned. */
export type DrainPlanAnswer = {
  id: string | null; dry_run: boolean; targets: string[]; sessions_to_move: number; sessions: Record<string, number>; shifts: ShiftAnswer[]
  agents_behind: Record<string, number>; routes_through: number; headroom_after_pct: number | null; refusals: RefusalAnswer[]
  drain: DrainAnswer | null; nodes: string[]; headroom: HeadroomAnswer; agents: Record<string, AgentsBehindAnswer>; forecast: ForecastAnswer
  delay_growth_p95_ms: number | null; timeline: StageAnswer[]; notes: string[]
}

/** One line of audit or decision. */
export type EventAnswer = {
  id?: number | null; at: string; kind: string; subject: string; actor: string; reason: string
  detail: Record<string, string | number | boolean | null>
}

/** One page of events, newest first. */
export type EventList = { items: EventAnswer[]; next: string | null }

/** Every candidate of both ways under one generation. */
export type ExplanationAnswer = {
  from: string; to: string; class: TrafficClass; policy: string | null; generation: number; rule: string; forward: ExplainedPath[]
  return: ExplainedPath[]
}

/** Where the sessions' media runs now; a session counts once in each direction it uses a link. */
export type Flows = { links: LinkFlow[]; relays: RelayFlow[] }

/** One page of groups. */
export type GroupList = { items: GroupAnswer[]; next: string | null }

/** The whole fleet at one look. */
export type HealthAnswer = {
  generation: number; now: string; routes_age_ms: number | null; stale: boolean; frozen: boolean; frozen_reason: string
  judged_at: string | null; verdicts: VerdictAnswer[]; data_centers: DataCenterHealthAnswer[]; cells: Cell[]
}

/** History of one directed link over one transport, and of the routes between its ends. */
export type History = { from: string; to: string; transport: string; step_s: number; items: HistoryPoint[]; route_changes: HistoryRouteChange[] }

/** A key as it is kept; `key` is shown once, when it is made. */
export type KeyAnswer = { id: string; scope: string; name: string; created_at: string; revoked_at: string | null; key?: string | null }

/** A key to make: its scope, and a name that says whose it is. */
export type KeyBody = { scope: string; name: string }

/** One page of keys. */
export type KeyList = { items: KeyAnswer[]; next: string | null }

/** One page of links. */
export type LinkList = { generation: number; items: LinkAnswer[]; next: string | null }

/** One transport as matrices: rows from, columns to, null where unknown. */
export type Matrix = {
  generation: number; transport: string; data_centers: string[]; rtt_ms: ((number | null)[])[]; forward_ms: ((number | null)[])[]
  return_ms: ((number | null)[])[]; jitter_ms: ((number | null)[])[]; loss_pct: ((number | null)[])[]; age_ms: ((number | null)[])[]
  mos: ((number | null)[])[] | null; mos_gain: ((number | null)[])[] | null
}

/** One machine; `addresses` maps a transport to the host that others reach it at. */
export type NodeBody = {
  id?: string | null; revision?: number | null; data_center: string; addresses?: Record<string, unknown>; reflector_port?: number
  relay_port?: number; media_url?: string; labels?: Record<string, unknown>; intent?: Intent | null
}

/** A ramp as it is; `climb` is null once it has ended. */
export type RampAnswer = {
  id: string; kind: RampKind; data_center: string; pool: string; version: string; state: RampState; share_pct: number; reason: string
  attempt: number; exposed: number; created_at: string; created_by: string; since: string; paused_from: RampState | null
  retry_at: string | null; finished_at: string | null; revision: number; climb: ClimbAnswer | null
}

/** One page of ramps, newest first. */
export type RampList = { items: RampAnswer[]; next: string | null }

/** The best route now; `forward` or `return` is null, with a reason, where there is no path. */
export type Route = {
  from: string; to: string; class: TrafficClass; policy: string | null; generation: number; computed_at: string | null
  age_ms: number | null; stale: boolean; forward: Path | null; return: Path | null; rtt_ms: number | null; direct_rtt_ms: number | null
  backups: Backups; valid_until: string | null; reasons: string[]
}

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

/** Who is signed in; `csrf_token` goes into `X-Tendril-CSRF` of every request that changes something. */
export type SignInAnswer = { scope: string; name: string; key: string; expires_at: string | null; csrf_token: string | null }

/** What would happen; nothing was done. */
export type SimulationAnswer = {
  generation: number; computed_at: string | null; age_ms: number | null; stale: boolean; summary: string; removed: RemovedAnswer
  added: NewcomerAnswer[]; routes: RouteEffectAnswer[]; partitions: PartitionsAnswer; sessions: SessionEffectAnswer
  headroom: HeadroomAnswer; forecast: ForecastAnswer; data_centers: DataCenterRoomAnswer[]; regions: RegionRoomAnswer[]
  refusals: RefusalAnswer[]; notes: string[]
}

/** What if some of the fleet were gone, or some more of it there? Nothing of it is done. */
export type SimulationBody = { remove?: (SelectorBody | LinkNameBody | string)[]; add?: NewDataCenterBody[]; named?: number }

/** Targets by kind and id. */
export type TargetList = { items: TargetAnswer[]; next: string | null }

/** What the bytes are; each class has its own metric. */
export type TrafficClass = "voice" | "agent" | "video" | "bulk"

/** Somebody is blamed; a lease that fresh evidence must renew. */
export type VerdictAnswer = {
  kind: ComponentKind; id: string; confidence: number; sure: boolean; windows: number; since: string; expires_at: string; action: Action
  evidence: VerdictEvidence; alternatives: AlternativeAnswer[]; sessions: number | null; sessions_moved: number; finding: string
  text: string
}

export type * from './contract-parts'
