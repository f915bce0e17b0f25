/**
 * A local IPFS node: Helia with its blocks on disk, behind the part of Kubo's RPC in use here
 * (https://docs.ipfs.tech/reference/kubo/rpc/). A real Kubo can take its place.
 *
 * It listens on 127.0.0.1 only, looks for no peers and asks no gateway; other nodes are reached
 * only where `swarm/connect` names them. A block is acknowledged when it is on durable storage.
 *
 * Usage: node ipfs.mjs FOLDER PORT
 */

import { createHash, randomUUID } from 'node:crypto'
import fs from 'node:fs/promises'
import http from 'node:http'
import path from 'node:path'
import { pipeline } from 'node:stream/promises'

import busboy from '@fastify/busboy'
import { unixfs } from '@helia/unixfs'
import { identify } from '@libp2p/identify'
import { noise } from '@libp2p/noise'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { FsBlockstore } from 'blockstore-fs'
import { FsDatastore } from 'datastore-fs'
import { createHelia } from 'helia'
import { balanced } from 'ipfs-unixfs-importer/layout'
import { fixedSize } from 'ipfs-unixfs-importer/chunker'
import { createUnsafe } from 'multiformats/block'
import { CID } from 'multiformats/cid'
import * as Digest from 'multiformats/hashes/digest'

const VERSION = '0.30.0' // the Kubo whose answers these are
const MiB = 1024 * 1024
const MAX_BLOCK_BYTES = 2 * MiB
const MAX_FILE_BYTES = 16 * 1024 * MiB
const MAX_CONNECTIONS = 64
const MAX_SECONDS = 600
const DEFAULT_SECONDS = 5
const CODECS = { raw: 0x55, 'dag-pb': 0x70 }
const SHA2_256 = 0x12

/** What a caller did wrong or cannot have; anything else is a fault of this program. */
class CommandError extends Error {
  constructor (message, status = 500) {
    super(message)
    this.status = status
  }
}

/** Writes files whole: beside their place first, then synced, then renamed. */
class DurableFolder {
  constructor (folder) {
    this.path = folder
    this.incoming = path.join(folder, 'incoming')
  }

  async open () {
    await fs.rm(this.incoming, { recursive: true, force: true }) // left over from a crash
    await fs.mkdir(this.incoming, { recursive: true })
  }

  async write (target, bytes) {
    const incoming = path.join(this.incoming, randomUUID())
    try {
      await fs.writeFile(incoming, bytes, { flush: true })
      await fs.mkdir(path.dirname(target), { recursive: true })
      await fs.rename(incoming, target)
      await syncFolder(path.dirname(target))
    } catch (error) {
      await fs.rm(incoming, { force: true })
      throw error
    }
  }
}

/** Blocks as files. A block that is put again is written again, which heals a damaged file. */
class DurableBlockstore extends FsBlockstore {
  #folder

  constructor (folder) {
    super(path.join(folder.path, 'blocks'))
    this.#folder = folder
  }

  async put (cid, bytes) {
    await this.#folder.write(this.fileOf(cid), bytes)
    return cid
  }

  async * get (cid) {
    yield await fs.readFile(this.fileOf(cid)).catch((error) => {
      throw Object.assign(new Error(`no block ${cid}: ${error.message}`), { name: 'NotFoundError' })
    })
  }

  fileOf (cid) {
    const { dir, file } = this.shardingStrategy.encode(cid)
    return path.join(this.path, dir, file)
  }
}

/**
 * The pinned roots, one empty file each. This node never deletes a block, so a pin says that
 * the whole tree was here. Helia's own pins write a record for every block: ten times slower.
 */
class Pins {
  #folder
  #path

  constructor (folder) {
    this.#folder = folder
    this.#path = path.join(folder.path, 'pins')
  }

  async add (helia, cid, options) {
    await bringTree(helia, cid, options)
    await this.#folder.write(this.#fileOf(cid), '')
  }

