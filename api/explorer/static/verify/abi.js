/**
 * Decoding of logs (Solidity ABI): strict, so that each log has one reading. The events are those
 * of chain/abi, by the Keccak-256 of their signature.
 */
import { toAddress } from "./addresses.js";
import { fromBigEndian, keccak, shownText, toCount, toHex, utf8 } from "./bytes.js";
import { EVENTS } from "./events.js";
import { Malformed } from "./malformed.js";

/**
 * @typedef {{name: string, type: string, indexed?: boolean, components?: Parameter[]}} Parameter
 * @typedef {{name: string, inputs: Parameter[]}} Event
 */

const WORD = 32;
const EXACT_BITS = 48; // integers of up to so many bits are numbers, greater ones bigints

/** @type {Map<string, Map<string, Event>>} */
const BY_TOPIC = new Map(
  Object.entries(EVENTS).map(([contract, events]) => [
    contract,
    new Map(events.map((event) => [toHex(topicOf(event)), event])),
  ]),
);

/**
 * Decode a log.
 * @param {string} contract Which contract logged it.
 * @param {Uint8Array[]} topics
 * @param {Uint8Array} data
 * @param {string} subject What it is, for messages.
 * @returns {{name: string, args: Record<string, any>}} Digests are lower-case digits, addresses
 *   checksummed, integers above 48 bits bigints.
 */
export function decodeLog(contract, topics, data, subject) {
  const topic = topics.length > 0 ? toHex(topics[0]) : "no topic";
  const event = BY_TOPIC.get(contract)?.get(topic);
  if (event === undefined) {
    throw new Malformed(subject, `an event of ${contract}`, `one with the topic ${topic}`);
  }
  const indexed = event.inputs.filter((input) => input.indexed);
  if (topics.length !== indexed.length + 1) {
    throw new Malformed(subject, `${indexed.length + 1} topics`, `${topics.length}`);
  }
  const args = {};
  const plain = decode(
    event.inputs.filter((input) => !input.indexed),
    data,
    subject,
  );
  for (const input of event.inputs) {
    args[input.name] = input.indexed
      ? scalar(input.type, topics[1 + indexed.indexOf(input)], subject)
      : plain[input.name];
  }
  return { name: event.name, args };
}

/** @param {Event} event @returns {Uint8Array} The first topic of its logs. */
export function topicOf(event) {
  return keccak(utf8(`${event.name}(${event.inputs.map(typeOf).join(",")})`));
}

function decode(parameters, data, subject) {
  const { value, end } = tuple(parameters, data, 0, subject);
  if (end !== data.length) throw new Malformed(subject, `${end} bytes of data`, `${data.length}`);
  return value;
}

/** Read a tuple whose head begins at `base`; each tail follows the one before without a gap. */
function tuple(components, data, base, subject) {
  let head = base;
  let tail = base + components.reduce((size, one) => size + headSize(one), 0);
  const value = {};
  for (const component of components) {
    const read = member(component, component.type, data, base, head, tail, subject);
    value[component.name] = read.value;
    head += headSize(component);
    tail = read.end;
  }
  return { value, end: tail };
}

function member(parameter, type, data, base, head, tail, subject) {
  if (!isDynamic(parameter, type)) {
    if (type === "tuple") {
      return { value: tuple(parameter.components, data, head, subject).value, end: tail };
    }
    return { value: scalar(type, word(data, head, subject), subject), end: tail };
  }
  const offset = toCount(word(data, head, subject), subject);
  if (base + offset !== tail) {
    throw new Malformed(subject, `a value at byte ${tail} of the data`, `one at ${base + offset}`);
  }
  return dynamic(parameter, type, data, tail, subject);
}

function dynamic(parameter, type, data, start, subject) {
  if (type === "tuple") return tuple(parameter.components, data, start, subject);
  const count = toCount(word(data, start, subject), subject);
  const begin = start + WORD;
  if (type.endsWith("[]")) {
    const inner = type.slice(0, -2);
    const size = isDynamic(parameter, inner) ? WORD : staticSize(parameter, inner);
    if (count * size > data.length - begin) throw tooLong(subject, count, data);
    const value = [];
    let tail = begin + count * size;
    for (let at = 0; at < count; at++) {
      const read = member(parameter, inner, data, begin, begin + at * size, tail, subject);
      value.push(read.value);
      tail = read.end;
    }
    return { value, end: tail };
  }
  const end = begin + Math.ceil(count / WORD) * WORD;
  if (end > data.length) throw tooLong(subject, count, data);
  if (data.subarray(begin + count, end).some((byte) => byte !== 0)) throw padding(subject);
  const bytes = data.subarray(begin, begin + count);
  return { value: type === "string" ? shownText(bytes) : bytes, end };
}

function scalar(type, bytes, subject) {
  if (type === "address") return toAddress(low(bytes, 20, subject));
  if (type === "bool") return low(bytes, 1, subject)[0] === 1;
  const [, kind, size] = /^(uint|bytes)([0-9]+)$/.exec(type);
  if (kind === "bytes") {
    if (bytes.subarray(Number(size)).some((byte) => byte !== 0)) throw padding(subject);
    return toHex(bytes.subarray(0, Number(size)));
  }
  const value = fromBigEndian(low(bytes, Number(size) / 8, subject));
  return Number(size) <= EXACT_BITS ? Number(value) : value;
}

function low(bytes, size, subject) {
  if (bytes.subarray(0, WORD - size).some((byte) => byte !== 0)) throw padding(subject);
  return bytes.subarray(WORD - size);
}

function word(data, at, subject) {
  if (at + WORD > data.length) {
    throw new Malformed(subject, `at least ${at + WORD} bytes of data`, `${data.length}`);
  }
  return data.subarray(at, at + WORD);
}

function typeOf(parameter) {
  if (!parameter.type.startsWith("tuple")) return parameter.type;
  return `(${parameter.components.map(typeOf).join(",")})${parameter.type.slice(5)}`;
}

function headSize(parameter) {
  return isDynamic(parameter, parameter.type) ? WORD : staticSize(parameter, parameter.type);
}

function staticSize(parameter, type) {
  if (type !== "tuple") return WORD;
  return parameter.components.reduce((size, one) => size + staticSize(one, one.type), 0);
}

function isDynamic(parameter, type) {
  if (type.endsWith("[]") || type === "string" || type === "bytes") return true;
  return type === "tuple" && parameter.components.some((one) => isDynamic(one, one.type));
}

const padding = (subject) => new Malformed(subject, "zeros beside the value", "other bytes");
const tooLong = (subject, count, data) =>
  new Malformed(subject, `no more than the ${data.length} bytes of data`, `a length of ${count}`);
