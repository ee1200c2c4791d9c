// The part of the HTTP contract this page reads, as the server sends it: snake_case, delays in ms, loss in %, null for unknown.

export type State = 'up' | 'degraded' | 'down' | 'unknown'
export type Intent = 'serving' | 'canary' | 'cordoned' | 'draining' | 'drained' | 'retired'
export type TrafficClass = 'voice' | 'agent' | 'video' | 'bulk'
export type Known = number | null

export const TRAFFIC_CLASSES: readonly TrafficClass[] = ['voice', 'agent', 'video', 'bulk']

export interface NodeHealth {
  id: string
  age_ms: Known
}

export interface DataCenterHealth {
  id: string
  provider: string
  region: string
  roles: string[]
  latitude: Known
  longitude: Known
  intent: Intent
  state: State
  since: string | null
  age_ms: Known
  vantages_ok: number
  vantages_lost: number
  reason: string
  sessions: number
  capacity_sessions: number
  headroom_pct: Known
  nodes: NodeHealth[]
}

export interface Cell {
  region: string
  provider: string
  data_centers: string[]
  state: State
  sessions: number
  headroom_pct: Known
  blame: unknown
  evidence: string
}

export interface Health {
  generation: number
  now: string
  routes_age_ms: Known
  stale: boolean
  data_centers: DataCenterHealth[]
  cells: Cell[]
}

export interface PathAnswer {
  path: string[]
  transports: string[]
  delay_ms: Known
  error_ms: Known
  jitter_ms: Known
  loss_pct: Known
  mos: Known
  metric_us: Known
  age_ms: Known
}

export interface Backup extends PathAnswer {
  protects: string
}

export interface Route {
  from: string
  to: string
  class: TrafficClass
  generation: number
  computed_at: string | null
  age_ms: Known
  stale: boolean
  forward: PathAnswer | null
  return: PathAnswer | null
  rtt_ms: Known
  direct_rtt_ms: Known
  backups: { forward: Backup[]; return: Backup[] }
  valid_until: string | null
  reasons: string[]
}

export type Verdict = 'in force' | 'candidate' | 'lost' | 'not allowed' | 'unusable'

export interface ExplainedHop {
  from: string
  to: string
  transport: string
  delay_ms: Known
  error_ms: Known
  jitter_ms: Known
  loss_pct: Known
  age_ms: Known
  state: State
  metric_us: Known
}

export interface ExplainedCandidate {
  path: string[]
  transports: string[]
  hops: ExplainedHop[]
  terms: Record<string, number>
  metric_us: Known
  verdict: Verdict
  why: string
}

export interface Explanation {
  from: string
  to: string
  generation: number
  rule: string
  forward: ExplainedCandidate[]
  return: ExplainedCandidate[]
}

export interface WorldEvent {
  id?: number
  at: string
  kind: string
  subject: string
  actor: string
  reason: string
  detail: Record<string, string | number | boolean | null>
}

export interface Page<T> {
  items: T[]
  next: string | null
}

/** An answer that was not 2xx, with the stable code of RFC 9457 where the server sent one. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message)
  }
}

async function problemOf(response: Response): Promise<Problem> {
  let code = `http_${response.status}`
  let message = `${response.status} ${response.statusText}`.trim()
  if (response.headers.get('content-type')?.includes('json')) {
    const body = (await response.json()) as { code?: string; detail?: unknown; title?: string }
    code = body.code ?? code
    message = typeof body.detail === 'string' ? body.detail : (body.title ?? message)
  }
  return new Problem(response.status, code, message)
}

async function call(path: string, init?: RequestInit): Promise<Response> {
  const response = await fetch(path, { credentials: 'same-origin', cache: 'no-store', ...init })
  if (!response.ok) throw await problemOf(response)
  return response
}

async function get<T>(path: string): Promise<T> {
  return (await call(path)).json() as Promise<T>
}

const id = encodeURIComponent

export const api = {
  health: (): Promise<Health> => get('/v1/health'),
  events: (): Promise<Page<WorldEvent>> => get('/v1/events?limit=60'),
  route: (from: string, to: string, cls: TrafficClass): Promise<Route> =>
    get(`/v1/routes/${id(from)}/${id(to)}?class=${cls}`),
  explain: (from: string, to: string, cls: TrafficClass): Promise<Explanation> =>
    get(`/v1/routes/${id(from)}/${id(to)}/explain?class=${cls}`),
  signIn: (key: string): Promise<Response> =>
    call('/v1/sign-in', {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'X-Tendril-Request': '1' },
      body: JSON.stringify({ key }),
    }),
  signOut: (): Promise<Response> => call('/v1/sign-in', { method: 'DELETE', headers: { 'X-Tendril-Request': '1' } }),
}
