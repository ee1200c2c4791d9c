// The route on screen: fetched when the address asks for it, again on every pulse of the world, never two at once.
import { api, said, type ExplanationAnswer, type Route, type TrafficClass } from './api'

const EXPLAIN_EVERY_MS = 5_000 // the ledger is long and only read, so it may lag a little

class OpenRoute {
  route = $state.raw<Route | null>(null)
  routeAt = $state(0)
  explanation = $state.raw<ExplanationAnswer | null>(null)
  explanationAt = $state(0)
  trouble = $state('')

  #key = ''
  #busy = false

  /** Show this route; a changed question empties the answer at once, so that no number belongs to another pair. */
  ask(from: string, to: string, cls: TrafficClass): void {
    const key = `${from} ${to} ${cls}`
    if (key !== this.#key) {
      this.#key = key
      this.#busy = false
      this.route = null
      this.explanation = null
      this.explanationAt = -Infinity
      this.trouble = ''
    }
    if (!this.#busy) void this.#fetch(key, from, to, cls)
  }

  drop(): void {
    this.#key = ''
    this.#busy = false
    this.route = null
    this.explanation = null
  }

  async #fetch(key: string, from: string, to: string, cls: TrafficClass): Promise<void> {
    this.#busy = true
    try {
      const route = await api.route(from, to, cls)
      if (key !== this.#key) return
      this.route = route
      this.routeAt = performance.now()
      this.trouble = ''
      if (performance.now() - this.explanationAt < EXPLAIN_EVERY_MS) return
      const explanation = await api.explain(from, to, cls)
      if (key !== this.#key) return
      this.explanation = explanation
      this.explanationAt = performance.now()
    } catch (error) {
      if (key === this.#key) this.trouble = said(error)
    } finally {
      if (key === this.#key) this.#busy = false
    }
  }
}

export const open = new OpenRoute()
