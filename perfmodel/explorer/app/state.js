"use strict";
// The state of the controls: as an object, as arguments of the model, as the address of the page, and as a command.
const workloads = new Map(perfmodel.workloads.map((one) => [one.name, one]));
const gpus = new Map(perfmodel.gpus.map((one) => [one.name, one]));
const DTYPES = [...perfmodel.item_bytes];
const ROLES = ["weight", "activation", "cache"];
const PLAN = { tp: [1, 2, 4, 8, 16, 32, 64], pp: [1, 2, 4, 8, 16], dp: [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024], ep: [1, 2, 4, 8, 16, 32, 64], zero: [0, 1, 2, 3] };

function first() {
  const [model] = workloads.keys(), [gpu] = gpus.keys();
  return { model, gpu, phase: workloads.get(model).default_phase, sizes: {}, dtypes: {}, fused: null, causal: null, form: "", plan: {}, also: [], step: "" };
}
function copied(state) { return { ...state, sizes: { ...state.sizes }, dtypes: { ...state.dtypes }, plan: { ...state.plan }, also: [...state.also] }; }
function isFused(state) { return state.fused ?? workloads.get(state.model).fused; }
function isCausal(state) { return state.causal ?? workloads.get(state.model).causal; }
function forms(state) { return state.phase === "decode" ? [...workloads.get(state.model).decode] : []; }
function dtypeOf(state, role) { return state.dtypes[role] ?? workloads.get(state.model).dtypes.item(role); }
function planOf(state) { return Object.fromEntries(Object.entries(state.plan).filter(([name, value]) => value !== (name === "zero" ? 0 : 1))); }

function asked(state, gpu = state.gpu) {
  const dict = (object) => perfmodel.dict(Object.entries(object));
  return new perfmodel.State(
    workloads.get(state.model), gpus.get(gpu), state.phase, dict(state.sizes), dict(state.dtypes), isFused(state), isCausal(state),
    dict(planOf(state)), state.form || null,
  );
}

// --- the address
function written(state) {
  const own = new URLSearchParams({ model: state.model, gpu: state.gpu, phase: state.phase });
  for (const [symbol, value] of Object.entries(state.sizes)) own.set(symbol, value);
  for (const [role, dtype] of Object.entries(state.dtypes)) own.set(role, dtype);
  if (state.fused !== null) own.set("fused", +state.fused);
  if (state.causal !== null) own.set("causal", +state.causal);
  if (state.form) own.set("form", state.form);
  for (const [name, value] of Object.entries(planOf(state))) own.set(`plan.${name}`, value);
  if (state.also.length) own.set("also", state.also.join(","));
  if (state.step) own.set("step", state.step);
  return own.toString();
}
function read(text) {
  const own = new URLSearchParams(text), state = first();
  if (workloads.has(own.get("model"))) state.model = own.get("model");
  if (gpus.has(own.get("gpu"))) state.gpu = own.get("gpu");
  const phases = [...workloads.get(state.model).phases];
  state.phase = phases.includes(own.get("phase")) ? own.get("phase") : phases[0];
  const symbols = new Set(perfmodel.controls(workloads.get(state.model), state.phase).map((one) => one.symbol));
  for (const [name, value] of own) {
    const number = Number(value);
    if (symbols.has(name) && Number.isInteger(number) && number > 0) state.sizes[name] = number;
    else if (ROLES.includes(name) && DTYPES.includes(value)) state.dtypes[name] = value;
    else if ((name === "fused" || name === "causal") && (value === "0" || value === "1")) state[name] = value === "1";
    else if (name === "form" && forms(state).includes(value)) state.form = value;
    else if (name.startsWith("plan.") && PLAN[name.slice(5)]?.includes(number)) state.plan[name.slice(5)] = number;
    else if (name === "also") state.also = value.split(",").filter((one) => gpus.has(one) && one !== state.gpu);
    else if (name === "step") state.step = value;
  }
  return state;
}

// --- the command that prints the same figures
function command(state) {
  const words = ["perfmodel flops", `--config ${state.model}`, `--gpu ${state.gpu}`, `--phase ${state.phase}`];
  const kinds = ROLES.map((role) => dtypeOf(state, role)), activation = dtypeOf(state, "activation");
  if (Object.keys(state.dtypes).length) {
    words.push(`--dtype ${activation}`);
    for (const [role, symbol] of [["weight", "weight"], ["cache", "cache"]]) {
      const item = perfmodel.item_bytes.item(dtypeOf(state, role));
      if (kinds.some((kind) => kind !== activation) && item !== perfmodel.item_bytes.item(activation)) words.push(`--set ${symbol}=${item}`);
    }
  }
  for (const [symbol, value] of Object.entries(state.sizes)) words.push(`--set ${symbol}=${value}`);
  if (state.fused !== null) words.push(state.fused ? "--fused" : "--unfused");
  if (state.causal) words.push("--causal");
  if (state.form) words.push(`--form ${state.form}`);
  const plan = Object.entries(planOf(state));
  for (const [name, value] of plan) words.push(`--${name} ${value}`);
  if (!plan.length) words.push("--steps");
  return words.join(" ");
}
