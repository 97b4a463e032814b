"use strict";
// Python's builtin types and functions, as far as the translated programs use them. Integers are doubles: exact to 2^53.
class $Exception extends Error {
  constructor(...args) { super(); this.__init__(...args); }
  __init__(...args) { this.args = args; this.message = args.map($str).join(", "); }
}
class $ValueError extends $Exception {}
class $KeyError extends $Exception {}
class $TypeError extends $Exception {}
class $ZeroDivisionError extends $Exception {}
class $OverflowError extends $Exception {}
class $StopIteration extends $Exception {}
class $AssertionError extends $Exception {}
class $RuntimeError extends $Exception {}
const $CLASS = Symbol("class");
// A call of what may be a class.
function $call(f, ...args) { return f.prototype?.[$CLASS] ? new f(...args) : f(...args); }
class $None {}
class $object_ {}
function $int(value = 0, base = 10) { return typeof value === "string" ? parseInt(value, base) : Math.trunc(+value); }
function $float(value = 0) { return typeof value === "string" ? parseFloat(value) : +value; }
function $bool(value = false) { return $true(value); }

class $Float extends Number {}
class $Object { constructor(...args) { this.__init__(...args); } __init__() {} }
class $Callable {
  constructor(...args) {
    const made = $callable(new.target.prototype);
    made.__init__(...args);
    return made;
  }
  __init__() {}
}
function $callable(prototype) {
  const made = (a, b, c) => made.__call__(a, b, c);
  delete made.name; delete made.length;
  return Object.setPrototypeOf(made, prototype);
}
function $instance(kind, fields) {
  const made = kind.prototype instanceof $Callable ? $callable(kind.prototype) : Object.create(kind.prototype);
  for (const name in fields) made[name] = fields[name];
  return made;
}
class $Tuple {
  *[Symbol.iterator]() { for (const name of this._fields) yield this[name]; }
  _asdict() { return $dict(this._fields.map((name) => [name, this[name]])); }
}
function $fields(kind, names) {
  kind._fields = names; kind.prototype._fields = names;
  kind._make = (values) => new kind(...values);
}
function $constants(kind, values) { Object.assign(kind, values); Object.assign(kind.prototype, values); }
function $list_of(value) {
  if (Array.isArray(value)) return value;
  if (!(value instanceof $Tuple)) return [...value];
  const names = value._fields, made = new Array(names.length);
  for (let i = 0; i < names.length; i++) made[i] = value[names[i]];
  return made;
}

for (const kind of [$Exception, $Object, $Callable, $Tuple]) kind.prototype[$CLASS] = true;

