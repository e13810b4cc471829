// Facts, and arrays decoded from compressed text to the bits that were stored.
const byId = (id) => document.getElementById(id);
const FACTS = JSON.parse(byId("facts").textContent);
const ARRAYS = { int8: Int8Array, uint8: Uint8Array, int16: Int16Array, int32: Int32Array, float32: Float32Array };
const CLIP_TEXTS = byId("clips").textContent.split("\n");
const table = {};  // name -> {data, shape}, of all samples
const clips = new Map();  // sample -> promise of its arrays

async function unpack(text, layout) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const source = new ReadableStream({ start(stream) { stream.enqueue(bytes); stream.close(); } });
  const buffer = await new Response(source.pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
  const arrays = {};
  let at = 0;
  for (const { name, dtype, shape } of layout) {
    const size = shape.reduce((product, side) => product * side, 1) * ARRAYS[dtype].BYTES_PER_ELEMENT;
    arrays[name] = { data: new ARRAYS[dtype](buffer.slice(at, at + size)), shape };
    at += size;
  }
  return arrays;
}

function clipOf(sample) {
  if (!clips.has(sample)) clips.set(sample, unpack(CLIP_TEXTS[sample], FACTS.clip));
  return clips.get(sample);
}

// Part of an array at the leading indices: part(table.scores, sample, step) is a row of scores.
function part({ data, shape }, ...indices) {
  const size = shape.slice(indices.length).reduce((product, side) => product * side, 1);
  const at = indices.reduce((sum, index, axis) => sum * shape[axis] + index, 0);
  return data.subarray(at * size, (at + 1) * size);
}

function quantile(values, share) {
  const sorted = Float32Array.from(values).sort();
  return sorted.length ? sorted[Math.min(Math.floor(share * sorted.length), sorted.length - 1)] : 0;
}

function extremes(values) {
  let low = Infinity, high = -Infinity;
  for (const value of values) { if (value < low) low = value; if (value > high) high = value; }
  return [low, high];
}

const largest = (values) => { const [low, high] = extremes(values); return Math.max(Math.abs(low), Math.abs(high), 1e-12); };

// Three digits with a true minus sign.
function short(value) {
  if (!Number.isFinite(value)) return "none";
  const size = Math.abs(value);
  const digits = size === 0 ? "0" : size >= 1000 || size < 0.001 ? size.toExponential(1) : String(Number(size.toPrecision(3)));
  return (value < 0 && size !== 0 ? "−" : "") + digits;
}
const percent = (share) => `${Math.round(100 * share)}%`;
const signed = (value) => (value > 0 ? "+" : "") + short(value);

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name in made && name !== "role") made[name] = value; else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}
