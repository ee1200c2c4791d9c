// How this page asks the control plane. What comes back is typed by contract.ts, generated from our OpenAPI.
import type {
  CapacityList,
  ClientNetworkAnswer,
  DrainAnswer,
  DrainBody,
  DrainList,
  DrainPlanAnswer,
  EventAnswer,
  EventList,
  ExplanationAnswer,
  Flows,
  GroupList,
  HealthAnswer,
  History,
  KeyAnswer,
  KeyBody,
  KeyList,
  LinkList,
  Matrix,
  NodeBody,
  RampAnswer,
  RampList,
  Route,
  SessionAnswer,
  SessionList,
  SignInAnswer,
  SimulationAnswer,
  SimulationBody,
  TargetList,
  TrafficClass,
  VerdictAnswer,
  AgentList,
  DataCenterBody,
} from './contract'

export type * from './contract'
export type State = HealthAnswer['data_centers'][number]['state']
export type Intent = HealthAnswer['data_centers'][number]['intent']
export type DataCenter = HealthAnswer['data_centers'][number]
export type Known = number | null
export type Scope = 'viewer' | 'media' | 'operator' | 'admin'
export type Candidate = ExplanationAnswer['forward'][number]
export type PathShown = NonNullable<Route['forward']>
export type BackupShown = Route['backups']['forward'][number]

export const TRAFFIC_CLASSES: readonly TrafficClass[] = ['voice', 'agent', 'video', 'bulk']

export type RampVerb = 'pause' | 'resume' | 'advance' | 'roll-back'

type Refusal = DrainPlanAnswer['refusals'][number]

/** An answer that was not 2xx, with the stable code of RFC 9457 where the server sent one. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly body: { refusals?: Refusal[]; limit?: unknown } = {},
  ) {
    super(message)
  }
}

async function problemOf(response: Response): Promise<Problem> {
  let code = `http_${response.status}`
  let message = `${response.status} ${response.statusText}`.trim()
  if (!response.headers.get('content-type')?.includes('json')) return new Problem(response.status, code, message)
  const body = (await response.json()) as { code?: string; detail?: unknown; title?: string; refusals?: Refusal[] }
  code = body.code ?? code
  message = typeof body.detail === 'string' ? body.detail : (body.title ?? message)
  return new Problem(response.status, code, message, body)
}

const UNKNOWN_PATH = ['http_404', 'http_405', 'not_found', 'method_not_allowed']

/** What to tell people when something failed. */
export function said(error: unknown): string {
  // An id that is unknown has a code of its own; a path that is unknown means another version of the control plane.
  if (error instanceof Problem && UNKNOWN_PATH.includes(error.code)) return 'this control plane does not know that question: it is another version than this page; reload the page'
  if (error instanceof Problem) return error.status === 403 ? `Your key may not do this: ${error.message}` : error.message
  if (error instanceof TypeError) return 'the control plane does not answer'
  throw error
}

let csrf = ''

async function call(path: string, init?: RequestInit): Promise<Response> {
  const changes = init?.method !== undefined && init.method !== 'GET'
  const headers = new Headers(init?.headers)
  if (changes && csrf) headers.set('X-Tendril-CSRF', csrf)
  const response = await fetch(path, { credentials: 'same-origin', cache: 'no-store', ...init, headers })
  if (!response.ok) throw await problemOf(response)
  return response
}

export async function get<T>(path: string): Promise<T> {
  return (await call(path)).json() as Promise<T>
}

async function send<T>(method: string, path: string, body?: unknown): Promise<T> {
  const init: RequestInit = { method }
  if (body !== undefined) {
    init.body = JSON.stringify(body)
    init.headers = { 'content-type': 'application/json' }
  }
  const response = await call(path, init)
  return (response.status === 204 ? undefined : await response.json()) as T
}

const id = encodeURIComponent

/** `?a=1&b=2` of what is not empty. */
export function query(values: Record<string, string | number | undefined | null>): string {
  const kept = Object.entries(values).filter(([, value]) => value !== undefined && value !== null && value !== '')
  return kept.length > 0 ? `?${new URLSearchParams(kept.map(([name, value]) => [name, String(value)])).toString()}` : ''
}

async function remember(asked: Promise<SignInAnswer>): Promise<SignInAnswer> {
  const who = await asked
  csrf = who.csrf_token ?? ''
  return who
}

