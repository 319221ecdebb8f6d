// Numbers and times as text. What was not measured is "-".

export const none = "-";

const grouped = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 0 });

// number has about three digits.
export function number(x) {
  if (x === null || x === undefined) return none;
  const size = Math.abs(x);
  if (size >= 100) return grouped.format(x);
  if (size >= 10) return x.toFixed(1);
  if (size >= 0.995 || size === 0) return x.toFixed(size === 0 ? 1 : 2);
  return size >= 0.0995 ? x.toFixed(2) : x.toFixed(3);
}

export function count(x) {
  return x === null || x === undefined ? none : grouped.format(x);
}

// short is for counts that need not be exact.
export function short(x) {
  if (x < 1e5) return count(x);
  for (const [size, name] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (x >= size) return `${number(x / size)} ${name}`;
  }
  return none;
}

// withUnit leaves the unit of nothing out.
export function withUnit(x, unit, format = number) {
  const text = format(x);
  return text === none || unit === "" ? text : `${text} ${unit}`;
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return none;
  const s = Math.floor(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

const two = (n) => String(n).padStart(2, "0");

export function clock(unixSeconds, seconds = true) {
  const t = new Date(unixSeconds * 1000);
  return two(t.getHours()) + ":" + two(t.getMinutes()) + (seconds ? ":" + two(t.getSeconds()) : "");
}

// shares rounds percentages to one decimal so that they still add up to 100:
// what rounding down takes goes to those it took most of.
export function shares(values) {
  const tenths = values.map((v) => Math.floor(Math.max(v, 0) * 10));
  let missing = 1000 - tenths.reduce((a, b) => a + b, 0);
  const order = values.map((v, i) => [Math.max(v, 0) * 10 - tenths[i], i]).sort((a, b) => b[0] - a[0]);
  for (let k = 0; missing > 0; k = (k + 1) % order.length, missing--) tenths[order[k][1]]++;
  return tenths.map((t) => t / 10);
}
