// Answers as files: asked for as every call is, with the token in a header, then handed to the browser.

import { isAbort, request } from "../core/api.js";
import { h } from "../core/dom.js";
import { bytes } from "../core/format.js";
import { progress, toast } from "./toast.js";

export const FORMATS = {
  csv: { accept: "text/csv", text: "CSV" },
  ndjson: { accept: "application/x-ndjson", text: "NDJSON" },
  parquet: { accept: "application/vnd.apache.parquet", text: "Parquet" },
  arrow: { accept: "application/vnd.apache.arrow.stream", text: "Arrow stream" },
};

/// Asks `path` for a format and saves what comes under a name.
export async function download(path, body, format, name) {
  const controller = new AbortController();
  const note = progress(`Preparing ${name}.${format} …`, () => controller.abort());
  try {
    const response = await request("POST", path, { body, accept: FORMATS[format].accept, signal: controller.signal });
    const reader = response.body.getReader();
    const parts = [];
    let size = 0;
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      parts.push(value);
      size += value.length;
      note.say(`${name}.${format}: ${bytes(size)}`);
    }
    const address = URL.createObjectURL(new Blob(parts, { type: FORMATS[format].accept }));
    const link = h("a", { href: address, download: `${name}.${format}` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
    toast(`Saved ${name}.${format}, ${bytes(size)}`);
  } catch (error) {
    if (!isAbort(error)) toast(error.message, { kind: "bad" });
  } finally {
    note.done();
  }
}
