// Formulas: rendered as MathML, with symbols or with numbers in their places.
const LETTERS = { weight: ["b", "w"], act: ["b", "a"], cache: ["b", "c"], params: ["P", ""] };
const math = (name, inner) => `<${name}>${inner}</${name}>`;
function symbolOf(name) {
  const [base, below] = LETTERS[name] ?? name.split("_");
  const letter = math("mi", base);
  return below ? `<msub>${letter}${math("mi", below)}</msub>` : letter;
}
function numberOf(value) { return math("mn", Number.isInteger(value) ? value.toLocaleString("en-US") : String(value)); }

// A tree as MathML. `values` are numbers by symbol; without them the symbols stay. `inside`: in a product or a power.
function drawnTree(tree, values = null, inside = false) {
  if (typeof tree === "number") return numberOf(tree);
  if (typeof tree === "string") return values === null || values[tree] === undefined ? symbolOf(tree) : numberOf(values[tree]);
  const [sign, ...operands] = tree;
  const of = (one, deep = true) => drawnTree(one, values, deep);
  const fenced = (text) => (inside ? `<mrow><mo>(</mo>${text}<mo>)</mo></mrow>` : `<mrow>${text}</mrow>`);
  if (sign === "+") {
    const terms = operands.map((one, at) => (one[0] === "-" ? `<mo>−</mo>${of(one[1])}` : `${at ? "<mo>+</mo>" : ""}${of(one, false)}`));
    return fenced(terms.join(""));
  }
  if (sign === "*") return `<mrow>${operands.map((one) => of(one)).join(values === null ? "<mo>&#x2062;</mo>" : "<mo>×</mo>")}</mrow>`;
  if (sign === "-") return fenced(`<mo>−</mo>${of(operands[0])}`);
  if (sign === "/") return `<mfrac>${of(operands[0], false)}${of(operands[1], false)}</mfrac>`;
  if (sign === "^") return operands[1]?.[0] === "/" && operands[1][1] === 1 && operands[1][2] === 2 ? `<msqrt>${of(operands[0], false)}</msqrt>` : `<msup>${of(operands[0])}${of(operands[1], false)}</msup>`;
  if (sign === "ceil" || sign === "floor") {
    const [open, close] = sign === "ceil" ? "⌈⌉" : "⌊⌋";
    return `<mrow><mo>${open}</mo>${of(operands[0], false)}<mo>${close}</mo></mrow>`;
  }
  return `<mrow><mi>${sign}</mi><mo>(</mo>${operands.map((one) => of(one, false)).join("<mo>,</mo>")}<mo>)</mo></mrow>`;
}
function formulaOf(tree, values = null) { return `<math>${drawnTree(tree, values)}</math>`; }

function rounded(tree, values, up) {
  const [above, below] = tree[0] === "/" ? tree.slice(1).map((one) => exactValue(one, values)) : [exactValue(tree, values), 1n];
  if (above === null || below === null) return null;
  const rest = ((above % below) + below) % below, low = (above - rest) / below;
  return up && rest ? low + 1n : low;
}

// The exact value of a tree of whole numbers; null where a fraction is left.
function exactValue(tree, values) {
  const whole = (one) => (Number.isInteger(one) ? BigInt(one) : null);
  if (typeof tree === "number") return whole(tree);
  if (typeof tree === "string") return whole(values[tree]);
  const [sign, ...operands] = tree;
  if (sign === "ceil" || sign === "floor") return rounded(operands[0], values, sign === "ceil");
  const found = operands.map((one) => exactValue(one, values));
  if (sign === "/" || found.includes(null)) {
    if (sign !== "/" || found.includes(null) || found[0] % found[1]) return null;
    return found[0] / found[1];
  }
  if (sign === "+") return found.reduce((a, b) => a + b, 0n);
  if (sign === "*") return found.reduce((a, b) => a * b, 1n);
  if (sign === "-") return -found[0];
  if (sign === "^") return found[1] >= 0n && found[1] < 64n ? found[0] ** found[1] : null;
  if (sign === "max") return found.reduce((a, b) => (b > a ? b : a));
  if (sign === "min") return found.reduce((a, b) => (b < a ? b : a));
  return null;
}