// --- keyword arguments
function $signed(f, signature) {
  const [first, ...names] = signature.split(" ");
  f.$parameters = { names: names.filter(Boolean), positional: parseInt(first), rest: first.includes("*"), others: first.includes("^") };
  return f;
}
function $arranged(f, args, words) {
  const own = f.$parameters || { names: f._fields || [], positional: (f._fields || []).length, rest: false, others: false };
  const places = args.slice(0, own.positional), rest = args.slice(own.positional), others = [];
  while (places.length < own.names.length) places.push(undefined);
  for (const name in words) {
    const at = own.names.indexOf(name);
    if (at >= 0) places[at] = words[name];
    else if (own.others) others.push([name, words[name]]);
    else throw new $TypeError(`unexpected keyword ${name}`);
  }
  if (rest.length && !own.rest) throw new $TypeError("too many arguments");
  if (own.others) places.push($dict(others));
  return [...places, ...rest];
}
function $apply(f, args, words) { return f(...$arranged(f, args, words)); }
function $applyNew(kind, args, words) {
  const own = kind.prototype.__init__ && kind.prototype.__init__.$parameters;
  return new kind(...$arranged(own ? { $parameters: own } : kind, args, words));
}
// A call whose only keywords are those of a dictionary.
function $given(f, object, words) {
  const own = f.$parameters;
  if (own.rest || own.others) return f.apply(object, $arranged(f, [], $object(words)));
  const places = new Array(own.names.length);
  let known = 0;
  for (let i = 0; i < places.length; i++) {
    places[i] = words.$get(own.names[i], undefined);
    if (places[i] !== undefined) known++;
  }
  if (known !== words.size) throw new $TypeError("unexpected keyword");
  return f.apply(object, places);
}
function $send(object, name, args, words) { return object[name](...$arranged(object[name], args, words)); }
class $Words { constructor(given) { Object.assign(this, given); } }
function $words(given) { return new $Words(given); }
function $parted(args) {
  const last = args[args.length - 1];
  return last instanceof $Words ? [args.slice(0, -1), last] : [args, {}];
}
function $object(dict) { return Object.fromEntries($pairs(dict)); }
function $partial(f, ...given) {
  const [args, words] = $parted(given);
  if (!Object.keys(words).length) return (...more) => f(...args, ...more);
  return (...more) => $apply(f, [...args, ...more], words);
}
function $bound(object, name) {
  if (typeof object === "string" && (name === "value" || name === "name")) return name === "value" ? $value(object) : $name(object);
  const own = object[name];
  if ((own !== undefined && typeof own !== "function") || Object.hasOwn(object, name)) return own;
  const f = object["$" + name] ?? object[name];
  return typeof f === "function" ? f.bind(object) : f;
}
function $absent(what) { throw new $RuntimeError(`${what} is not part of this page`); }
function $stop() { throw new $StopIteration(); }

// --- dictionaries and sets
const $ids = new WeakMap(); let $lastId = 0;
function $id(value) {
  if (!$ids.has(value)) $ids.set(value, ++$lastId);
  return $ids.get(value);
}
const $KEY = Symbol("key");
function $key(value) {
  switch (typeof value) {
    case "number": return value;
    case "string": return value;
    case "boolean": return +value;
  }
  if (value === null) return null;
  if (Array.isArray(value)) return $keyOf(value);
  if (value instanceof $Tuple) return value[$KEY] ?? (value[$KEY] = $keyOf($list_of(value)));
  return value;
}
function $keyOf(values) {
  let text = "\u0001";
  for (let i = 0; i < values.length; i++) {
    const key = $key(values[i]), kind = typeof key;
    // Texts of the model hold no control characters, so these marks keep the parts apart.
    text += kind === "string" ? '"' + key : kind === "number" || key === null ? key : "#" + $id(key);
    text += "\u0002";
  }
  return text + "\u0003";
}
class $Dict {
  // Values by key. Keys that are tuples have a text in their place; `k` then holds all keys themselves.
  constructor() { this.m = new Map(); this.k = null; }
  get size() { return this.m.size; }
  put(key, value) {
    const at = $key(key);
    if (at !== key && this.k === null) this.k = new Map([...this.m.keys()].map((one) => [one, one]));
    if (this.k !== null && !this.k.has(at)) this.k.set(at, key);
    this.m.set(at, value);
    return this;
  }
  has(key) { return this.m.has($key(key)); }
  item(key) {
    const found = this.m.get($key(key));
    if (found === undefined) throw new $KeyError(key);
    return found;
  }
  [Symbol.iterator]() { return (this.k === null ? this.m.keys() : this.k.values()); }
  $get(key, otherwise = null) { const found = this.m.get($key(key)); return found === undefined ? otherwise : found; }
  $items() { return this.k === null ? [...this.m] : [...this.m].map(([at, value]) => [this.k.get(at), value]); }
  $keys() { return $set(this); }
  $values() { return [...this.m.values()]; }
  $setdefault(key, value = null) { const found = this.m.get($key(key)); if (found !== undefined) return found; this.put(key, value); return value; }
  $update(...given) {
    const [args, words] = $parted(given);
    for (const one of args) for (const [key, value] of $pairs(one)) this.put(key, value);
    for (const name in words) this.put(name, words[name]);
    return null;
  }
  $pop(key, ...otherwise) {
    const at = $key(key), found = this.m.get(at);
    if (found === undefined) { if (otherwise.length) return otherwise[0]; throw new $KeyError(key); }
    this.m.delete(at); if (this.k !== null) this.k.delete(at);
    return found;
  }
  $clear() { this.m.clear(); this.k = null; return null; }
  $copy() { return $merged(this); }
}
function $merged(...parts) {
  const made = new $Dict();
  for (const part of parts) {
    if (part instanceof $Dict && part.k === null && made.k === null) { for (const [key, value] of part.m) made.m.set(key, value); }
    else for (const [key, value] of $pairs(part)) made.put(key, value);
  }
  return made;
}
class $Set {
  constructor() { this.m = new Map(); }
  get size() { return this.m.size; }
  has(key) { return this.m.has($key(key)); }
  [Symbol.iterator]() { return this.m.values(); }
  $add(value) { const at = $key(value); if (!this.m.has(at)) this.m.set(at, value); return null; }
  $discard(value) { this.m.delete($key(value)); return null; }
  $remove(value) { this.m.delete($key(value)); return null; }
  $update(...others) { for (const other of others) for (const one of other) this.$add(one); return null; }
  $union(...others) { const made = $set(this); made.$update(...others); return made; }
  $issuperset(other) { for (const one of other) if (!this.has(one)) return false; return true; }
  $issubset(other) { return $set(other).$issuperset(this); }
  $intersection(other) { const held = $set(other); return $set([...this].filter((one) => held.has(one))); }
  $difference(other) { const held = $set(other); return $set([...this].filter((one) => !held.has(one))); }
  $copy() { return $set(this); }
}
function $pairs(value) { return value instanceof $Dict ? value.$items() : [...value]; }
function $dict(...given) {
  const [args, words] = $parted(given), made = new $Dict();
  if (args.length) for (const [key, value] of $pairs(args[0])) made.put(key, value);
  for (const name in words) made.put(name, words[name]);
  return made;
}
function $set(values = []) { const made = new $Set(); for (const one of values) made.$add(one); return made; }
const $frozenset = $set;
function $fromkeys(keys, value = null) { return $dict([...keys].map((key) => [key, value])); }
$dict.$fromkeys = $fromkeys;

