// The controls of the active state.
class Controls {
  constructor(form, onChange) {
    this.form = form;
    this.change = onChange;
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", (event) => this.onInput(event.target));
    form.addEventListener("change", (event) => { if (event.target.tagName === "SELECT" || event.target.type === "checkbox" || event.target.type === "radio") this.onInput(event.target, true); });
  }
  // Builds the form anew where model, phase or form of the page changed; sets values otherwise.
  show(states, active) {
    const state = states[active], key = JSON.stringify([states.length, active, state.model, state.phase, state.gpu]);
    this.state = state;
    if (key !== this.key) { this.key = key; this.build(states, active); }
    this.fill();
  }
  build(states, active) {
    const { state } = this, workload = workloads.get(state.model), options = (values, chosen, names = values) => values.map((one, at) => `<option value="${text(one)}"${one === chosen ? " selected" : ""}>${text(names[at])}</option>`).join("");
    this.sizes = perfmodel.controls(workload, state.phase);
    const kept = document.activeElement?.name, open = [...this.form.querySelectorAll("details")].map((one) => one.open);
    const slider = (one) => `<div class="size"><label for="n-${one.symbol}"><b>${one.symbol}</b> ${text(one.meaning)}</label>
      <input type="range" name="slide-${one.symbol}" min="0" max="${one.steps.length - 1}" step="1" aria-label="${one.symbol}: ${text(one.meaning)}">
      <input type="number" name="size-${one.symbol}" id="n-${one.symbol}" min="1" step="1" inputmode="numeric"></div>`;
    const experts = this.sizes.some((one) => one.symbol === "E"), known = forms(state);
    const degree = (name, label) => `<label class="field">${label}<select name="plan-${name}">${options(PLAN[name], null)}</select></label>`;
    this.form.innerHTML = `<div class="tabs" role="group" aria-label="State that the controls change"${states.length < 2 ? " hidden" : ""}>
        ${["A", "B"].map((one, at) => `<button type="button" data-tab="${at}" aria-pressed="${at === active}">State ${one}</button>`).join("")}</div>
      <fieldset><legend>Model and card</legend>
        <label class="field">Model<select name="model">${options([...workloads.keys()], state.model)}</select></label>
        <label class="field">Card<select name="gpu">${options([...gpus.keys()], state.gpu, [...gpus.values()].map((one) => one.title))}</select></label>
        <div class="choice" role="radiogroup" aria-label="Phase">${[...workload.phases].map((one) => `<label><input type="radio" name="phase" value="${one}"><span>${one}</span></label>`).join("")}</div>
        ${known.length > 1 ? `<label class="field">Form of the decoding step<select name="form">${options(known, state.form || known[0])}</select></label>` : ""}
        <label class="check"><input type="checkbox" name="fused"> fused</label><label class="check"><input type="checkbox" name="causal"> causal</label></fieldset>
      <fieldset><legend>Batch and tokens</legend>${this.sizes.filter((one) => one.asked).map(slider).join("")}</fieldset>
      <fieldset><legend>Data types</legend><div class="pairs">${ROLES.map((role) => `<label class="field">${role}s<select name="dtype-${role}">${options(DTYPES, null)}</select></label>`).join("").replace("caches", "cache")}</div></fieldset>
      <details${open[0] ? " open" : ""}><summary>Sizes of the model</summary>${this.sizes.filter((one) => !one.asked).map(slider).join("")}</details>
      <details${open[1] ? " open" : ""}><summary>Many GPUs</summary><div class="pairs two">${degree("tp", "tensor parallel")}${degree("pp", "pipeline stages")}${degree("dp", "replicas")}${experts ? degree("ep", "expert parallel") : ""}<label class="field">ZeRO stage<select name="plan-zero">${options(state.phase === "train" ? [0, 1, 2, 3] : [0, 3], null)}</select></label></div></details>
      ${gpus.size > 1 ? `<details${open[2] ? " open" : ""}><summary>Other cards on the roofline</summary>${[...gpus.values()].filter((one) => one.name !== state.gpu).map((one) => `<label class="check"><input type="checkbox" name="also-${one.name}"> ${text(one.title)}</label>`).join("")}</details>` : ""}
      <button type="button" data-reset>Reset</button>`;
    for (const one of this.form.querySelectorAll("[data-tab]")) one.addEventListener("click", () => this.change({ active: +one.dataset.tab }));
    this.form.querySelector("[data-reset]").addEventListener("click", () => {
      Object.assign(this.state, first(), { model: this.state.model, gpu: this.state.gpu, phase: this.state.phase });
      this.change({});
    });
    if (kept) this.form.elements[kept]?.focus?.();
  }
  fill() {
    const { state } = this, field = this.form.elements, set = (name, value) => { if (field[name] && field[name] !== document.activeElement && field[name].value !== String(value)) field[name].value = value; };
    for (const one of this.sizes) {
      const value = state.sizes[one.symbol] ?? one.value;
      set(`size-${one.symbol}`, value);
      const at = nearest(one.steps, value), slide = field[`slide-${one.symbol}`];
      if (+slide.value !== at) slide.value = at;
      slide.setAttribute("aria-valuetext", value.toLocaleString("en-US"));
    }
    for (const role of ROLES) set(`dtype-${role}`, dtypeOf(state, role));
    for (const name of Object.keys(PLAN)) set(`plan-${name}`, state.plan[name] ?? (name === "zero" ? 0 : 1));
    set("model", state.model); set("gpu", state.gpu);
    if (field.form) set("form", state.form || forms(state)[0]);
    for (const one of this.form.querySelectorAll('[name="phase"]')) one.checked = one.value === state.phase;
    field.fused.checked = isFused(state); field.causal.checked = isCausal(state);
    for (const one of gpus.keys()) if (field[`also-${one}`]) field[`also-${one}`].checked = state.also.includes(one);
  }
  onInput(input, settled = false) {
    const { state } = this, [kind, ...rest] = input.name.split("-"), name = rest.join("-");
    if (kind === "slide") state.sizes[name] = this.sizes.find((one) => one.symbol === name).steps[+input.value];
    else if (kind === "size") {
      if (!/^[1-9]\d*$/.test(input.value)) return;
      state.sizes[name] = Number(input.value);
    } else if (!settled) return;
    else if (kind === "dtype") state.dtypes[name] = input.value;
    else if (kind === "plan") state.plan[name] = Number(input.value);
    else if (kind === "also") state.also = [...gpus.keys()].filter((one) => this.form.elements[`also-${one}`]?.checked);
    else if (kind === "fused" || kind === "causal") state[kind] = input.checked;
    else if (kind === "phase" || kind === "form" || kind === "gpu" || kind === "model") {
      state[kind] = input.value;
      if (kind === "gpu") state.also = state.also.filter((one) => one !== state.gpu);
      if (kind === "model") Object.assign(state, { sizes: {}, dtypes: {}, form: "", fused: null, causal: null, step: "", phase: [...workloads.get(state.model).phases].includes(state.phase) ? state.phase : workloads.get(state.model).default_phase });
      if (kind === "phase") { state.form = ""; state.step = ""; const kept = new Set(perfmodel.controls(workloads.get(state.model), state.phase).map((one) => one.symbol)); for (const one of Object.keys(state.sizes)) if (!kept.has(one)) delete state.sizes[one]; if (state.phase !== "train" && (state.plan.zero === 1 || state.plan.zero === 2)) delete state.plan.zero; }
    }
    this.change({ moving: kind === "slide" });
  }
}
function nearest(steps, value) {
  let found = 0;
  steps.forEach((one, at) => { if (Math.abs(Math.log(one / value)) < Math.abs(Math.log(steps[found] / value))) found = at; });
  return found;
}
