// From longitudes and latitudes to places on the screen: the projection, data centers spread so that none hides another,
// and lanes: the two directions of a route drawn side by side, as on a road.
import { geoEqualEarth, geoGraticule, geoPath, type GeoContext, type GeoProjection } from 'd3-geo'
import { feature } from 'topojson-client'
import type { Topology } from 'topojson-specification'
import landTopology from 'world-atlas/land-110m.json'
import type { DataCenter } from './api'
import type { Centre } from './address.svelte'

export type Point = readonly [number, number]
export interface Insets {
  top: number
  right: number
  bottom: number
  left: number
}
export interface Zoom {
  k: number
  x: number
  y: number
}

const topology = landTopology as unknown as Topology
const landObject = topology.objects['land']
if (!landObject) throw new Error('the land file has no object called land')
export const land = feature(topology, landObject)
export const graticule = geoGraticule().step([20, 20])()

export interface Positioned extends DataCenter {
  latitude: number
  longitude: number
}

export function positioned(dc: DataCenter): dc is Positioned {
  return dc.latitude !== null && dc.longitude !== null
}

/** Equal Earth, turned to the wanted ocean, scaled so that all data centers fit between the insets. */
export function makeProjection(
  width: number,
  height: number,
  insets: Insets,
  centre: Centre,
  points: Point[],
  zoom: Zoom,
): GeoProjection {
  const projection = geoEqualEarth().rotate([centre === 'pacific' ? -150 : -10, 0])
  const coordinates = points.length > 1 ? points : [[-125, 50], [150, -35]]
  const box: [Point, Point] = [
    [insets.left, insets.top],
    [Math.max(insets.left + 80, width - insets.right), Math.max(insets.top + 80, height - insets.bottom)],
  ]
  projection.fitExtent(box as [[number, number], [number, number]], {
    type: 'MultiPoint',
    coordinates: coordinates.map(([lon, lat]) => [lon ?? 0, lat ?? 0]),
  })
  // Never so close that a world of two neighbours fills the screen with one coast.
  const widest = Math.max(320, box[1][0] - box[0][0])
  const [tx, ty] = projection.translate()
  const scale = projection.scale()
  const capped = Math.min(scale, (widest / 5.4) * 2.6)
  const cx = (box[0][0] + box[1][0]) / 2
  const cy = (box[0][1] + box[1][1]) / 2
  const shrink = capped / scale
  const fx = cx + (tx - cx) * shrink
  const fy = cy + (ty - cy) * shrink
  projection.scale(capped * zoom.k).translate([fx * zoom.k + zoom.x, fy * zoom.k + zoom.y])
  return projection
}

export function outline(projection: GeoProjection, width: number, height: number): { land: string; lines: string; sphere: string } {
  const clipped = projection.clipExtent([
    [-60, -60],
    [width + 60, height + 60],
  ])
  const path = geoPath(clipped).digits(1)
  const drawn = { land: path(land) ?? '', lines: path(graticule) ?? '', sphere: path({ type: 'Sphere' }) ?? '' }
  projection.clipExtent(null)
  return drawn
}

const ROUNDS = 90
const HOMESICK = 0.06

/** Where each data center's mark goes: at home, or pushed aside until the middles of any two are `gap` pixels apart. */
export function spread(homes: Map<string, Point>, gap: number): Map<string, Point> {
  const ids = [...homes.keys()]
  const n = ids.length
  const home = new Float64Array(2 * n)
  ids.forEach((id, i) => home.set(homes.get(id) ?? [0, 0], 2 * i))
  // Two data centers in one city start a hair apart, each in its own direction, always the same one.
  const at = home.map((value, k) => value + 0.01 * (k % 2 === 0 ? Math.cos(1.2 * k) : Math.sin(1.2 * (k - 1))))
  for (let round = 0; round < ROUNDS; round++) {
    const pull = round < ROUNDS - 25 ? HOMESICK : 0
    let touched = false
    for (let i = 0; i < 2 * n; i += 2) {
      for (let j = i + 2; j < 2 * n; j += 2) {
        const dx = at[j]! - at[i]!
        if (dx >= gap || dx <= -gap) continue
        const dy = at[j + 1]! - at[i + 1]!
        const square = dx * dx + dy * dy
        if (square >= gap * gap || square === 0) continue
        const near = Math.sqrt(square)
        const push = (gap - near) / near / 2
        at[i]! -= dx * push
        at[i + 1]! -= dy * push
        at[j]! += dx * push
        at[j + 1]! += dy * push
        touched = true
      }
      at[i]! += (home[i]! - at[i]!) * pull
      at[i + 1]! += (home[i + 1]! - at[i + 1]!) * pull
    }
    if (!touched) break
  }
  return new Map(ids.map((id, i): [string, Point] => [id, [at[2 * i] ?? 0, at[2 * i + 1] ?? 0]]))
}

/** Collects what geoPath draws: great-circle lines, already bent by the projection and cut at the map's edge. */
class Pen implements GeoContext {
  lines: [number, number][][] = []
  beginPath(): void {}
  closePath(): void {}
  arc(): void {}
  moveTo(x: number, y: number): void {
    this.lines.push([[x, y]])
  }
  lineTo(x: number, y: number): void {
    this.lines.at(-1)?.push([x, y])
  }
}

export interface Lane {
  d: string
  /** Where the arrowhead sits and where it points, in degrees; none on a line too short for one. */
  arrow: { x: number; y: number; turn: number } | null
}

const STEP = 7 // px between points of a lane: fine enough that its bend is smooth

