// The build must give the same bytes on every machine: no source maps, no timestamps, nothing read from the environment.
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { svelte } from '@sveltejs/vite-plugin-svelte'
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

export default defineConfig({
  root: fileURLToPath(new URL('.', import.meta.url)),
  plugins: [svelte({ compilerOptions: { runes: true } }), licences()],
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
