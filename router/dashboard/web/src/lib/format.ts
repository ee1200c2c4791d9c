// Numbers as people read them. Unknown is a dash, never 0.
import type { Known } from './api'

export const DASH = '—'

export function ms(value: Known | undefined): string {
  if (value === null || value === undefined) return DASH
  return value >= 1000 ? `${(value / 1000).toFixed(2)} s` : `${value.toFixed(1)} ms`
}

export function pct(value: Known | undefined, digits = 1): string {
  return value === null || value === undefined ? DASH : `${value.toFixed(digits)} %`
}

/** What a share of certainty is told as: evidence never makes all of it. */
export function certainty(share: number): string {
  return pct(Math.min(99, 100 * share), 0)
}

export function fixed(value: Known | undefined, digits: number): string {
  return value === null || value === undefined ? DASH : value.toFixed(digits)
}

export function count(value: Known | undefined): string {
  return value === null || value === undefined ? DASH : value.toLocaleString('en')
}

/** A price by the hour. */
export function usd(value: Known | undefined, digits = 2): string {
  return value === null || value === undefined ? DASH : `${value.toFixed(digits)} USD/h`
}

export function plural(n: number, one: string, many = `${one}s`): string {
  return `${count(n)} ${n === 1 ? one : many}`
}

/** An age with the coarseness a person needs: 0.8 s, 12 s, 4 min, 3 h, 2 d. */
export function age(value: Known | undefined): string {
  if (value === null || value === undefined) return DASH
  const s = Math.max(0, value) / 1000
  if (s < 10) return `${s.toFixed(1)} s`
  if (s < 120) return `${Math.round(s)} s`
  if (s < 7200) return `${Math.round(s / 60)} min`
  if (s < 172_800) return `${Math.round(s / 3600)} h`
  return `${Math.round(s / 86_400)} d`
}

const EPOCH = 2 ** 32 // the control plane's start count sits above these bits of a generation

/** A generation as people compare it: which start of the control plane, and which table since then. */
export function generation(value: Known | undefined): string {
  if (value === null || value === undefined) return DASH
  return value < EPOCH ? count(value) : `${Math.floor(value / EPOCH)} · ${count(value % EPOCH)}`
}

export function clockTime(iso: string): string {
  return new Date(iso).toLocaleTimeString('en-GB')
}

/** The same with its date, unless that is today. */
export function clockDay(iso: string): string {
  const at = new Date(iso)
  if (at.toDateString() === new Date().toDateString()) return clockTime(iso)
  return `${at.toLocaleDateString('en-GB', { day: 'numeric', month: 'short' })}, ${clockTime(iso)}`
}

export function list(words: string[], most = 3): string {
  const shown = words.length > most ? [...words.slice(0, most), `${words.length - most} more`] : words
  if (shown.length < 2) return shown.join('')
  return `${shown.slice(0, -1).join(', ')} and ${shown[shown.length - 1]}`
}

/** What else an event says, in people's units: parts per million as percent, microseconds as milliseconds. */
export function details(values: Record<string, unknown>): string {
  return Object.entries(values)
    .filter(([, value]) => value !== null && value !== '')
    .map(([name, value]) => {
      const words = name.replace(/_(ppm|us)$/, '').replaceAll('_', ' ')
      if (typeof value === 'number' && name.endsWith('_ppm')) return `${words} ${pct(value / 10_000)}`
      if (typeof value === 'number' && name.endsWith('_us')) return `${words} ${ms(value / 1000)}`
      return `${words} ${typeof value === 'object' ? JSON.stringify(value) : String(value)}`
    })
    .join(', ')
}
