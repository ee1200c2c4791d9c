// Server-sent events over fetch rather than EventSource: heartbeat comments are seen, so a silent stall is noticed, and a
// refusal shows its status, so an expired sign-in is not mistaken for a broken network.

export interface StreamListener {
  open(): void
  item(kind: string, data: unknown): void
  lost(retryInMs: number): void
  refused(status: number): void
}

const SILENCE_MS = 25_000 // the server sends a comment every 10 s; two missed and a bit means the line is dead
const FIRST_RETRY_MS = 500
const LAST_RETRY_MS = 8_000

/** Splits a byte stream into events; `activity` is called for every chunk, comments included. */
export async function readEvents(
  body: ReadableStream<Uint8Array>,
  item: (kind: string, data: unknown) => void,
  activity: () => void,
): Promise<void> {
  const reader = body.getReader()
  const decoder = new TextDecoder()
  let rest = ''
  let kind = 'message'
  let data: string[] = []
  for (;;) {
    const { done, value } = await reader.read()
    if (done) return
    activity()
    const lines = (rest + decoder.decode(value, { stream: true })).split(/\r?\n/)
    rest = lines.pop() ?? ''
    for (const line of lines) {
      if (line === '') {
        if (data.length > 0) item(kind, JSON.parse(data.join('\n')))
        kind = 'message'
        data = []
      } else if (line.startsWith('event:')) kind = line.slice(6).trim()
      else if (line.startsWith('data:')) data.push(line.slice(5).trimStart())
    }
  }
}

/** Keeps one stream open until the returned function is called; retries with a doubling wait. */
export function openStream(url: string, listener: StreamListener): () => void {
  let closed = false
  let controller = new AbortController()
  let waiting: number | undefined
  let failures = 0

  const attempt = async (): Promise<void> => {
    controller = new AbortController()
    let watchdog: number | undefined
    const activity = (): void => {
      clearTimeout(watchdog)
      watchdog = window.setTimeout(() => controller.abort(), SILENCE_MS)
    }
    try {
      activity()
      const response = await fetch(url, { signal: controller.signal, cache: 'no-store', headers: { accept: 'text/event-stream' } })
      if (response.status === 401 || response.status === 403) {
        closed = true
        listener.refused(response.status)
        return
      }
      if (response.ok && response.body) {
        failures = 0
        listener.open()
        await readEvents(response.body, listener.item, activity)
      }
    } catch (error) {
      // A broken line ends in an exception of fetch or of the reader; anything else is a defect and must be seen.
      if (!(error instanceof TypeError || (error instanceof DOMException && error.name === 'AbortError'))) throw error
    } finally {
      clearTimeout(watchdog)
      if (!closed) {
        const wait = Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** failures)
        failures += 1
        listener.lost(wait)
        waiting = window.setTimeout(() => void attempt(), wait)
      }
    }
  }
  void attempt()
  return () => {
    closed = true
    clearTimeout(waiting)
    controller.abort()
  }
}
