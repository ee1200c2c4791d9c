// The last hour in the record, by kind: what an operator who was just woken wants to know first.
import { api, type EventAnswer } from './api'

export interface Recent {
  changes: EventAnswer[]
  moved: number
  more: boolean
}

const HOUR_MS = 3_600_000
const MOST = 200

/** `now` is the control plane's own time in ms: this computer's clock may be off. */
export async function lastHour(now: number): Promise<Recent> {
  const since = new Date(now - HOUR_MS).toISOString()
  const [centers, drains, ramps, moves] = await Promise.all(
    ['data_center', 'drain', 'ramp', 'session.moved'].map((kind) => api.events({ kind, since, limit: MOST })),
  )
  const changes = [centers, drains, ramps].flatMap((page) => page?.items ?? []).toSorted((a, b) => b.at.localeCompare(a.at))
  return { changes, moved: moves?.items.length ?? 0, more: moves?.next !== null }
}