function finer(line: Point[]): Point[] {
  const out: Point[] = []
  line.forEach((p, i) => {
    const q = line[i + 1]
    if (!q) return out.push(p)
    const n = Math.max(1, Math.ceil(Math.hypot(q[0] - p[0], q[1] - p[1]) / STEP))
    for (let k = 0; k < n; k++) out.push([p[0] + ((q[0] - p[0]) * k) / n, p[1] + ((q[1] - p[1]) * k) / n])
    return out.length
  })
  return out
}

function lengths(line: Point[]): number[] {
  let sum = 0
  return line.map((p, i) => {
    const before = line[i - 1]
    if (before) sum += Math.hypot(p[0] - before[0], p[1] - before[1])
    return sum
  })
}

/**
 * One hop from `a` to `b` along the great circle, bent `side` pixels to its own left, starting and ending at the marks.
 * Opposite directions bend opposite ways, so a route and its way back never cover each other.
 */
export function lane(
  projection: GeoProjection,
  a: { home: Point; mark: Point; at: Point },
  b: { home: Point; mark: Point; at: Point },
  side: number,
): Lane {
  const pen = new Pen()
  geoPath(projection, pen)({ type: 'LineString', coordinates: [[...a.at], [...b.at]] })
  let lines: Point[][] = pen.lines.filter((line) => line.length > 1)
  if (lines.length === 0) lines = [[a.home, b.home]]
  const fine = lines.map(finer)
  const totals = fine.map((line) => lengths(line).at(-1) ?? 0)
  const total = totals.reduce((x, y) => x + y, 0) || 1
  const bend = side === 0 ? 0 : Math.sign(side) * Math.max(Math.abs(side), Math.min(18, total * 0.05))
  let before = 0
  const bent = fine.map((line, n) => {
    const along = lengths(line)
    const out = line.map((p, i): Point => {
      const t = (before + (along[i] ?? 0)) / total
      const warp = (axis: 0 | 1): number => (1 - t) * (a.mark[axis] - a.home[axis]) + t * (b.mark[axis] - b.home[axis])
      const q = line[i + 1] ?? p
      const o = line[i + 1] ? p : (line[i - 1] ?? p)
      const run = Math.hypot(q[0] - o[0], q[1] - o[1]) || 1
      const lift = bend * Math.sin(Math.PI * t) ** 0.6
      return [p[0] + warp(0) + (lift * (q[1] - o[1])) / run, p[1] + warp(1) - (lift * (q[0] - o[0])) / run]
    })
    before += totals[n] ?? 0
    return out
  })
  const d = bent.map((line) => `M${line.map((p) => `${p[0].toFixed(1)},${p[1].toFixed(1)}`).join('L')}`).join('')
  return { d, arrow: arrowOn(bent) }
}

function arrowOn(lines: Point[][]): Lane['arrow'] {
  const longest = lines.toSorted((x, y) => (lengths(y).at(-1) ?? 0) - (lengths(x).at(-1) ?? 0))[0]
  if (!longest || (lengths(longest).at(-1) ?? 0) < 26) return null
  const i = Math.floor(longest.length * 0.56)
  const p = longest[i]
  const q = longest[i + 1]
  if (!p || !q) return null
  return { x: p[0], y: p[1], turn: (Math.atan2(q[1] - p[1], q[0] - p[0]) * 180) / Math.PI }
}

export interface Label {
  id: string
  x: number
  y: number
  anchor: 'start' | 'end' | 'middle'
}

interface Box {
  x0: number
  y0: number
  x1: number
  y1: number
}

const CHAR = 6.2 // px, width of a letter at the label's size; only decides whether a label fits
const STRONG_CHAR = 7.4 // the same for the larger, heavier labels of what is chosen
const LINE = 13

/** Greedy labels: `must` are always named, the others only where there is room for the whole word. */
export function labels(marks: Map<string, Point>, must: string[], width: number, height: number): Label[] {
  const taken: Box[] = [...marks.values()].map(([x, y]) => ({ x0: x - 7, y0: y - 7, x1: x + 7, y1: y + 7 }))
  // Covering a mark is a pity; covering a word makes two words unreadable.
  const hits = (box: Box): number =>
    taken.reduce((sum, t, i) => {
      const over = t.x0 < box.x1 && t.x1 > box.x0 && t.y0 < box.y1 && t.y1 > box.y0
      return sum + (over ? (i < marks.size ? 1 : 10) : 0)
    }, 0)
  const order = [...must, ...[...marks.keys()].filter((id) => !must.includes(id))]
  const out: Label[] = []
  for (const id of order) {
    const mark = marks.get(id)
    if (!mark) continue
    const [x, y] = mark
    const w = id.length * (must.includes(id) ? STRONG_CHAR : CHAR)
    const tries: { label: Label; box: Box }[] = [
      { label: { id, x: x + 11, y: y + 4, anchor: 'start' }, box: { x0: x + 8, y0: y - 7, x1: x + 12 + w, y1: y + 6 } },
      { label: { id, x: x - 11, y: y + 4, anchor: 'end' }, box: { x0: x - 12 - w, y0: y - 7, x1: x - 8, y1: y + 6 } },
      { label: { id, x, y: y - 12, anchor: 'middle' }, box: { x0: x - w / 2, y0: y - 12 - LINE, x1: x + w / 2, y1: y - 8 } },
      { label: { id, x, y: y + 20, anchor: 'middle' }, box: { x0: x - w / 2, y0: y + 8, x1: x + w / 2, y1: y + 10 + LINE } },
    ]
    const inside = tries.filter(({ box }) => box.x0 > 0 && box.y0 > 0 && box.x1 < width && box.y1 < height)
    const free = inside.find(({ box }) => hits(box) === 0)
    const best = free ?? (must.includes(id) ? inside.toSorted((p, q) => hits(p.box) - hits(q.box))[0] : undefined)
    if (!best) continue
    taken.push(best.box)
    out.push(best.label)
  }
  return out
}
