// What this tab knows of the world: one stream says that something changed, plain GETs fetch what it is now.
import { api, Problem, said, type DataCenter, type DrainAnswer, type Flows, type HealthAnswer, type Scope, type SignInAnswer, type WorldEvent } from './api'
import { openStream } from './stream'

export type Line = 'connecting' | 'live' | 'lost'
export type Access = 'checking' | 'needed' | 'granted'
export type Freshness = 'fresh' | 'late' | 'stale'

const REFRESH_MS = 1_000 // generations may come faster; people cannot read faster
const IDLE_REFRESH_MS = 4_000 // ages move on even when no route changes
const LATE_MS = 10_000
const STALE_MS = 30_000
const EVENTS_MS = 5_000 // the stream tells of decisions at once; what operators did is looked up
const EVENTS_KEPT = 200
const RENEW_MS = 600_000 // the sign-in lasts 12 h from here on
const LADDER: readonly Scope[] = ['viewer', 'media', 'operator', 'admin']
export const CLOCKS_DIFFER_MS = 5_000

export function freshness(ageMs: number | null): Freshness {
  if (ageMs === null || ageMs > STALE_MS) return 'stale'
  return ageMs > LATE_MS ? 'late' : 'fresh'
}

/** A clock for ages on screen; monotonic, so that changing the wall clock ages nothing. */
class Clock {
  now = $state(performance.now())

  constructor() {
    setInterval(() => (this.now = performance.now()), 500)
  }

  /** How old something is now that was `ageMs` old when it arrived at `at`. */
  grown(ageMs: number | null | undefined, at: number): number | null {
    return ageMs === null || ageMs === undefined ? null : ageMs + Math.max(0, this.now - at)
  }
}

export const clock = new Clock()

class World {
  access = $state<Access>('checking')
  refusal = $state('')
  health = $state.raw<HealthAnswer | null>(null)
  healthAt = $state(0)
  trouble = $state('')
  events = $state.raw<WorldEvent[]>([])
  flows = $state.raw<Flows | null>(null)
  flowsAt = $state(0)
  drains = $state.raw<DrainAnswer[] | null>(null)
  drainsAt = $state(0)
  who = $state.raw<SignInAnswer | null>(null)
  /** Said once when the control plane behind this page is another one than before. */
  notice = $state('')
  line = $state<Line>('connecting')
  lostAt = $state(0)
  retryAt = $state(0)
  /** Counts refreshes; views that hold more data than /v1/health refetch when it moves. */
  pulse = $state(0)

  byId: Map<string, DataCenter> = $derived(new Map(this.health?.data_centers.map((dc) => [dc.id, dc])))
  age: number | null = $derived(this.health ? Math.max(0, clock.now - this.healthAt) : null)
  freshness: Freshness = $derived(freshness(this.age))
  /** How far this computer's clock is ahead of the control plane's, in ms; ages on screen never use this computer's. */
  skewMs = $state(0)

  #close: (() => void) | undefined
  #timer: number | undefined
  #asked = -Infinity
  #eventsAt = -Infinity
  #busy = false
  #epoch: number | null = null
  #renewedAt = -Infinity
  #again = false

  constructor() {
    document.addEventListener('visibilitychange', () => {
      if (!document.hidden && this.line === 'live') this.#soon()
    })
  }

  async start(): Promise<void> {
    try {
      const [, health] = await Promise.all([this.#renew(), api.health()])
      this.#take(health)
      this.#asked = performance.now()
    } catch (error) {
      if (this.lostAccess(error)) return
      this.#failed(error)
    }
    this.access = 'granted'
    this.refusal = ''
    // The map and the verdict are drawn while the rest is still on its way.
    this.#readMore().catch((error: unknown) => void (this.lostAccess(error) || this.#failed(error)))
    this.#close?.()
    this.#close = openStream('/v1/stream', {
      open: () => {
        this.line = 'live'
        this.#soon()
      },
      item: (kind, data) => this.#item(kind, data),
      lost: (retryInMs) => {
        if (this.line !== 'lost') this.lostAt = performance.now()
        this.line = 'lost'
        this.retryAt = performance.now() + retryInMs
        clearTimeout(this.#timer)
        this.#timer = undefined
      },
      refused: (status) => void this.lostAccess(new Problem(status, '', '')),
    })
  }

  async signIn(key: string): Promise<void> {
    try {
      this.who = await api.signIn(key.trim())
      this.#renewedAt = performance.now()
    } catch (error) {
      if (this.lostAccess(error, true)) return
      throw error
    }
    await this.start()
  }

  async signOut(): Promise<void> {
    try {
      await api.signOut()
    } catch (error) {
      if (!(error instanceof Problem)) throw error // refused means that it was over already
    }
    this.#leave('You have signed out.')
  }

  /** Whether the signed-in key may do what needs `scope`; unknown is no. */
  may(scope: Scope): boolean {
    const held = LADDER.indexOf((this.who?.scope ?? '') as Scope)
    return held >= LADDER.indexOf(scope)
  }

  /** How long ago a moment of the control plane's clock is, by that clock; null for a moment it does not know. */
  since(iso: string | null | undefined): number | null {
    if (!iso || !this.health) return null
    return Date.parse(this.health.now) + (clock.now - this.healthAt) - Date.parse(iso)
  }

  #item(kind: string, data: unknown): void {
    if (kind === 'hello') this.#greet(data as { epoch?: number })
    if (kind === 'event') this.events = [data as WorldEvent, ...this.events].slice(0, EVENTS_KEPT)
    // The server dropped what we were too slow to read: look the present up instead.
    if (kind === 'resync') this.#eventsAt = -Infinity
    this.#soon()
  }

