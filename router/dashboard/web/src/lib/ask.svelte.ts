// One question to the control plane that belongs to a part of the screen: asked when it changes, and again as the world
// moves on; an answer to an older question is dropped, so no number ever belongs to something else.
import { said } from './api'
import { world } from './world.svelte'

export class Ask<T> {
  answer = $state.raw<T | null>(null)
  at = $state(0)
  trouble = $state('')
  busy = $state(false)

  #key: string | null = null
  #round = 0
  #asked = -Infinity

  /** `question` names what is asked, or null for nothing; must be made while a component starts. */
  constructor(question: () => string | null, fetcher: () => Promise<T>, everyMs = 4_000) {
    $effect(() => {
      const key = question()
      void world.pulse
      if (key === this.#key && (this.busy || performance.now() - this.#asked < everyMs)) return
      if (key !== this.#key) {
        this.#key = key
        this.answer = null
        this.trouble = ''
      }
      if (key !== null) void this.#fetch(fetcher)
    })
  }

  /** Ask again now, after something was changed. */
  again(fetcher: () => Promise<T>): Promise<void> {
    return this.#fetch(fetcher)
  }

  async #fetch(fetcher: () => Promise<T>): Promise<void> {
    const round = ++this.#round
    this.busy = true
    this.#asked = performance.now()
    try {
      const answer = await fetcher()
      if (round !== this.#round) return
      this.answer = answer
      this.at = performance.now()
      this.trouble = ''
    } catch (error) {
      if (round === this.#round) this.trouble = world.lostAccess(error) ? '' : said(error)
    } finally {
      if (round === this.#round) this.busy = false
    }
  }
}
