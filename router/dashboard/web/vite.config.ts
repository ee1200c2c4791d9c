// The build must give the same bytes on every machine: no source maps, no timestamps, nothing read from the environment.
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { svelte } from '@sveltejs/vite-plugin-svelte'
import { quantize } from 'topojson-client'
import type { GeometryCollection, Topology } from 'topojson-specification'
import { defineConfig, type Plugin } from 'vite'

const bundled = ['d3-array', 'd3-geo', 'internmap', 'svelte', 'topojson-client', 'uplot', 'world-atlas']

/** Ships the licence texts of what is bundled, as those licences ask for. */
function licences(): Plugin {
  const text = (name: string): string => {
    const folder = new URL(`./node_modules/${name}/`, import.meta.url)
    const version = (JSON.parse(readFileSync(new URL('package.json', folder), 'utf8')) as { version: string }).version
    const file = name === 'svelte' ? 'LICENSE.md' : 'LICENSE'
    return `${name} ${version}\n\n${readFileSync(new URL(file, folder), 'utf8').trim()}\n`
  }
  return {
    name: 'licences',
    generateBundle() {
      this.emitFile({ type: 'asset', fileName: 'licences.txt', source: bundled.map(text).join(`\n${'-'.repeat(80)}\n\n`) })
    },
  }
}

const STEPS = 10_000 // of longitude: 0.036 degrees each, two pixels on a map zoomed in as far as it goes

/** Rounds the coastlines to what can be seen on screen: a third fewer bytes to fetch before the map is there. */
function coastlines(): Plugin {
  return {
    name: 'coastlines',
    enforce: 'pre',
    transform(code, id) {
      if (!id.endsWith('/land-110m.json')) return null
      const { transform, ...rest } = JSON.parse(code) as Topology<{ land: GeometryCollection }>
      if (!transform) throw new Error(`${id} is not quantized: has it another format now?`)
      const { scale: [kx, ky], translate: [dx, dy] } = transform
      const arcs = rest.arcs.map((arc) => {
        let [x, y] = [0, 0]
        return arc.map(([stepX = 0, stepY = 0]) => [(x += stepX) * kx + dx, (y += stepY) * ky + dy])
      })
      return { code: JSON.stringify(quantize({ ...rest, arcs }, STEPS)), map: null }
    },
  }
}

export default defineConfig({
  root: fileURLToPath(new URL('.', import.meta.url)),
  plugins: [svelte({ compilerOptions: { runes: true } }), coastlines(), licences()],
  build: {
    outDir: '../static',
    emptyOutDir: true,
    target: 'es2022',
    sourcemap: false,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
  server: { proxy: { '/v1': 'http://127.0.0.1:7400' } },
})