  async rm (cid) {
    await this.assertPinned(cid)
    await fs.unlink(this.#fileOf(cid))
    await syncFolder(this.#path)
  }

  async ls () {
    return await fs.readdir(this.#path).catch(() => [])
  }

  async assertPinned (cid) {
    await fs.access(this.#fileOf(cid)).catch(() => {
      throw new CommandError(`path '${cid}' is not pinned`)
    })
  }

  #fileOf (cid) {
    return path.join(this.#path, cid.toString())
  }
}

/** Makes sure that all blocks below a root are here, fetching what is missing. */
async function bringTree (helia, cid, options) {
  if (cid.code === CODECS.raw && await helia.blockstore.has(cid, options)) {
    return
  }
  const block = Buffer.concat(await Array.fromAsync(helia.blockstore.get(cid, options)))
  if (cid.code !== CODECS.raw) {
    const codec = await helia.getCodec(cid.code)
    for (const [, child] of createUnsafe({ bytes: block, cid, codec }).links()) {
      await bringTree(helia, child, options)
    }
  }
}

async function syncFolder (folder) {
  const handle = await fs.open(folder)
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

async function startNode (folder) {
  const durable = new DurableFolder(folder)
  const blockstore = new DurableBlockstore(durable)
  const datastore = new FsDatastore(path.join(folder, 'datastore'))
  await durable.open()
  await blockstore.open()
  await datastore.open()
  const helia = createHelia({
    blockstore,
    datastore,
    http: { delegatedRouters: [], recursiveGateways: [] },
    libp2p: {
      addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
      transports: [tcp()],
      connectionEncrypters: [noise()],
      streamMuxers: [yamux()],
      peerDiscovery: [],
      services: { identify: identify(), ping: ping() }
    }
  })
  await helia.start()
  return { helia, blockstore, pins: new Pins(durable), files: unixfs(helia), folder }
}

// --- commands: each takes the node and the request, and returns the answer's JSON or bytes ---

const COMMANDS = {
  version: () => ({ Version: VERSION, Commit: '', Repo: '15', System: 'helia', Golang: '' }),

  id: ({ helia }) => ({
    ID: helia.libp2p.peerId.toString(),
    Addresses: helia.libp2p.getMultiaddrs().map(String),
    AgentVersion: `${helia.info.name}/${helia.info.version}`
  }),

  add: async ({ helia, files, pins }, { query, upload }) => {
    const options = {
      cidVersion: 1,
      rawLeaves: true,
      reduceSingleLeafToSelf: false,
      chunker: fixedSize({ chunkSize: leafBytes(query.get('chunker')) }),
      layout: balanced({ maxChildrenPerNode: integer(query.get('max-file-links') ?? '1024', 2, 1024) })
    }
    let size = 0
    const cid = await upload(MAX_FILE_BYTES, async (file) => {
      const counted = async function * () {
        for await (const chunk of file) {
          size += chunk.length
          yield chunk
        }
      }
      return files.addByteStream(counted(), options)
    })
    if (query.get('pin') !== 'false') {
      await pins.add(helia, cid, { offline: true })
    }
    return { Name: cid.toString(), Hash: cid.toString(), Size: String(size) }
  },

  cat: ({ files }, { cid, signal, offline }) => files.cat(cid(), { signal, offline }),

  'block/put': async ({ blockstore }, { query, upload }) => {
    const codec = CODECS[query.get('cid-codec') ?? 'raw']
    if (codec === undefined || (query.get('mhtype') ?? 'sha2-256') !== 'sha2-256') {
      throw new CommandError('expected cid-codec raw or dag-pb and mhtype sha2-256', 400)
    }
    const block = await upload(MAX_BLOCK_BYTES, async (file) => Buffer.concat(await Array.fromAsync(file)))
    const digest = createHash('sha256').update(block).digest()
    const cid = CID.createV1(codec, Digest.create(SHA2_256, digest))
    await blockstore.put(cid, block)
    return { Key: cid.toString(), Size: block.length }
  },

  'block/get': async (node, request) => readBlock(node, request),

  'block/stat': async (node, request) => {
    const block = await readBlock(node, request)
    return { Key: request.cid().toString(), Size: block.length }
  },

  'pin/add': async ({ helia, pins }, { cid, signal, offline }) => {
    await pins.add(helia, cid(), { signal, offline }).catch((error) => {
      throw error.code === 'ENOSPC' ? error : new CommandError(`pin: cannot have the whole of ${cid()}: ${error.message}`)
    })
    return { Pins: [cid().toString()] }
  },

  'pin/rm': async ({ pins }, { cid }) => {
    await pins.rm(cid())
    return { Pins: [cid().toString()] }
  },

  'pin/ls': async ({ pins }, { query, cid }) => {
    if (query.has('arg')) {
      await pins.assertPinned(cid())
    }
    const roots = query.has('arg') ? [cid().toString()] : await pins.ls()
    return { Keys: Object.fromEntries(roots.map((root) => [root, { Type: 'recursive' }])) }
  },

  'swarm/peers': ({ helia }) => ({
    Peers: helia.libp2p.getConnections().map((connection) => ({
      Addr: connection.remoteAddr.toString(),
      Peer: connection.remotePeer.toString()
    }))
  }),

  'swarm/connect': async ({ helia }, { query, signal }) => {
    await helia.libp2p.dial(multiaddr(argument(query)), { signal })
    return { Strings: [`connect ${argument(query)} success`] }
  },

  'repo/stat': async ({ blockstore, folder }) => {
    let [blocks, bytes] = [0, 0]
    for await (const file of fs.glob('**/*.data', { cwd: blockstore.path })) {
      blocks += 1
      bytes += (await fs.stat(path.join(blockstore.path, file))).size
    }
    return { NumObjects: blocks, RepoSize: bytes, RepoPath: folder, Version: 'fs-repo@15' }
  },

  shutdown: () => {
    setImmediate(stop)
    return {}
  }
}

/** Reads a block from disk or, where peers are connected, from them. */
async function readBlock ({ helia }, { cid, signal, offline }) {
  try {
    return Buffer.concat(await Array.fromAsync(helia.blockstore.get(cid(), { signal, offline })))
  } catch (error) {
    throw new CommandError(`block was not found: ${cid()} (${error.message})`)
  }
}

// --- requests ---

/** Everything a command may want to know about its request, read when it asks. */
function describe (request, url, node) {
  const seconds = duration(url.searchParams.get('timeout') ?? `${DEFAULT_SECONDS}s`)
  const offline = url.searchParams.get('offline') === 'true' || node.helia.libp2p.getPeers().length === 0
  return {
    query: url.searchParams,
    offline,
    signal: AbortSignal.timeout(seconds * 1000),
    cid: () => parseCid(argument(url.searchParams)),
    upload: (maxBytes, consume) => receiveFile(request, maxBytes, consume)
  }
}

/** Hands the one file of a multipart body to `consume`, and no byte more than the bound. */
async function receiveFile (request, maxBytes, consume) {
  let result
  const form = new busboy.Busboy({ headers: request.headers, limits: { files: 1, fields: 16, fileSize: maxBytes } })
  form.on('file', (_name, file) => {
    result = consume(failWhenCut(file, maxBytes))
    result.catch(() => file.resume())
  })
  await pipeline(request, form)
  if (result === undefined) {
    throw new CommandError('expected a file in a multipart/form-data body', 400)
  }
  return await result
}

async function * failWhenCut (file, maxBytes) {
  yield * file
  if (file.truncated) {
    throw new CommandError(`expected at most ${maxBytes} bytes`, 413)
  }
}

function argument (query) {
  const value = query.get('arg')
  if (value === null) {
    throw new CommandError('argument "arg" is required', 400)
  }
  return value
}

function parseCid (text) {
  try {
    return CID.parse(text.slice(0, 128).replace(/^\/ipfs\//, ''))
  } catch (error) {
    throw new CommandError(`invalid path "${text.slice(0, 128)}": ${error.message}`, 400)
  }
}

function integer (text, least, greatest) {
  const value = Number(text)
  if (!Number.isInteger(value) || value < least || value > greatest) {
    throw new CommandError(`expected a whole number from ${least} to ${greatest}, found ${text}`, 400)
  }
  return value
}

function leafBytes (chunker) {
  const size = /^size-(\d{1,8})$/.exec(chunker ?? `size-${MiB}`)
  if (size === null) {
    throw new CommandError(`expected chunker size-BYTES, found ${chunker}`, 400)
  }
  return integer(size[1], 1, MiB)
}

/** Reads one figure of Go's duration syntax, as in 300ms, 5s or 2m, in seconds. */
function duration (text) {
  const [, figure, unit] = /^(\d{1,9})(ms|s|m)$/.exec(text) ?? []
  if (figure === undefined) {
    throw new CommandError(`expected a timeout such as 5s, found ${text}`, 400)
  }
  return Math.min(Number(figure) * { ms: 0.001, s: 1, m: 60 }[unit], MAX_SECONDS)
}

async function answer (request, response) {
  const url = new URL(request.url, 'http://127.0.0.1')
  const command = COMMANDS[url.pathname.replace(/^\/api\/v0\//, '').replace(/\/$/, '')]
  if (request.method !== 'POST') {
    throw new CommandError('expected POST', 405)
  }
  if (request.headers.origin !== undefined) {
    throw new CommandError('requests from web pages are refused', 403)
  }
  if (command === undefined || !url.pathname.startsWith('/api/v0/')) {
    throw new CommandError(`404 page not found: ${url.pathname.slice(0, 128)}`, 404)
  }
  const result = await command(node, describe(request, url, node))
  if (result instanceof Uint8Array) {
    response.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': result.length })
    response.end(result)
  } else if (result[Symbol.asyncIterator] !== undefined) {
    await pipeline(result, response)
  } else {
    response.writeHead(200, { 'content-type': 'application/json' })
    response.end(JSON.stringify(result) + '\n')
  }
}

function refuse (request, response, error) {
  const status = error.status ?? 500
  const full = error.code === 'ENOSPC' ? 'the disk of the IPFS node is full: ' : ''
  if (status === 500 && !(error instanceof CommandError)) {
    console.error(request.url.slice(0, 256), error)
  }
  if (response.headersSent) {
    response.destroy() // half an answer was sent: only a broken connection tells the reader
    return
  }
  // Unread bytes of the body stay unread: the connection ends with this answer.
  response.writeHead(status, { 'content-type': 'application/json', connection: 'close' })
  response.end(JSON.stringify({ Message: `${full}${error.message}`, Code: 0, Type: 'error' }) + '\n')
}

const [folder, port] = process.argv.slice(2)
const node = await startNode(folder)
const server = http.createServer({ keepAliveTimeout: 60_000, requestTimeout: 1_800_000 }, (request, response) => {
  answer(request, response).catch((error) => refuse(request, response, error))
})
server.maxConnections = MAX_CONNECTIONS

async function stop () {
  server.close()
  server.closeIdleConnections()
  await node.helia.stop()
  process.exit(0)
}

process.on('SIGTERM', stop)
process.on('SIGINT', stop)
server.listen(Number(port), '127.0.0.1', () => console.log(`IPFS node ${node.helia.libp2p.peerId} on port ${port}`))
