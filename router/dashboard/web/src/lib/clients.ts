// Whether users of a client network suffer, by what is known of their way to the nearest edge.
import type { State } from './api'

const BAD_LOSS_PCT = 2 // above it voice is heard to break
const SLOW_MS = 150 // to the nearest edge alone: half of what a conversation bears

interface Way {
  rtt_ms: number | null
  loss_pct: number | null
}

/** Why they suffer, in words; empty where they do not. */
export function suffers(best: Way | undefined): string {
  const words = []
  if ((best?.loss_pct ?? 0) >= BAD_LOSS_PCT) words.push('loss')
  if ((best?.rtt_ms ?? 0) >= SLOW_MS) words.push('far away')
  return words.join(', ')
}

/** Health of a client network as a fact: unknown where nobody measured it, for a prediction is not a measurement. */
export function stateOf(best: Way | undefined, measured: boolean): State {
  if (!best || !measured) return 'unknown'
  return suffers(best) ? 'degraded' : 'up'
}
