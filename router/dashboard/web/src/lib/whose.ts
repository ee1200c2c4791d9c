// Whose fault a verdict says it is, in the words that decide whom to ring: us, the provider, or the user's ISP.
import type { Place } from './address.svelte'
import type { VerdictAnswer } from './api'

const WHOSE: Record<VerdictAnswer['kind'], string> = {
  node: 'Us: one machine',
  edge_region: 'Provider, one place',
  provider_region: 'Provider, one region',
  provider: 'Provider',
  target: 'Us: agents',
  transit: 'Between networks',
  client_isp: "User's ISP",
  prober: 'Us: a prober',
}

export function whose(fault: VerdictAnswer): string {
  return WHOSE[fault.kind]
}

/** The screen of what is blamed; null where it has none. */
export function screenOf(fault: Pick<VerdictAnswer, 'kind' | 'id'>): Place | null {
  const [first = '', second = ''] = fault.id.split(/[/>]/)
  switch (fault.kind) {
    case 'node':
    case 'prober':
      return { view: 'node', id: fault.id }
    case 'edge_region':
    case 'target':
      return { view: 'data-center', id: fault.id }
    case 'provider_region':
    case 'provider':
      return { view: 'provider', id: first }
    case 'client_isp':
      return { view: 'network', id: first }
    case 'transit':
      return fault.id.includes('>') ? { view: 'link', from: first, to: second } : { view: 'network', id: first }
  }
  return null // of a newer control plane
}
