// The one line an operator reads first: what is wrong, or that nothing is, in words.
import type { DataCenter, DrainAnswer, HealthAnswer, VerdictAnswer, WorldEvent } from './api'
import { age, list, plural } from './format'
import { whose } from './whose'

export type Tone = 'good' | 'warn' | 'bad' | 'unknown'
export interface VerdictLine {
  tone: Tone
  text: string
  /** Us, the provider, or the user's ISP; nothing where nobody is blamed. */
  whose?: string
}

/** How many sessions recent events say were moved away from a data center since it went down. */
function moved(dc: DataCenter, events: WorldEvent[]): number {
  return events
    .filter((event) => event.kind.startsWith('session') && event.kind.includes('move'))
    .filter((event) => event.detail['from'] === dc.id || event.detail['moved_from'] === dc.id)
    .filter((event) => dc.since === null || event.at >= dc.since).length
}

function oneDown(dc: DataCenter, events: WorldEvent[]): string {
  const vantages = dc.vantages_ok + dc.vantages_lost
  const parts = []
  if (vantages > 0) parts.push(`${dc.vantages_lost} of ${plural(vantages, 'vantage')} lose it`)
  else if (dc.reason) parts.push(dc.reason)
  const gone = moved(dc, events)
  if (gone > 0) parts.push(`${plural(gone, 'session')} moved`)
  if (dc.sessions > 0) parts.push(`${plural(dc.sessions, 'session')} still on it`)
  return `${dc.id} is down${parts.length > 0 ? `: ${parts.join('; ')}` : ''}`
}

function manyDown(down: DataCenter[], all: DataCenter[]): string {
  const provider = down[0]?.provider ?? ''
  const whole = down.every((dc) => dc.provider === provider) && all.filter((dc) => dc.provider === provider).length === down.length
  if (whole) return `provider ${provider} is down: all ${down.length} of its data centers`
  return `${down.length} of ${all.length} data centers are down: ${list(down.map((dc) => dc.id))}`
}

const ADVICE: Record<VerdictAnswer['action'], string> = {
  none: 'nothing to do',
  watch: 'being watched, nothing to do yet',
  eject_node: 'cordon the node, its data center is well',
  drain_data_center: 'drain it if it lasts',
  drain_provider_region: 'drain the provider in that region if it lasts',
  drain_provider: 'drain the provider',
  eject_target: 'take its agents out of use, the edges are well',
  steer_group: 'its users are steered another way, nothing to do',
  tell_support: "nothing of ours is at fault: tell the users' provider",
  discard_vantage: 'what it reports is left out, nothing to do but repair it',
}

/** Whether a data center is part of what is blamed. */
function touches(fault: VerdictAnswer, dc: DataCenter): boolean {
  if (fault.kind === 'edge_region' || fault.kind === 'target') return dc.id === fault.id
  if (fault.kind === 'provider') return dc.provider === fault.id
  if (fault.kind === 'provider_region') return `${dc.provider}/${dc.region}` === fault.id
  return false
}

/** What is being done about a verdict, or what somebody should do: said once, without a full stop. */
export function doing(fault: VerdictAnswer, health: HealthAnswer, drains: DrainAnswer[]): string {
  if (health.frozen) return `automation is frozen: ${health.frozen_reason.replace(/\.$/, '')}`
  const blamed = new Set(health.data_centers.filter((dc) => touches(fault, dc)).map((dc) => dc.id))
  const mine = drains.filter((drain) => drain.state !== 'undone' && drain.targets.some((id) => blamed.has(id)))
  const drained = health.data_centers.filter((dc) => blamed.has(dc.id) && dc.intent === 'drained')
  const open = mine.find((drain) => drain.finished_at === null)
  // The control plane counts since its start; drains remember longer.
  const left = mine.reduce((sum, drain) => sum + Math.max(0, drain.sessions_at_start - drain.sessions_left), 0)
  const moved = Math.max(fault.sessions_moved, left)
  const gone = moved > 0 ? [`${plural(moved, 'session')} moved`] : []
  if (open) return [...gone, `being drained${open.origin === 'automatic' ? ' by itself' : ''}, ${plural(open.sessions_left, 'session')} left`].join('; ')
  if (blamed.size > 0 && drained.length === blamed.size) return [...gone, `drained${mine[0]?.origin === 'automatic' ? ' by itself' : ''}, nothing to do`].join('; ')
  if (!fault.sure) return [...gone, 'probes are being sent to make sure, nothing to do yet'].join('; ')
  return [...gone, ADVICE[fault.action]].join('; ')
}

