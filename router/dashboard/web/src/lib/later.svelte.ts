// The code of all screens but the overview comes in a second piece, so that the verdict does not wait for it. It is
// fetched as soon as the overview stands: whoever loses the control plane a moment later can still open every screen.
import { clock } from './world.svelte'

type Pages = typeof import('../pages')

const RETRY_MS = 3_000

class Later {
  pages = $state.raw<Pages | null>(null)
  trouble = $state('')

  #busy = false
  #asked = -Infinity

  /** Fetch it unless it is there; after a failure again, but not at once. */
  async fetch(): Promise<void> {
    if (this.pages || this.#busy || clock.now - this.#asked < RETRY_MS) return
    this.#busy = true
    this.#asked = clock.now
    try {
      this.pages = await import('../pages')
      this.trouble = ''
    } catch (error) {
      if (!(error instanceof TypeError)) throw error // that is what a browser throws when code cannot be fetched
      this.trouble = 'The rest of this page could not be fetched: the control plane does not answer, or it is another version by now. Trying again; if this stays, reload the page.'
    } finally {
      this.#busy = false
    }
  }
}

export const later = new Later()