// --- operators
function $true(value) {
  switch (typeof value) {
    case "boolean": return value;
    case "number": return value !== 0;
    case "string": return value !== "";
    case "function": return true;
  }
  if (value === null || value === undefined) return false;
  if (Array.isArray(value)) return value.length > 0;
  if (value instanceof $Dict || value instanceof $Set) return value.size > 0;
  return value.__bool__ ? value.__bool__() : value.__len__ ? value.__len__() > 0 : true;
}
function $equal(a, b) {
  if (a === b) return true;
  const first = typeof a, second = typeof b;
  if (first === "boolean" && second === "number" || first === "number" && second === "boolean") return +a === +b;
  if (first !== "object" || second !== "object" || a === null || b === null) return false;
  if ($isTuple(a) && $isTuple(b)) {
    const left = $list_of(a), right = $list_of(b);
    if (left.length !== right.length) return false;
    for (let i = 0; i < left.length; i++) if (!$equal(left[i], right[i])) return false;
    return true;
  }
  if (a instanceof $Dict && b instanceof $Dict) return a.size === b.size && a.$items().every(([key, value]) => b.has(key) && $equal(value, b.item(key)));
  if (a instanceof $Set && b instanceof $Set) return a.size === b.size && a.$issuperset(b);
  return a.__eq__ ? a.__eq__(b) : false;
}
function $isTuple(value) { return Array.isArray(value) || value instanceof $Tuple; }
function $in(value, container) {
  if (typeof container === "string") return container.includes(value);
  if (container instanceof $Dict || container instanceof $Set) return container.has(value);
  if (Array.isArray(container)) {
    if (container.includes(value)) return true;
    if (typeof value === "string") return false;
  }
  for (const one of container) if ($equal(one, value)) return true;
  return false;
}
function $add(a, b) {
  if (typeof a === "number" && typeof b === "number") return a + b;
  if (typeof a === "string" && typeof b === "string") return a + b;
  if ($isTuple(a) && $isTuple(b)) return [...a, ...b];
  return $numbers(a, b, a + b);
}
function $sub(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  if (a instanceof $Set) return a.$difference(b);
  return $numbers(a, b, a - b);
}
function $mul(a, b) {
  if (typeof a === "number" && typeof b === "number") return a * b;
  if (Array.isArray(a)) return $repeated(a, b);
  if (Array.isArray(b)) return $repeated(b, a);
  if (typeof a === "string") return a.repeat(Math.max(0, b));
  return $numbers(a, b, a * b);
}
function $repeated(values, times) { const made = []; for (let i = 0; i < times; i++) made.push(...values); return made; }
function $numbers(a, b, found) {
  for (const one of [a, b]) if (typeof one !== "number" && typeof one !== "boolean") throw new $TypeError(`arithmetic with ${$repr(one)}`);
  return found;
}
function $extended(a, b) {
  if (Array.isArray(a)) { a.push(...b); return a; }
  return $add(a, b);
}
function $mod(a, b) {
  if (b === 0) throw new $ZeroDivisionError("modulo by zero");
  const rest = a % b;
  return rest !== 0 && (rest < 0) !== (b < 0) ? rest + b : rest;
}
function $floordiv(a, b) {
  if (b === 0) throw new $ZeroDivisionError("division by zero");
  if (!Number.isFinite(a)) return a / b;
  const rest = a % b, whole = Math.round((a - rest) / b);
  return rest !== 0 && (rest < 0) !== (b < 0) ? whole - 1 : whole;
}
function $divmod(a, b) { return [$floordiv(a, b), $mod(a, b)]; }
function $or(a, b) {
  if (a instanceof $Dict) { const made = $dict(a); made.$update(b); return made; }
  if (a instanceof $Set) return a.$union(b);
  return typeof a === "boolean" && typeof b === "boolean" ? a || b : a | b;
}
function $and(a, b) {
  if (a instanceof $Set) return a.$intersection(b);
  return typeof a === "boolean" && typeof b === "boolean" ? a && b : a & b;
}
function $lshift(a, b) { return a * 2 ** b; }
function $rshift(a, b) { return Math.floor(a / 2 ** b); }
function $item(value, at) {
  if (value instanceof $Dict) return value.item(at);
  const list = typeof value === "string" ? value : $list_of(value);
  const found = list[at < 0 ? list.length + at : at];
  if (found === undefined) throw new $KeyError(at);
  return found;
}
function $slice(value, from, to, step) {
  const list = typeof value === "string" ? value : $list_of(value);
  if (step === null || step === 1) return list.slice(from ?? 0, to ?? undefined);
  if (step === -1 && from === null && to === null) return [...list].reverse();
  throw new $TypeError("a slice with a step");
}
function $put(container, key, value) {
  if (container instanceof $Dict) container.put(key, value);
  else container[key < 0 ? container.length + key : key] = value;
}
function $delete(container, key) { if (container instanceof $Dict) container.$pop(key); else container.splice(key, 1); }
function $value(one) { return typeof one === "string" ? one : one.value; }
function $name(one) { return typeof one === "string" ? one.toUpperCase() : one.name; }

