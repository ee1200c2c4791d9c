// Light, dark, or what the system says. Colours follow `color-scheme` through CSS light-dark().

type Choice = 'system' | 'light' | 'dark'
const ORDER: Choice[] = ['system', 'light', 'dark']
const SLOT = 'tendril.theme'

function stored(): Choice {
  const found = localStorage.getItem(SLOT)
  return ORDER.find((choice) => choice === found) ?? 'system'
}

class Theme {
  choice = $state<Choice>(stored())
  /** What the system says now: canvases must be drawn anew when it changes. */
  system = $state<'light' | 'dark'>('dark')

  constructor() {
    const light = matchMedia('(prefers-color-scheme: light)')
    const read = (): void => void (this.system = light.matches ? 'light' : 'dark')
    light.addEventListener('change', read)
    read()
  }

  apply(): void {
    document.documentElement.dataset['theme'] = this.choice
  }

  next(): void {
    this.choice = ORDER[(ORDER.indexOf(this.choice) + 1) % ORDER.length] ?? 'system'
    localStorage.setItem(SLOT, this.choice)
    this.apply()
  }
}

export const theme = new Theme()
