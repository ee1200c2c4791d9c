// What this tab knows of the world: one stream says that something changed, plain GETs fetch what it is now.
import { api, Problem, type DataCenterHealth, type Health, type WorldEvent } from './api'
import { openStream } from './stream'

export type Line = 'connecting' | 'live' | 'lost'
export type Access = 'checking' | 'needed' | 'granted'
export type Freshness = 'fresh' | 'late' | 'stale'

const REFRESH_MS = 1_000 // generations may come faster; people cannot read faster
const IDLE_REFRESH_MS = 4_000 // ages move on even when no route changes
const LATE_MS = 10_000
const STALE_MS = 30_000
const EVENTS_MS = 5_000 // the stream tells of decisions at once; what operators did is looked up
const EVENTS_KEPT = 80

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
  health = $state.raw<Health | null>(null)
  healthAt = $state(0)
  trouble = $state('')
  events = $state.raw<WorldEvent[]>([])
  line = $state<Line>('connecting')
  lostAt = $state(0)
  retryAt = $state(0)
  /** Counts refreshes; views that hold more data than /v1/health refetch when it moves. */
  pulse = $state(0)

  byId: Map<string, DataCenterHealth> = $derived(new Map(this.health?.data_centers.map((dc) => [dc.id, dc])))
  age: number | null = $derived(this.health ? Math.max(0, clock.now - this.healthAt) : null)
  freshness: Freshness = $derived(freshness(this.age))

  #close: (() => void) | undefined
  #timer: number | undefined
  #asked = -Infinity
  #eventsAt = -Infinity
  #busy = false
  #again = false

  constructor() {
    document.addEventListener('visibilitychange', () => {
      if (!document.hidden && this.line === 'live') this.#soon()
    })
  }

  async start(): Promise<void> {
    try {
      this.#take(await api.health())
      await this.#readEvents()
    } catch (error) {
      if (this.#refused(error)) return
      this.#failed(error)
    }
    this.access = 'granted'
    this.refusal = ''
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
      refused: (status) => this.#refused(new Problem(status, '', '')),
    })
  }

  async signIn(key: string): Promise<void> {
    try {
      await api.signIn(key.trim())
    } catch (error) {
      if (this.#refused(error, true)) return
      throw error
    }
    await this.start()
  }

  async signOut(): Promise<void> {
    await api.signOut()
    this.#leave('You have signed out.')
  }

  #item(kind: string, data: unknown): void {
    if (kind === 'event') this.events = [data as WorldEvent, ...this.events].slice(0, EVENTS_KEPT)
    // The server dropped what we were too slow to read: look the present up instead.
    if (kind === 'resync') this.#eventsAt = -Infinity
    this.#soon()
  }

  async #readEvents(): Promise<void> {
    this.events = (await api.events()).items.toSorted((a, b) => b.at.localeCompare(a.at))
    this.#eventsAt = performance.now()
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
      if (performance.now() - this.#eventsAt > EVENTS_MS) await this.#readEvents()
    } catch (error) {
      if (!this.#refused(error)) this.#failed(error)
    } finally {
      this.#busy = false
      if (this.line === 'live') this.#later(this.#again ? REFRESH_MS : IDLE_REFRESH_MS)
    }
  }

  #take(health: Health): void {
    // A late answer of an older generation must not overwrite a newer one.
    if (this.health && health.generation < this.health.generation) return
    this.health = health
    this.healthAt = performance.now()
    this.trouble = ''
  }

  #failed(error: unknown): void {
    this.trouble = error instanceof Problem ? error.message : 'the control plane does not answer'
  }

  #refused(error: unknown, signing = false): boolean {
    if (!(error instanceof Problem) || (error.status !== 401 && error.status !== 403)) return false
    const held = this.access === 'granted'
    if (error.status === 403) this.#leave('This key is known, but it may not read the dashboard: it needs the scope viewer or more.')
    else if (signing) this.#leave('This key is not known here, or it was revoked.')
    else this.#leave(held ? 'Your sign-in has expired or the key was revoked. Sign in again.' : '')
    return true
  }

  #leave(why: string): void {
    this.#close?.()
    this.#close = undefined
    clearTimeout(this.#timer)
    this.health = null
    this.events = []
    this.line = 'connecting'
    this.access = 'needed'
    this.refusal = why
  }
}

export const world = new World()
