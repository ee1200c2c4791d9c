// The matrix as pixels: one per pair, drawn once per answer into a small image that the canvas then stretches, so that
// scrolling and pointing cost nothing per cell and 300 x 300 stays smooth.
import { colour, shareOf, type Measure } from './ramps'

export type Cells = (number | null)[][]

/** An image of `order.length` squared pixels; unknown cells are `unknown`, the diagonal is clear. */
export function paint(cells: Cells, order: number[], measure: Measure, unknown: readonly [number, number, number]): ImageData {
  const n = order.length
  const image = new ImageData(n, n)
  const scale = Array.from({ length: 256 }, (_, i) => colour(i / 255))
  for (let r = 0; r < n; r++) {
    const row = cells[order[r] ?? 0]
    for (let c = 0; c < n; c++) {
      if (r === c) continue
      const value = row?.[order[c] ?? 0] ?? null
      const rgb = value === null ? unknown : (scale[Math.round(255 * Math.min(1, shareOf(measure, value)))] ?? unknown)
      const at = 4 * (r * n + c)
      image.data[at] = rgb[0]
      image.data[at + 1] = rgb[1]
      image.data[at + 2] = rgb[2]
      image.data[at + 3] = value === null ? 110 : 255
    }
  }
  return image
}

export interface Group {
  name: string
  from: number
  size: number
}

/** Runs of the same name in an order, to be labelled and ruled off. */
export function groups(names: string[]): Group[] {
  const out: Group[] = []
  names.forEach((name, i) => {
    const last = out.at(-1)
    if (last?.name === name) last.size += 1
    else out.push({ name, from: i, size: 1 })
  })
  return out
}

export function median(values: (number | null)[]): number | null {
  const known = values.filter((value) => value !== null).toSorted((a, b) => a - b)
  return known.length === 0 ? null : (known[Math.floor(known.length / 2)] ?? null)
}

export interface Found {
  from: number
  to: number
  value: number
}

/** The highest known cells, highest first, and how many are unknown; one pass, because there may be 90,000. */
export function extremes(cells: Cells, most: number): { highest: Found[]; unknown: number } {
  const highest: Found[] = []
  let unknown = 0
  for (let from = 0; from < cells.length; from++) {
    const row = cells[from] ?? []
    for (let to = 0; to < row.length; to++) {
      const value = row[to] ?? null
      if (from === to) continue
      if (value === null) unknown += 1
      else if (highest.length < most || value > (highest.at(-1)?.value ?? 0)) {
        const at = highest.findIndex((one) => one.value < value)
        highest.splice(at < 0 ? highest.length : at, 0, { from, to, value })
        if (highest.length > most) highest.pop()
      }
    }
  }
  return { highest, unknown }
}