export const api = {
  health: (): Promise<HealthAnswer> => get('/v1/health'),
  flows: (): Promise<Flows> => get('/v1/flows'),
  events: (filter: Record<string, string | number | undefined> = {}): Promise<EventList> => get(`/v1/events${query({ limit: 100, ...filter })}`),
  route: (from: string, to: string, cls: TrafficClass): Promise<Route> => get(`/v1/routes/${id(from)}/${id(to)}?class=${cls}`),
  explain: (from: string, to: string, cls: TrafficClass): Promise<ExplanationAnswer> =>
    get(`/v1/routes/${id(from)}/${id(to)}/explain?class=${cls}`),
  links: (filter: { from?: string; to?: string }): Promise<LinkList> => get(`/v1/links${query({ ...filter, limit: 1000 })}`),
  history: (from: string, to: string, filter: Record<string, string | number | undefined>): Promise<History> =>
    get(`/v1/links/${id(from)}/${id(to)}/history${query(filter)}`),
  matrix: (cls: TrafficClass): Promise<Matrix> => get(`/v1/matrix?class=${cls}`),
  drains: (): Promise<DrainList> => get('/v1/drains?limit=100'),
  drain: (one: string): Promise<DrainAnswer> => get(`/v1/drains/${id(one)}`),
  openDrain: (body: DrainBody): Promise<DrainPlanAnswer> => send('POST', '/v1/drains', body),
  simulate: (body: SimulationBody): Promise<SimulationAnswer> => send('POST', '/v1/simulations', body),
  stepDrain: (one: string, verb: 'pause' | 'resume' | 'undo', force = false): Promise<DrainAnswer> =>
    send('POST', `/v1/drains/${id(one)}/${verb}`, force ? { force } : undefined),
  ramps: (): Promise<RampList> => get('/v1/ramps?limit=100'),
  ramp: (one: string): Promise<RampAnswer> => get(`/v1/ramps/${id(one)}`),
  stepRamp: (one: string, verb: RampVerb): Promise<RampAnswer> => send('POST', `/v1/ramps/${id(one)}/${verb}`),
  sessions: (filter: Record<string, string | undefined>): Promise<SessionList> => get(`/v1/sessions${query({ limit: 100, ...filter })}`),
  session: (one: string): Promise<SessionAnswer> => get(`/v1/sessions/${id(one)}`),
  sessionEvents: (one: string): Promise<EventList> => get(`/v1/sessions/${id(one)}/events?limit=200`),
  capacity: (): Promise<CapacityList> => get('/v1/capacity'),
  agents: (pool: string): Promise<AgentList> => get(`/v1/pools/${id(pool)}/agents?limit=1000`),
  clients: (by: string): Promise<GroupList> => get(`/v1/clients?group_by=${id(by)}&limit=500`),
  client: (ip: string): Promise<ClientNetworkAnswer> => get(`/v1/clients/${id(ip)}`),
  dataCenter: (one: string): Promise<DataCenterBody> => get(`/v1/data-centers/${id(one)}`),
  setIntent: (body: DataCenterBody, intent: Intent): Promise<DataCenterBody> =>
    send('PUT', `/v1/data-centers/${id(body.id ?? '')}`, { ...body, intent }),
  targets: (kind: string, one?: string): Promise<TargetList> => get(`/v1/targets${query({ kind, id: one })}`),
  node: (one: string): Promise<NodeBody> => get(`/v1/nodes/${id(one)}`),
  setNodeIntent: (body: NodeBody, intent: Intent): Promise<NodeBody> => send('PUT', `/v1/nodes/${id(body.id ?? '')}`, { ...body, intent }),
  keys: (): Promise<KeyList> => get('/v1/keys'),
  makeKey: (body: KeyBody): Promise<KeyAnswer> => send('POST', '/v1/keys', body),
  revokeKey: (one: string): Promise<void> => send('DELETE', `/v1/keys/${id(one)}`),
  who: (): Promise<SignInAnswer> => remember(get('/v1/sign-in')),
  signIn: (key: string): Promise<SignInAnswer> => remember(send('POST', '/v1/sign-in', { key })),
  signOut: (): Promise<void> => send('DELETE', '/v1/sign-in'),
}

export type WorldEvent = EventAnswer
export type Fault = VerdictAnswer