// --- types
function $type(value) {
  switch (typeof value) {
    case "number": return Number.isInteger(value) ? $int : $float;
    case "boolean": return $bool;
    case "string": return $str;
  }
  if (value === null) return $None;
  if (Array.isArray(value)) return $tuple;
  if (value instanceof $Dict) return $dict;
  if (value instanceof $Set) return $set;
  return value.constructor;
}
// A double without a fraction counts as an integer, and every number as a float: no result of the model depends on it.
function $isinstance(value, ...kinds) {
  for (const kind of kinds) {
    switch (kind) {
      case $int: if (typeof value === "boolean" || typeof value === "number" && Number.isInteger(value)) return true; break;
      case $float: if (typeof value === "number") return true; break;
      case $bool: if (typeof value === "boolean") return true; break;
      case $str: if (typeof value === "string") return true; break;
      case $tuple: if ($isTuple(value)) return true; break;
      case $list: if (Array.isArray(value)) return true; break;
      case $dict: if (value instanceof $Dict) return true; break;
      case $set: if (value instanceof $Set) return true; break;
      case $object_: return true;
      default: if (value instanceof kind) return true;
    }
  }
  return false;
}
function $hasattr(value, name) { return value !== null && value !== undefined && (name in Object(value) || "$" + name in Object(value)); }
function $getattr(value, name, ...otherwise) {
  const found = value[name];
  if (found === undefined) { if (otherwise.length) return otherwise[0]; throw new $TypeError(`no attribute ${name}`); }
  return typeof found === "function" && !(found instanceof $Callable) ? found.bind(value) : found;
}

