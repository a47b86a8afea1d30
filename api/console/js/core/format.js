// Figures and times as people read them.

const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const decimals = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });
const dayOfYear = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });
const wholeDay = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });
const moment = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit" });

/// What stands for a number of users so few that a privacy policy does not tell it.
const FEW = "few";
const isFew = (value) => value === null || Number.isNaN(value);

export const integer = (value) => (isFew(value) ? FEW : whole.format(value));
export const compact = (value) => (isFew(value) ? FEW : Math.abs(value) < 10_000 ? decimals.format(value) : short.format(value));
export const decimal = (value) => decimals.format(value);

/// 0.1234 as 12.3 %.
export function percent(share) {
  if (!Number.isFinite(share)) return "–";
  const value = share * 100;
  if (value === 0) return "0 %";
  if (value < 0.1) return "< 0.1 %";
  return `${value.toFixed(value < 99.95 && value < 10 ? 2 : value < 99.95 ? 1 : 0)} %`;
}

/// A difference with its sign, as `told` says what it amounts to.
export const signed = (value, told) => (value === 0 ? told(0) : `${value > 0 ? "+" : "−"}${told(Math.abs(value))}`);

/// A figure with three digits, however small it is.
export const digits = (value) => {
  const size = Math.abs(value);
  return size === 0 || (size >= 0.001 && size < 1_000) ? String(Number(value.toPrecision(3))) : size >= 1_000 ? compact(Math.round(value)) : value.toExponential(1);
};

/// How likely something is by chance alone.
export const chance = (p) => (p < 0.0001 ? "< 0.0001" : p.toFixed(p < 0.001 ? 4 : 3));

/// The index of a share against a baseline: 100 is as everywhere.
export const index = (value) => (value === null || value === undefined ? "–" : whole.format(Math.round(value)));

export function microseconds(value) {
  if (value < 1_000) return `${value} µs`;
  if (value < 1_000_000) return `${decimal(value / 1_000)} ms`;
  return seconds(value / 1_000_000);
}

export function seconds(value) {
  if (value === 0) return "0 s";
  if (value < 0.001) return "< 1 ms";
  if (value < 1) return `${Math.round(value * 1_000)} ms`;
  if (value < 90) return `${value < 10 ? value.toFixed(1) : Math.round(value)} s`;
  if (value < 5_400) return `${Math.round(value / 60)} min`;
  if (value < 129_600) return `${Math.round(value / 3_600)} h`;
  return `${Math.round(value / 86_400)} days`;
}

export function bytes(value) {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let unit = 0;
  let left = value;
  while (left >= 1_000 && unit < units.length - 1) {
    left /= 1_000;
    unit += 1;
  }
  return `${left < 10 && unit > 0 ? left.toFixed(1) : Math.round(left)} ${units[unit]}`;
}

/// How long ago a time of the server is.
export function ago(text) {
  const past = (Date.now() - Date.parse(text)) / 1_000;
  if (!Number.isFinite(past)) return text;
  if (Math.abs(past) < 2) return "just now";
  return past > 0 ? `${seconds(past)} ago` : `in ${seconds(-past)}`;
}

export function time(text) {
  const at = new Date(text);
  return Number.isNaN(at.getTime()) ? text : moment.format(at);
}

export function date(text) {
  const at = new Date(text);
  return Number.isNaN(at.getTime()) ? text : day.format(at);
}

/// A calendar day as the server tells it, "2026-11-02": the same day wherever it is read, with its year or without.
export const calendarDay = (text) => wholeDay.format(new Date(`${text}T00:00:00Z`));
export const shortDay = (text) => dayOfYear.format(new Date(`${text}T00:00:00Z`));

/// "1 user", "2 users".
export function count(value, one, many = `${one}s`) {
  return `${whole.format(value)} ${value === 1 ? one : many}`;
}

/// A name as far as there is room for it.
export const shorter = (name, most = 60) => (name.length > most ? `${name.slice(0, most - 1)}…` : name);

/// A text in the quotes of the audience language and of SQL.
export const quoted = (text) => `'${String(text).replaceAll("'", "''")}'`;

/// Positions in errors are of bytes; those of strings here are of UTF-16 units.
export function indexOfByte(text, byte) {
  let seen = 0;
  let at = 0;
  for (const character of text) {
    if (seen >= byte) break;
    const code = character.codePointAt(0);
    seen += code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    at += character.length;
  }
  return at;
}
