// Rewrites package-lock.json without funding links: the lock file names packages and hashes, and no hosts at all.
import { readFileSync, writeFileSync } from 'node:fs'

const lock = JSON.parse(readFileSync('package-lock.json', 'utf8'))
for (const entry of Object.values(lock.packages)) delete entry.funding
writeFileSync('package-lock.json', JSON.stringify(lock, null, 2) + '\n')
