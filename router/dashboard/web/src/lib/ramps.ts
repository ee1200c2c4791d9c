// Colours for numbers: from dark violet over teal to yellow, evenly bright in steps, the same order for every eye; grey is
// unknown. Anchors follow the published viridis map, which stays readable without colour.
export type Rgb = readonly [number, number, number]

const VIRIDIS: readonly Rgb[] = [
  [68, 1, 84],
  [71, 44, 122],
  [59, 81, 139],
  [44, 113, 142],
  [33, 144, 141],
  [39, 173, 129],
  [92, 200, 99],
  [170, 220, 50],
  [253, 231, 37],
]

/** `share` 0..1 along the scale. */
export function colour(share: number): Rgb {
  const at = Math.max(0, Math.min(1, share)) * (VIRIDIS.length - 1)
  const low = VIRIDIS[Math.floor(at)] ?? VIRIDIS[0]
  const high = VIRIDIS[Math.ceil(at)] ?? low
  if (!low || !high) return [0, 0, 0]
  const t = at - Math.floor(at)
  return [low[0] + (high[0] - low[0]) * t, low[1] + (high[1] - low[1]) * t, low[2] + (high[2] - low[2]) * t]
}

export function css(rgb: Rgb): string {
  return `rgb(${rgb.map(Math.round).join(' ')})`
}

export interface Measure {
  id: string
  name: string
  unit: string
  digits: number
  /** Where the scale ends; beyond it everything is the last colour. */
  most: number
  /** Spreads small numbers apart: the share is taken of the square root. */
  bent: boolean
}

export const MEASURES: readonly Measure[] = [
  { id: 'rtt', name: 'Round trip', unit: 'ms', digits: 1, most: 400, bent: false },
  { id: 'forward', name: 'One way', unit: 'ms', digits: 1, most: 200, bent: false },
  { id: 'jitter', name: 'Jitter', unit: 'ms', digits: 2, most: 20, bent: true },
  { id: 'loss', name: 'Loss', unit: '%', digits: 2, most: 10, bent: true },
  { id: 'gain', name: 'MOS gain', unit: 'MOS', digits: 2, most: 1, bent: true },
]

export function shareOf(measure: Measure, value: number): number {
  const share = Math.max(0, value) / measure.most
  return measure.bent ? Math.sqrt(share) : share
}