  /** A restarted control plane counts from a new epoch; one with an older epoch is another one, or was restored. */
  #greet(hello: { epoch?: number }): void {
    const epoch = hello.epoch ?? null
    const before = this.#epoch
    this.#epoch = epoch
    if (before === null || epoch === null || epoch === before) return
    this.notice = epoch > before ? 'The control plane was restarted; what you see is what it knows now.' : 'This is another or a restored control plane; what was on screen before is gone.'
    this.health = null
    this.#eventsAt = -Infinity
    setTimeout(() => (this.notice = ''), 20_000)
  }

  async #renew(): Promise<void> {
    this.who = await api.who()
    this.#renewedAt = performance.now()
  }

  async #readMore(): Promise<void> {
    const [events, flows, drains] = await Promise.all([api.events({ limit: EVENTS_KEPT }), api.flows(), api.drains()])
    this.events = events.items.toSorted((a, b) => b.at.localeCompare(a.at))
    this.flows = flows
    this.drains = drains.items
    this.#eventsAt = this.flowsAt = this.drainsAt = performance.now()
  }

  /** Look everything up again now, after something was changed from here. */
  refresh(): void {
    this.#eventsAt = -Infinity
    this.#soon()
  }

  /** Refresh now, or as soon as a second has passed since the last one. */
  #soon(): void {
    const due = this.#asked + REFRESH_MS - performance.now()
    if (due <= 0) void this.#refresh()
    else this.#later(due)
  }

  #later(wait: number): void {
    clearTimeout(this.#timer)
    this.#timer = window.setTimeout(() => void this.#refresh(), wait)
  }

  async #refresh(): Promise<void> {
    if (document.hidden || this.access !== 'granted') return
    if (this.#busy) {
      this.#again = true
      return
    }
    this.#busy = true
    this.#again = false
    this.#asked = performance.now()
    try {
      this.#take(await api.health())
      this.pulse += 1
      if (performance.now() - this.#eventsAt > EVENTS_MS) await this.#readMore()
      if (performance.now() - this.#renewedAt > RENEW_MS) await this.#renew()
    } catch (error) {
      if (!this.lostAccess(error)) this.#failed(error)
    } finally {
      this.#busy = false
      if (this.line === 'live') this.#later(this.#again ? REFRESH_MS : IDLE_REFRESH_MS)
    }
  }

  #take(health: HealthAnswer): void {
    // A late answer of an older generation must not overwrite a newer one.
    if (this.health && health.generation < this.health.generation) return
    this.health = health
    this.healthAt = performance.now()
    this.skewMs = Date.now() - Date.parse(health.now)
    this.trouble = ''
  }

  #failed(error: unknown): void {
    this.trouble = said(error)
  }

  /** Whether the sign-in is over (401), or never was enough to read; one forbidden action (403) elsewhere is not that. */
  lostAccess(error: unknown, signing = false): boolean {
    if (!(error instanceof Problem) || (error.status !== 401 && !(error.status === 403 && (signing || this.access !== 'granted')))) return false
    const held = this.access === 'granted'
    if (error.status === 403) this.#leave('This key is known, but it may not read the dashboard: it needs the scope viewer or more.')
    else if (signing) this.#leave('This key is not known here, or it was revoked.')
    else this.#leave(held ? 'Your sign-in has expired or the key was revoked. Sign in again; you will be back where you were.' : '')
    return true
  }

  #leave(why: string): void {
    this.#close?.()
    this.#close = undefined
    clearTimeout(this.#timer)
    this.health = null
    this.events = []
    this.flows = null
    this.drains = null
    this.who = null
    this.#epoch = null
    this.line = 'connecting'
    this.access = 'needed'
    this.refusal = why
  }
}

export const world = new World()