// --- builtin functions
function $len(value) { return typeof value === "string" ? [...value].length : value instanceof $Tuple ? value._fields.length : value.length ?? value.size; }
function $iter(value) { return value[Symbol.iterator](); }
function $next(iterator, ...otherwise) {
  if (!iterator.next) iterator = $iter(iterator);
  const { value, done } = iterator.next();
  if (!done) return value;
  if (otherwise.length) return otherwise[0];
  throw new $StopIteration();
}
function $tuple(values = []) { return [...values]; }
const $list = (values = []) => [...values];
function $any(values) { for (const one of values) if ($true(one)) return true; return false; }
function $all(values) { for (const one of values) if (!$true(one)) return false; return true; }
function $sum(values, start = 0) { let found = start; for (const one of values) found = typeof one === "number" ? found + one : $add(found, one); return found; }
function $abs(value) { return Math.abs(value); }
function $round(value, digits = null) {
  if (digits) { const scale = 10 ** digits; return $round(value * scale) / scale; }
  const low = Math.floor(value), rest = value - low;
  return rest < 0.5 ? low : rest > 0.5 ? low + 1 : low % 2 === 0 ? low : low + 1;
}
function $range(from, to = null, step = 1) {
  if (to === null) [from, to] = [0, from];
  const made = [];
  for (let i = from; step > 0 ? i < to : i > to; i += step) made.push(i);
  return made;
}
function $zip(...lists) {
  const rows = lists.map($list_of);
  if (!rows.length) return [];
  const length = Math.min(...rows.map((one) => one.length)), made = [];
  for (let i = 0; i < length; i++) made.push(rows.map((one) => one[i]));
  return made;
}
function $zip_longest(...lists) {
  const rows = lists.map($list_of), length = Math.max(...rows.map((one) => one.length));
  return Array.from({ length }, (_, i) => rows.map((one) => (i < one.length ? one[i] : null)));
}
function $enumerate(values, start = 0) { const made = []; for (const one of values) made.push([start++, one]); return made; }
function $map(f, ...lists) {
  if (lists.length === 1) { const made = []; for (const one of lists[0]) made.push(f(one)); return made; }
  return $zip(...lists).map((row) => f(...row));
}
function $filter(f, values) { return [...values].filter((one) => $true(f === null ? one : f(one))); }
function $reversed(values) { return [...values].reverse(); }
function $less(a, b) {
  if ($isTuple(a) && $isTuple(b)) {
    const left = [...a], right = [...b];
    for (let i = 0; i < Math.min(left.length, right.length); i++) if (!$equal(left[i], right[i])) return $less(left[i], right[i]);
    return left.length < right.length;
  }
  return a < b;
}
function $sorted(values, words = {}) {
  const key = words.key || ((one) => one), sign = words.reverse ? -1 : 1;
  const keyed = [...values].map((one) => [key(one), one]);
  keyed.sort(([a], [b]) => ($less(a, b) ? -sign : $less(b, a) ? sign : 0));
  return keyed.map(([, one]) => one);
}
function $extreme(given, better) {
  const [args, words] = $parted(given), values = args.length === 1 ? [...args[0]] : args;
  if (!values.length) { if ("default" in words) return words.default; throw new $ValueError("an empty sequence"); }
  const key = words.key;
  let found = values[0], least = key ? key(found) : found;
  for (let i = 1; i < values.length; i++) {
    const own = key ? key(values[i]) : values[i];
    if (better(own, least)) [found, least] = [values[i], own];
  }
  return found;
}
function $max(...given) {
  if (given.length === 2 && typeof given[0] === "number" && typeof given[1] === "number") return given[1] > given[0] ? given[1] : given[0];
  return $extreme(given, (a, b) => $less(b, a));
}
function $min(...given) {
  if (given.length === 2 && typeof given[0] === "number" && typeof given[1] === "number") return given[1] < given[0] ? given[1] : given[0];
  return $extreme(given, $less);
}
function $gcd(a, b) { while (b) [a, b] = [b, $mod(a, b)]; return Math.abs(a); }
// The logarithm of the gamma function by Stirling's series, for positive numbers; below 8 by its recurrence.
function $lgamma(x) {
  let shift = 0;
  while (x < 8) { shift += Math.log(x); x += 1; }
  const s = 1 / (x * x);
  const series = (1 / 12 - s * (1 / 360 - s * (1 / 1260 - s * (1 / 1680 - s * (1 / 1188 - s * 691 / 360360))))) / x;
  return (x - 0.5) * Math.log(x) - x + 0.9189385332046727 + series - shift;
}
const $math = {
  lgamma: $lgamma, ceil: Math.ceil, floor: Math.floor, sqrt: Math.sqrt, log: Math.log, log2: Math.log2, log10: Math.log10, exp: Math.exp, expm1: Math.expm1,
  log1p: Math.log1p, gcd: $gcd, isfinite: Number.isFinite, prod: (values) => { let found = 1; for (const one of values) found *= one; return found; },
};
function $groupby(values, words = {}) {
  const key = words.key || ((one) => one), made = [];
  for (const one of values) {
    const own = key(one), last = made[made.length - 1];
    if (last && $equal(last[0], own)) last[1].push(one); else made.push([own, [one]]);
  }
  return made;
}
function $islice(iterator, from, to = null) {
  if (to !== null || !iterator.next) return [...iterator].slice(to === null ? 0 : from, to === null ? from : to);
  const made = [];
  for (let i = 0; i < from; i++) { const { value, done } = iterator.next(); if (done) break; made.push(value); }
  return made;
}
function $chained(lists) { const made = []; for (const one of lists) made.push(...one); return made; }
function $chain(...lists) { return $chained(lists); }
function $pairwise(values) { const list = [...values]; return list.slice(1).map((one, at) => [list[at], one]); }
function $accumulate(values) { let sum = 0; return [...values].map((one) => (sum += one)); }
function $repeat(value, times) { return Array(times).fill(value); }
function $remembered(f) {
  const known = new Map();
  return (...args) => {
    const key = args.length === 1 ? $key(args[0]) : $keyOf(args);
    if (!known.has(key)) { if (known.size > 8192) known.clear(); known.set(key, f(...args)); }
    return known.get(key);
  };
}

