// Every screen has an address that reproduces it, filters and all: #/links/A/B?range=6h. The map's centre is part of it.
import { TRAFFIC_CLASSES, type TrafficClass } from './api'

export type Centre = 'atlantic' | 'pacific'
export const SCREENS = ['matrix', 'data-centers', 'nodes', 'drains', 'sessions', 'pools', 'clients', 'events', 'keys'] as const
export type Screen = (typeof SCREENS)[number]
export type Place =
  | { view: 'overview' }
  | { view: 'routes' }
  | { view: 'data-center'; id: string }
  | { view: 'route'; from: string; to: string; class: TrafficClass }
  | { view: 'link'; from: string; to: string }
  | { view: 'provider' | 'region' | 'node' | 'network' | 'drain' | 'session' | 'pool'; id: string }
  | { view: Screen }
  | { view: 'nowhere'; path: string }

const ONE = { providers: 'provider', regions: 'region', nodes: 'node', networks: 'network', drains: 'drain', sessions: 'session', pools: 'pool' } as const
const MANY = { provider: 'providers', region: 'regions', node: 'nodes', network: 'networks', drain: 'drains', session: 'sessions', pool: 'pools', 'data-center': 'data-centers' } as const

function placeOf(path: string, params: URLSearchParams): Place {
  const [view = '', first, second] = path.split('/').map(decodeURIComponent)
  if (view === '' || view === 'overview') return { view: 'overview' }
  if (view === 'routes' || view === 'route') {
    if (!first || !second) return { view: 'routes' }
    return { view: 'route', from: first, to: second, class: TRAFFIC_CLASSES.find((one) => one === params.get('class')) ?? 'voice' }
  }
  if (view === 'links' && first && second) return { view: 'link', from: first, to: second }
  const ip = view === 'clients' && params.get('ip')
  if (ip) return { view: 'network', id: ip }
  if ((view === 'data-centers' || view === 'dc') && first) return { view: 'data-center', id: first }
  if (view in ONE && first) return { view: ONE[view as keyof typeof ONE], id: first }
  const screen = SCREENS.find((one) => one === view)
  return screen ? { view: screen } : { view: 'nowhere', path }
}

export function parse(hash: string): { place: Place; centre: Centre; params: URLSearchParams } {
  const [path = '', query = ''] = hash.replace(/^#\/?/, '').split('?')
  const params = new URLSearchParams(query)
  const centre: Centre = params.get('map') === 'pacific' ? 'pacific' : 'atlantic'
  return { place: placeOf(path, params), centre, params }
}

function pathOf(place: Place): string {
  const id = encodeURIComponent
  if (place.view === 'overview') return ''
  if (place.view === 'nowhere') return place.path
  if (place.view === 'route') return `routes/${id(place.from)}/${id(place.to)}`
  if (place.view === 'link') return `links/${id(place.from)}/${id(place.to)}`
  return 'id' in place ? `${MANY[place.view]}/${id(place.id)}` : place.view
}

export type Filters = Record<string, string | undefined>

export function format(place: Place, centre: Centre, filters: Filters = {}): string {
  const params = new URLSearchParams()
  if (place.view === 'route') params.set('class', place.class)
  for (const [name, value] of Object.entries(filters)) if (value) params.set(name, value)
  if (centre === 'pacific') params.set('map', 'pacific')
  const query = params.toString()
  return `#/${pathOf(place)}${query ? `?${query}` : ''}`
}

class Address {
  place = $state.raw<Place>({ view: 'overview' })
  centre = $state<Centre>('atlantic')
  params = $state.raw(new URLSearchParams())

  constructor() {
    this.read()
    window.addEventListener('hashchange', () => this.read())
  }

  read(): void {
    const found = parse(location.hash)
    this.centre = found.centre
    this.params = found.params
    this.place = found.place
  }

  filter(name: string): string {
    return this.params.get(name) ?? ''
  }

  go(place: Place, filters: Filters = {}): void {
    location.hash = format(place, this.centre, filters)
    this.read() // `hashchange` comes later: the next key must find where we are
  }

  /** Change filters of this screen; typing must not fill the history, so it replaces the address. */
  refine(change: Filters): void {
    const now = Object.fromEntries([...this.params].filter(([name]) => name !== 'map' && name !== 'class'))
    const next = format(this.place, this.centre, { ...now, ...change })
    history.replaceState(null, '', next)
    this.read()
  }

  turn(centre: Centre): void {
    location.hash = format(this.place, centre, Object.fromEntries([...this.params].filter(([name]) => name !== 'map' && name !== 'class')))
  }

  href(place: Place, filters: Filters = {}): string {
    return format(place, this.centre, filters)
  }

  /** What clicking a data center means: first one, then another makes a route; the same again lets go. */
  pick(id: string): void {
    const here = this.place
    if (here.view === 'data-center' && here.id !== id) this.go({ view: 'route', from: here.id, to: id, class: 'voice' })
    else if (here.view === 'data-center') this.go({ view: 'overview' })
    else this.go({ view: 'data-center', id })
  }
}

export const address = new Address()
