// The one way to the server: JSON in and out, problems as errors, cancelled by an AbortSignal.

import * as session from "./session.js";

/// What the server says went wrong (RFC 9457), or that it could not be reached.
export class Problem extends Error {
  constructor(body, status) {
    super(body.detail ?? body.title ?? "the request failed");
    this.status = status;
    this.kind = (body.type ?? "").replace("urn:beluga:problem:", "");
    this.title = body.title ?? "";
    this.suggestion = body.suggestion ?? null;
    this.span = body.span ?? null;
    this.pointer = body.pointer ?? null;
    this.errors = body.errors ?? [];
  }
}

export const isAbort = (error) => error?.name === "AbortError";

const seen = new EventTarget();
let epochSeen = 0;

/// Calls back when an answer was of a newer view than all before.
export function onEpoch(callback, signal) {
  seen.addEventListener("epoch", () => callback(epochSeen), { signal });
}

export function noteEpoch(epoch) {
  if (typeof epoch === "number" && epoch > epochSeen) {
    epochSeen = epoch;
    seen.dispatchEvent(new Event("epoch"));
  }
}

/// Sends a request and gives the response, which is a success. With `quiet` nobody is asked for a token; `token` is another than the kept one.
export async function request(method, path, { body, signal, accept, headers, quiet, retried, token = session.token() } = {}) {
  const sent = { ...headers };
  if (accept) sent.accept = accept;
  if (token) sent.authorization = `Bearer ${token}`;
  let payload;
  if (body !== undefined) {
    const isText = typeof body === "string" || body instanceof Blob;
    payload = isText ? body : JSON.stringify(body);
    if (!isText) sent["content-type"] = "application/json";
  }
  let response;
  try {
    response = await fetch(path, { method, headers: sent, body: payload, signal, credentials: "omit", cache: "no-store" });
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new Problem({ type: "urn:beluga:problem:unreachable", title: "The server cannot be reached", detail: "The server cannot be reached. It may have stopped, or the connection is lost." }, 0);
  }
  if (response.ok) return response;
  const problem = await problemOf(response);
  if (problem.status === 401 && !retried && !quiet && (await session.need(problem))) {
    return request(method, path, { body, signal, accept, headers, retried: true });
  }
  throw problem;
}

async function problemOf(response) {
  try {
    return new Problem(await response.json(), response.status);
  } catch {
    return new Problem({ title: response.statusText }, response.status);
  }
}

/// Sends a request and gives the JSON of its answer, and the version of what it tells, as `If-Match` takes it. With `aside` the answer's epoch
/// is nobody's news: for figures that are asked for because of a newer one.
export async function versioned(method, path, options) {
  const response = await request(method, path, options);
  const answer = response.status === 204 ? null : await response.json();
  if (!options?.aside) noteEpoch(answer?.epoch);
  return { answer, version: response.headers.get("etag") };
}

export const call = async (method, path, options) => (await versioned(method, path, options)).answer;

export const get = (path, options) => call("GET", path, options);
export const post = (path, body, options) => call("POST", path, { ...options, body });
export const put = (path, body, options) => call("PUT", path, { ...options, body });
export const remove = (path, options) => call("DELETE", path, options);

/// A path with what stands in it escaped: path`/v1/audiences/${name}`.
export function path(parts, ...values) {
  return parts.reduce((text, part, at) => text + encodeURIComponent(values[at - 1]) + part);
}

/// Work of which only the newest counts: what was begun before is cancelled.
export class Latest {
  #controller = null;

  /// Runs `work` with a signal; gives undefined if it was superseded or cancelled.
  async run(work, outer) {
    this.cancel();
    const controller = new AbortController();
    this.#controller = controller;
    const signal = outer ? AbortSignal.any([controller.signal, outer]) : controller.signal;
    try {
      const result = await work(signal);
      return signal.aborted ? undefined : result;
    } catch (error) {
      if (isAbort(error) || signal.aborted) return undefined;
      throw error;
    } finally {
      if (this.#controller === controller) this.#controller = null;
    }
  }

  get isRunning() {
    return this.#controller !== null;
  }

  cancel() {
    this.#controller?.abort();
    this.#controller = null;
  }
}

/// Runs work on each item, so many at a time.
export async function inParallel(items, width, work) {
  const left = [...items];
  const worker = async () => {
    while (left.length > 0) await work(left.shift());
  };
  await Promise.all(Array.from({ length: Math.min(width, items.length) }, worker));
}

/// Server-sent events over fetch, which can send a token where EventSource cannot. Ends with the stream or the signal.
export async function events(address, signal, onEvent) {
  const response = await request("GET", address, { signal, accept: "text/event-stream" });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value.replaceAll("\r\n", "\n")).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const event = { name: "message", data: "" };
      for (const line of block.split("\n")) {
        if (line.startsWith("event:")) event.name = line.slice(6).trim();
        if (line.startsWith("data:")) event.data += line.slice(5).trimStart();
      }
      if (event.data) onEvent(event.name, JSON.parse(event.data));
    }
  }
}
