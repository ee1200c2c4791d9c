// Measures this browser's round trips to a few edges and hands them to your own server.
//
//   <script type="module">
//   import { measure } from "https://TENDRIL/v1/beacon.js";
//   const { candidates } = await (await fetch("/my/candidates")).json();   // from GET /v1/clients/{ip}
//   const rows = await measure(candidates);                                 // [{data_center, rtt_ms, source}]
//   if (rows.length) navigator.sendBeacon("/my/beacons", JSON.stringify(rows)); // adds the address, POST /v1/beacons
//   </script>
//
// Keys stay on your server: this file knows none. No eval, no inline style, no cookies; the page's CSP needs this
// origin in script-src and the edges' origins in connect-src.

const TRIES = 4; // the first one pays for the name look-up and the handshakes; the least of the others counts
const TIMEOUT_MS = 4000;

function spent(url) {
  return url.startsWith("ws") ? opened(url) : fetched(url);
}

async function fetched(url) {
  const started = performance.now();
  // Opaque answers are enough: only the time matters. A refused connection throws.
  await fetch(url, {
    mode: "no-cors", cache: "no-store", credentials: "omit", method: "HEAD", signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  return performance.now() - started;
}

function opened(url) {
  return new Promise((resolve, reject) => {
    const started = performance.now();
    const socket = new WebSocket(url);
    const timer = setTimeout(() => { socket.close(); reject(new Error("timeout")); }, TIMEOUT_MS);
    socket.onopen = () => { clearTimeout(timer); resolve(performance.now() - started); socket.close(); };
    socket.onerror = () => { clearTimeout(timer); reject(new Error("unreachable")); };
  });
}

async function one({ data_center, url }) {
  // A new WebSocket takes TCP, TLS (1.3) and the upgrade: three round trips behind wss, two behind ws.
  const trips = url.startsWith("wss") ? 3 : url.startsWith("ws") ? 2 : 1;
  let least = Infinity;
  for (let i = 0; i < TRIES; i++) {
    const ms = (await spent(url)) / trips;
    if (i > 0) least = Math.min(least, ms);
  }
  return { data_center, rtt_ms: Math.max(0.001, Math.round(least * 1000) / 1000), source: "beacon" };
}

/** Measure candidates one after the other; those that do not answer are left out. */
export async function measure(candidates) {
  const rows = [];
  for (const candidate of candidates.slice(0, 3)) {
    if (!/^(https?|wss?):\/\//.test(candidate.url)) continue;
    try {
      rows.push(await one(candidate));
    } catch {
      // unreachable from here: no row is the honest answer
    }
  }
  return rows;
}
