// Every view has a URL: #/ · #/dc/ID · #/route/FROM/TO?class=voice, each with &map=pacific when the map is centred there.
import { TRAFFIC_CLASSES, type TrafficClass } from './api'

export type Centre = 'atlantic' | 'pacific'
export type Place =
  | { view: 'map' }
  | { view: 'dc'; id: string }
  | { view: 'route'; from: string; to: string; class: TrafficClass }

export function parse(hash: string): { place: Place; centre: Centre } {
  const [path = '', query = ''] = hash.replace(/^#\/?/, '').split('?')
  const parts = path.split('/').map(decodeURIComponent)
  const params = new URLSearchParams(query)
  const centre: Centre = params.get('map') === 'pacific' ? 'pacific' : 'atlantic'
  const [view, first, second] = parts
  if (view === 'route' && first && second) {
    const cls = TRAFFIC_CLASSES.find((one) => one === params.get('class')) ?? 'voice'
    return { place: { view: 'route', from: first, to: second, class: cls }, centre }
  }
  if (view === 'dc' && first) return { place: { view: 'dc', id: first }, centre }
  return { place: { view: 'map' }, centre }
}

export function format(place: Place, centre: Centre): string {
  const id = encodeURIComponent
  const params = new URLSearchParams()
  let path = '#/'
  if (place.view === 'dc') path += `dc/${id(place.id)}`
  if (place.view === 'route') {
    path += `route/${id(place.from)}/${id(place.to)}`
    params.set('class', place.class)
  }
  if (centre === 'pacific') params.set('map', 'pacific')
  const query = params.toString()
  return query ? `${path}?${query}` : path
}

class Address {
  place = $state.raw<Place>({ view: 'map' })
  centre = $state<Centre>('atlantic')

  constructor() {
    this.read()
    window.addEventListener('hashchange', () => this.read())
  }

  read(): void {
    const found = parse(location.hash)
    this.centre = found.centre
    this.place = found.place
  }

  go(place: Place): void {
    location.hash = format(place, this.centre)
  }

  turn(centre: Centre): void {
    location.hash = format(this.place, centre)
  }

  href(place: Place): string {
    return format(place, this.centre)
  }

  /** What clicking a data center means: first one, then another makes a route; the same again lets go. */
  pick(id: string): void {
    const here = this.place
    if (here.view === 'dc' && here.id !== id) this.go({ view: 'route', from: here.id, to: id, class: 'voice' })
    else if (here.view === 'dc') this.go({ view: 'map' })
    else this.go({ view: 'dc', id })
  }
}

export const address = new Address()