// --- text
function $str(value = "") {
  if (typeof value === "string") return value;
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (value instanceof $Exception) return value.message;
  return typeof value === "number" ? $number(value) : $repr(value);
}
function $number(value) {
  if (Number.isInteger(value)) return Number.isSafeInteger(value) ? String(value) : BigInt(value).toString();
  const size = Math.abs(value);
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "nan" : value > 0 ? "inf" : "-inf";
  return size >= 1e-4 && size < 1e16 ? String(value) : value.toExponential().replace(/e([+-])(\d)$/, "e$10$2");
}
function $repr(value) {
  if (typeof value === "string") return `'${value}'`;
  if ($isTuple(value)) return `(${[...value].map($repr).join(", ")})`;
  return typeof value === "object" && value !== null && !(value instanceof $Exception) ? "<object>" : $str(value);
}
function $substituted(pattern, by, text) { return text.replace(new RegExp(pattern, "g"), by); }
function $grouped(text) {
  if (text.includes("e")) return text;
  const dot = text.indexOf("."), from = text[0] === "-" ? 1 : 0, end = dot < 0 ? text.length : dot;
  let made = text.slice(end), at = end;
  for (; at - 3 > from; at -= 3) made = "," + text.slice(at - 3, at) + made;
  return text.slice(0, at) + made;
}
// JavaScript rounds an exact half up, Python to the even digit. The longer text shows whether it is one.
function $even(rounded, exact, length) {
  if (!/^50*$/.test(exact.slice(length).replace(".", ""))) return rounded;
  const cut = exact.slice(0, length);
  return "02468".includes(cut.replace(".", "").slice(-1)) ? cut.replace(/\.$/, "") : rounded;
}
function $isHalf(twice) { const whole = Math.round(twice); return whole % 2 !== 0 && Math.abs(twice - whole) < 1e-9 * whole; }
function $exponent(value, digits) {
  let [mantissa, power] = value.toExponential(digits).split("e");
  const size = Math.abs(value);
  if ($isHalf((size / 10 ** Math.floor(Math.log10(size))) * 10 ** digits * 2)) {
    const [exact, same] = value.toExponential(Math.min(100, digits + 40)).split("e");
    if (power === same) mantissa = $even(mantissa, exact, (value < 0 ? 1 : 0) + 1 + (digits ? 1 + digits : 0));
  }
  return `${mantissa}e${power[0]}${power.slice(1).padStart(2, "0")}`;
}
function $fixed(value, digits) {
  if (Math.abs(value) >= 1e21) return BigInt(value).toString() + (digits ? "." + "0".repeat(digits) : "");
  const rounded = value.toFixed(digits);
  if (!$isHalf(Math.abs(value) * 10 ** digits * 2)) return rounded;
  const exact = value.toFixed(100);
  return $even(rounded, exact, exact.indexOf(".") + (digits ? 1 + digits : 0));
}
function $general(value, digits) {
  if (value === 0) return "0";
  const exponent = parseInt(value.toExponential(digits - 1).split("e")[1]);
  const trim = (text) => (text.includes(".") ? text.replace(/\.?0+$/, "") : text);
  if (exponent < -4 || exponent >= digits) { const [mantissa, power] = $exponent(value, digits - 1).split("e"); return `${trim(mantissa)}e${power}`; }
  return trim($fixed(value, digits - 1 - exponent));
}
function $format(value, spec) {
  if (spec === "") return $str(value);
  const match = /^([<>^]?)(\d*)(,?)(?:\.(\d+))?([a-z%]?)$/.exec(spec);
  if (!match) throw new $ValueError(`format ${spec}`);
  const [, side, width, comma, places, kind] = match, digits = places === undefined ? 6 : parseInt(places);
  let text;
  if (kind === "e") text = $exponent(value, digits);
  else if (kind === "f") text = $fixed(value, digits);
  else if (kind === "%") text = $fixed(100 * value, digits) + "%";
  else if (kind === "g") text = $general(value, digits || 1);
  else if (comma && typeof value === "number") text = $number(value);
  else text = $str(value);
  if (comma) text = $grouped(text);
  if (width) text = side === "<" ? text.padEnd(width) : text.padStart(width);
  return text;
}
function $own(prototype, methods) {
  for (const name in methods) Object.defineProperty(prototype, "$" + name, { value: methods[name], writable: true });
}
$own(String.prototype, {
  startswith(start) { return Array.isArray(start) ? start.some((one) => this.startsWith(one)) : this.startsWith(start); },
  endswith(end) { return Array.isArray(end) ? end.some((one) => this.endsWith(one)) : this.endsWith(end); },
  partition(sign) { const at = this.indexOf(sign); return at < 0 ? [String(this), "", ""] : [this.slice(0, at), sign, this.slice(at + sign.length)]; },
  rpartition(sign) { const at = this.lastIndexOf(sign); return at < 0 ? ["", "", String(this)] : [this.slice(0, at), sign, this.slice(at + sign.length)]; },
  split(sign = null) { return sign === null ? this.trim().split(/\s+/).filter(Boolean) : this.split(sign); },
  join(values) { return [...values].join(this); },
  strip() { return this.trim(); },
  rstrip(signs = null) { if (signs === null) return this.trimEnd(); let end = this.length; while (end && signs.includes(this[end - 1])) end--; return this.slice(0, end); },
  lstrip(signs = null) { if (signs === null) return this.trimStart(); let at = 0; while (at < this.length && signs.includes(this[at])) at++; return this.slice(at); },
  removesuffix(end) { return end && this.endsWith(end) ? this.slice(0, -end.length) : String(this); },
  removeprefix(start) { return this.startsWith(start) ? this.slice(start.length) : String(this); },
  lower() { return this.toLowerCase(); },
  upper() { return this.toUpperCase(); },
  casefold() { return this.toLowerCase(); },
  capitalize() { return this.slice(0, 1).toUpperCase() + this.slice(1).toLowerCase(); },
  replace(from, to) { return this.replaceAll(from, to); },
  isdigit() { return /^\d+$/.test(this); },
  isdecimal() { return /^\d+$/.test(this); },
  isalpha() { return /^\p{L}+$/u.test(this); },
  isprintable() { return !/[\u0000-\u001f\u007f-\u009f]/.test(this); },
  count(part) { return this.split(part).length - 1; },
});
$own(Array.prototype, {
  append(value) { this.push(value); return null; },
  extend(values) { for (const one of values) this.push(one); return null; },
  insert(at, value) { this.splice(at, 0, value); return null; },
  pop(at = -1) { return this.splice(at, 1)[0]; },
  index(value) { const same = this.indexOf(value); if (same >= 0) return same; const at = this.findIndex((one) => $equal(one, value)); if (at < 0) throw new $ValueError("no such element"); return at; },
  count(value) { return this.filter((one) => $equal(one, value)).length; },
  clear() { this.length = 0; return null; },
  copy() { return [...this]; },
  sort(...given) { const [, words] = $parted(given); const made = $sorted(this, words); for (let i = 0; i < made.length; i++) this[i] = made[i]; return null; },
});
$own(Number.prototype, {
  bit_length() {
    let rest = Math.abs(this), bits = 0;
    for (; rest >= 2 ** 31; bits += 31) rest = Math.floor(rest / 2 ** 31);
    return bits + 32 - Math.clz32(rest);
  },
  is_integer() { return Number.isInteger(+this); },
});

