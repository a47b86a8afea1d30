// JSON as YAML, for reading: what `beluga apply` takes.

const PLAIN = /^[A-Za-z_/][\w ./@-]*$|^\d+ [a-z]+$/;
const RESERVED = /^(true|false|null|yes|no|on|off|y|n|~)$/i;

const scalar = (value) => (typeof value === "string" && (!PLAIN.test(value) || RESERVED.test(value) || value !== value.trim()) ? JSON.stringify(value) : String(value));
const isLeaf = (value) => value === null || typeof value !== "object";
const inline = (value) => (isLeaf(value) ? scalar(value) : Array.isArray(value) ? `[${value.map(inline).join(", ")}]` : `{ ${Object.entries(value).map(([key, one]) => `${scalar(key)}: ${inline(one)}`).join(", ")} }`);

/// Small things stay on a line, as people write them.
const fits = (value, indent) => isLeaf(value) || (indent > 0 && inline(value).length + indent <= 96 && (Array.isArray(value) ? value.every(isLeaf) : Object.values(value).every((one) => isLeaf(one) || inline(one).length < 32)));

export function yaml(value, indent = 0) {
  const pad = " ".repeat(indent);
  if (Array.isArray(value)) {
    return value.map((one) => (fits(one, indent + 2) ? `${pad}- ${inline(one)}\n` : `${pad}- ${yaml(one, indent + 2).trimStart()}`)).join("");
  }
  return Object.entries(value)
    .map(([key, one]) => {
      if (fits(one, indent + 2) || Object.keys(one).length === 0) return `${pad}${scalar(key)}: ${isLeaf(one) || Object.keys(one).length ? inline(one) : Array.isArray(one) ? "[]" : "{}"}\n`;
      return `${pad}${scalar(key)}:\n${yaml(one, indent + 2)}`;
    })
    .join("");
}
