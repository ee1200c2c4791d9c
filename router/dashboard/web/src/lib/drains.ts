// What the numbers of a drain say about how far it is and how long it will take.
import type { DrainAnswer } from './api'

/** Share of the sessions at the start that have left, in %; a drain that had none is done with that part. */
export function progress(drain: DrainAnswer): number {
  if (drain.sessions_at_start === 0) return 100
  return Math.max(0, Math.min(100, 100 * (1 - drain.sessions_left / drain.sessions_at_start)))
}

export interface Sample {
  at: number
  left: number
}

const LOOK_BACK_MS = 60_000

/** Time until none is left at the pace of the last minute, in ms; null while nothing has left. */
export function eta(samples: Sample[], now: number): number | null {
  const recent = samples.filter((one) => now - one.at <= LOOK_BACK_MS)
  const [first, last] = [recent[0], recent.at(-1)]
  if (!first || !last || last.left === 0) return last?.left === 0 ? 0 : null
  const gone = first.left - last.left
  if (gone <= 0 || last.at === first.at) return null
  return (last.left * (last.at - first.at)) / gone
}