// --- syntax trees of size expressions
const $ast = new Proxy({}, { get(kinds, name) { return (kinds[name] ||= { [name]: class {} }[name]); } });
function $node(name, fields) { return Object.assign(new $ast[name](), fields); }
function* $walk(node) {
  yield node;
  for (const value of Object.values(node)) {
    for (const one of Array.isArray(value) ? value : [value]) if (typeof one === "object" && one !== null) yield* $walk(one);
  }
}
function $nothing() { return null; }
function $parsed(text, where) {
  const tree = $trees.$get(text);
  if (tree) return tree;
  if (/^\d+$/.test(text)) return $node("Constant", { value: parseInt(text) });
  throw new $RuntimeError(`${where}: the page does not know the expression ${text}`);
}
function $held(table, key, what) {
  const wanted = $key(key);
  for (const [one, value] of table) if ($key(one) === wanted) return value;
  throw new $RuntimeError(`the page does not hold ${what}`);
}
function $card(gpu, knowledge = null) { return $held($cards, [gpu, knowledge], "this card"); }
function $system(gpu) { return $held($systems, gpu, "the system of this card"); }
function $links(level, gpu) { return $held($linksOf, [level, gpu], "these links"); }
function $link(name) { return $linkOf.item(name); }
function $operation(name) { return $operations.item(name); }
function $family(name) { return $families.item(name); }
function $label(path) { return path.split("/").slice(-2).join("/"); }