/** Whether all of what is blamed is out of service already: bad news, and nobody must get up for it. */
function handled(fault: VerdictAnswer, health: HealthAnswer): boolean {
  const blamed = health.data_centers.filter((dc) => touches(fault, dc))
  return blamed.length > 0 && blamed.every((dc) => dc.intent === 'drained' && dc.sessions === 0)
}

/** The surest verdict in words, with what happens about it. */
function fault(health: HealthAnswer, drains: DrainAnswer[]): VerdictLine | null {
  const first = health.verdicts.toSorted((a, b) => Number(b.sure) - Number(a.sure) || b.confidence - a.confidence)[0]
  if (!first) return null
  const more = health.verdicts.length > 1 ? ` (and ${health.verdicts.length - 1} more)` : ''
  return { whose: whose(first), tone: first.sure && !handled(first, health) ? 'bad' : 'warn', text: `${first.finding.replace(/\.$/, '')}; ${doing(first, health, drains)}${more}` }
}

const OURS = 'Us, likely' // what is bad everywhere at once is hardly the fault of all at once
const MANY = 3 // providers

export function verdict(health: HealthAnswer, routesAgeMs: number | null, events: WorldEvent[], drains: DrainAnswer[] = []): VerdictLine {
  const all = health.data_centers.filter((dc) => dc.intent !== 'retired')
  const of = (state: DataCenter['state']): DataCenter[] => all.filter((dc) => dc.state === state)
  const [down, degraded, unknown] = [of('down'), of('degraded'), of('unknown')]
  if (all.length === 0) return { tone: 'unknown', text: 'No data centers yet: add some with tendril fleet apply FILE.yaml' }
  const blamed = fault(health, drains)
  if (blamed) return blamed
  if (health.frozen) return { tone: 'warn', whose: OURS, text: `No verdict: ${health.frozen_reason || 'judging is frozen'}` }
  const first = down[0]
  if (first) return { tone: 'bad', text: down.length === 1 ? oneDown(first, events) : manyDown(down, all) }
  const routes = routesAgeMs === null ? 'no route table yet' : `best route table ${age(routesAgeMs)} old`
  if (health.stale && routesAgeMs !== null) return { tone: 'warn', text: `Routes are from before a restart (${routes}); waiting for fresh reports` }
  const bad = degraded[0]
  const providers = new Set(degraded.map((dc) => dc.provider)).size
  if (providers >= MANY && degraded.length > 0.8 * all.length) {
    return { tone: 'warn', whose: OURS, text: `${degraded.length} of ${all.length} data centers are degraded at once, of ${providers} providers: look at our own machines first` }
  }
  if (bad) {
    const why = degraded.length === 1 && bad.reason ? `: ${bad.reason}` : ''
    const who = degraded.length === 1 ? `${bad.id} is degraded` : `${degraded.length} of ${all.length} data centers are degraded: ${list(degraded.map((dc) => dc.id))}`
    return { tone: 'warn', text: who + why }
  }
  if (unknown.length === all.length) return { tone: 'unknown', text: `Nothing measured yet: all ${plural(all.length, 'data center')} unknown; ${routes}` }
  if (unknown.length > 0) {
    return { tone: 'unknown', text: `${all.length - unknown.length} of ${plural(all.length, 'data center')} up, ${unknown.length} unknown; ${routes}` }
  }
  return { tone: 'good', text: all.length === 1 ? `The one data center is up; ${routes}` : `All ${all.length} data centers up; ${routes}` }
}
