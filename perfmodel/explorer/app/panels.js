// The figures of one state: tiles, roofline, the chosen step, memory, the table, the command.
const dom = (html) => { const made = document.createElement("template"); made.innerHTML = html.trim(); return made.content.firstElementChild; };

class Column {
  constructor(onChoose) {
    this.root = dom(`<section class="card column" aria-live="off"><h2></h2><dl class="tiles"></dl>
      <div class="chart"></div><ul class="keys" aria-label="Colours: the bottleneck"></ul>
      <div class="details" role="region" aria-label="Chosen step" aria-live="polite"></div>
      <h3>Where the bottleneck changes</h3><p class="crossings"></p>
      <h3>Memory of one GPU</h3><div class="memory-bar"></div>
      <h3>Steps, each for one repeat</h3>
      <div class="scroll" tabindex="0" role="region" aria-label="Table of steps"><table><caption class="visually-hidden">Steps with counts, bottleneck, times and share</caption><thead></thead><tbody></tbody><tfoot></tfoot></table></div>
      <ul class="notes"></ul><h3>The same figures on the command line</h3>
      <div class="command"><code></code><button type="button" class="copy">Copy</button></div></section>`);
    this.part = (name) => this.root.querySelector(name);
    this.choose = onChoose;
    this.cells = null;
    this.part(".copy").addEventListener("click", (event) => copyText(this.part("code").textContent, event.target));
    this.part("tbody").addEventListener("click", (event) => { const row = event.target.closest("tr"); if (row) this.choose(this.view.names_full[+row.dataset.row]); });
    const chart = this.part(".chart");
    chart.addEventListener("click", (event) => this.onDot(event, (row) => this.choose(this.view.names_full[row])));
    chart.addEventListener("pointerover", (event) => this.onDot(event, (row, dot) => { this.hint(dot, row); this.details(row); }));
    chart.addEventListener("pointerout", (event) => this.onDot(event, () => { this.hint(null); this.details(this.chosen); }));
    chart.addEventListener("focusin", (event) => this.onDot(event, (row) => this.details(row)));
    chart.addEventListener("keydown", (event) => this.onKey(event));
  }
  onDot(event, act) { const dot = event.target.closest?.("[data-row]"); if (dot) act(+dot.dataset.row, dot); }
  onKey(event) {
    if (moveDot(this.root, event)) return;
    this.onDot(event, (row) => {
      if (event.key === "Enter" || event.key === " ") {
        this.choose(this.view.names_full[row]);
        this.root.querySelector(`.dot[data-row="${row}"]`)?.focus();
        event.preventDefault();
      } else if (event.key === "Escape") this.hint(null);
    });
  }

  show(view, limits) {
    this.view = view;
    const { state, shown } = view;
    this.chosen = Math.max(0, view.names_full.indexOf(state.step) >= 0 ? view.names_full.indexOf(state.step) : longest(shown));
    this.root.classList.remove("stale");
    this.part("h2").textContent = shown.table.title;
    this.part(".tiles").innerHTML = tiles(view);
    this.draw(limits);
    this.part(".keys").innerHTML = keys(shown);
    // Formulas take long to lay out: they follow when the slider rests.
    this.part(".details").classList.toggle("waiting", view.moving);
    if (!view.moving) this.details(this.chosen, false);
    this.part(".memory-bar").innerHTML = memory(shown, gpus.get(state.gpu));
    this.table(shown);
    this.part(".notes").innerHTML = notes(view).map((one) => `<li>${text(one)}</li>`).join("");
    this.part("code").textContent = command(state);
  }
  resized() { if (this.limits && Math.abs(this.width - this.part(".chart").clientWidth) >= 1) this.draw(); }
  draw(limits) {
    this.limits = limits ?? this.limits;
    const chart = this.part(".chart"), width = Math.max(280, Math.floor(chart.clientWidth || this.root.clientWidth - 34));
    const focused = chart.contains(document.activeElement) ? document.activeElement.dataset.row : null;
    this.width = width;
    chart.innerHTML = drawn(this.view, width, this.limits, this.chosen);
    if (focused !== null) chart.querySelector(`[data-row="${focused}"]`)?.focus({ preventScroll: true });
  }
  hint(dot, row) {
    this.part(".hint")?.remove();
    if (!dot) return;
    const chart = this.part(".chart"), box = chart.getBoundingClientRect(), own = dot.getBoundingClientRect(), point = this.view.cards[0].points[row];
    const made = dom(`<div class="hint" aria-hidden="true"><b>${text(point.name)}</b><br>${text(point.bound)}-bound, ${(100 * (point.share ?? 0)).toFixed(1)} % of the time<br>${perfmodel.brief(point.height, "FLOP/s", 3)} of ${perfmodel.brief(point.flop_per_s, "FLOP/s", 3)}</div>`);
    chart.append(made);
    made.style.left = `${Math.max(0, Math.min(own.right - box.left + 6, box.width - made.offsetWidth - 4))}px`;
    made.style.top = `${Math.max(0, own.top - box.top - made.offsetHeight - 4)}px`;
  }

  table(shown) {
    const { headings, lines, total } = shown.table, body = this.part("tbody");
    const share = headings.indexOf("share"), left = new Set([headings.indexOf("bottleneck")]);
    const key = `${headings}|${lines.length}`;
    if (key !== this.cells) {
      this.cells = key;
      const cell = (kind, at, value) => `<${kind}${left.has(at) ? ' class="words"' : at === share ? ' class="share"' : ""}>${text(value)}</${kind}>`;
      this.part("thead").innerHTML = `<tr>${headings.map((one, at) => `<th scope="col"${left.has(at) ? ' class="words"' : ""}>${text(one)}</th>`).join("")}</tr>`;
      body.innerHTML = lines.map((line, row) => `<tr data-row="${row}"><th scope="row"><button type="button"></button></th>${line.slice(1).map((one, at) => cell("td", at + 1, one)).join("")}</tr>`).join("");
      this.part("tfoot").innerHTML = `<tr>${total.map((one, at) => (at ? cell("td", at, one) : `<th scope="row">${text(one)}</th>`)).join("")}</tr>`;
    }
    [...body.rows].forEach((row, at) => {
      const button = row.cells[0].firstElementChild;
      if (button.textContent !== lines[at][0]) button.textContent = row.cells[0].title = lines[at][0];
      row.className = at === this.chosen ? "chosen" : "";
      for (let i = 1; i < headings.length; i++) if (row.cells[i].textContent !== lines[at][i]) row.cells[i].textContent = lines[at][i];
      if (share > 0) row.cells[share].style.backgroundSize = `${parseFloat(lines[at][share]) || 0}% 100%`;
    });
    [...this.part("tfoot").rows[0].cells].forEach((cell, at) => { if (cell.textContent !== total[at]) cell.textContent = total[at]; });
  }

  // --- the chosen step
  details(row, whole = true) {
    const { shown, state } = this.view, own = shown.analysis.rows[row];
    if (!own) return;
    const line = Object.fromEntries(shown.table.headings.map((heading, at) => [heading, shown.table.lines[row][at]]));
    const places = cases[perfmodel.case_of(state.model, state.phase, state.form || forms(state)[0] || "", isFused(state), isCausal(state))]?.[own.name];
    const values = { ...Object.fromEntries(shown.analysis.dims.$items()), ...items(state) };
    const formula = (place, value, unit, count) => {
      const tree = trees[places?.[place]], exact = tree === undefined ? null : exactValue(tree, values);
      // A formula whose cases depend on an item size, such as that of the optimizer, is left out where it is another case's.
      if (tree === undefined || (exact !== null && Number(exact) !== count)) return `<dd>${text(value)}</dd>`;
      const number = exact === null ? value : `${exact.toLocaleString("en-US")} ${unit}`;
      return `<dd>${formulaOf(tree)} = ${text(number)}<br><span class="filled">${formulaOf(tree, values)}</span></dd>`;
    };
    const bounds = own.bounds, expected = own.expected, s = (value) => perfmodel.scaled(value, "s", 4);
    const parts = [["memory", bounds.memory_s], ...bounds.engine_s.$items()].map(([name, seconds]) => `${name} ${s(seconds)}`).join(", ");
    this.shownRow = row;
    this.part(".details").innerHTML = `<h3>${text(own.name)}${own.repeat > 1 ? ` × ${own.repeat}` : ""}</h3><dl>
      <dt>FLOP</dt>${formula(0, line.FLOP, "FLOP", own.flops)}<dt>bytes</dt>${formula(1, line.traffic, "B", own.traffic_byte)}
      <dt>intensity</dt><dd>${text(line["FLOP/B"])} FLOP/B; ${ridges(shown)}</dd>
      <dt>bound</dt><dd>${text(bounds.bound)}: ${parts}</dd>
      <dt>time</dt><dd>at least ${s(bounds.lower_s)}, expected ${s(expected.expected_s)} (${s(expected.low_s)} to ${s(expected.high_s)})</dd>
      <dt>why</dt><dd>${parted(expected.terms).map(([name, seconds]) => `${text(name)} ${s(seconds)}`).join(" + ")}</dd>
      <dt>crossing</dt><dd class="own-crossing">…</dd></dl>`;
    if (whole) this.ownCrossing();
  }
  ownCrossing() {
    const place = this.part(".own-crossing"), row = this.view.shown.analysis.rows[this.shownRow];
    if (place && row) place.textContent = crossings(this.view.state, row.name).join(" ");
  }
  settle() {
    if (this.view.moving) {
      this.view.moving = false;
      this.part(".details").classList.remove("waiting");
      this.details(this.chosen);
    } else this.ownCrossing();
    this.part(".crossings").textContent = crossings(this.view.state).join(" ");
  }
}

function longest(shown) {
  let found = 0;
  shown.card.points.forEach((point, at) => { if ((point.share ?? 0) > (shown.card.points[found].share ?? 0)) found = at; });
  return found;
}
// The terms that add up to a time; those of one name, of several launches, together.
function parted(terms) {
  const sums = new Map();
  for (const term of terms) if (term.counts && term.seconds) sums.set(term.name, (sums.get(term.name) ?? 0) + term.seconds);
  return [...sums];
}
function items(state) {
  const item = (role) => perfmodel.item_bytes.item(dtypeOf(state, role));
  return { weight: item("weight"), act: item("activation"), cache: item("cache") };
}
function ridges(shown) {
  const card = shown.card;
  return card.roofs.map((roof) => `ridge of ${text(roof.name)} ${perfmodel.significant(card.ridge(roof), 4)}`).join(", ");
}
function crossings(state, step = "") {
  const symbols = perfmodel.controls(workloads.get(state.model), state.phase).filter((one) => one.asked).map((one) => one.symbol);
  const found = symbols.map((symbol) => perfmodel.crossing(asked(state), symbol, step)).filter(Boolean);
  return found.map((one) => (one.size === null
    ? `${one.before}-bound at every ${one.symbol} up to ${one.most}.`
    : `${one.symbol} = ${one.size}: ${one.before}-bound below, ${one.after}-bound from here.`));
}

function tiles({ shown, state }) {
  const { headings, total, notes } = shown.table, of = (name) => total[headings.indexOf(name)];
  const whole = shown.analysis.total, expected = whole.expected, s = (value) => perfmodel.scaled(value, "s", 4), plan = shown.estimate;
  const held = shown.memory, capacity = gpus.get(state.gpu).capacity_byte.value, byte = (value) => perfmodel.scaled(value, "B", 4);
  const found = [
    ["expected", of("expected"), `${s(expected.low_s)} to ${s(expected.high_s)}`], ["at least", of("at least"), `${whole.bound}-bound`],
    ["no overlap", of("no overlap"), "memory and engines one after another"], ["FLOP", of("FLOP"), "all repeats"],
    ["traffic", of("traffic"), `${of("FLOP/B")} FLOP/B`],
  ];
  if (held) found.push(["memory", byte(held.byte), `${held.fits ? "fits in" : "does not fit in"} ${byte(capacity)}`]);
  if (plan) {
    found.push([`${plan.plan.gpus} GPUs: expected`, s(plan.expected_s), `at least ${s(plan.lower_s)}`]);
    found.push(["tokens/s", perfmodel.significant(plan.tokens_per_s, 4), `MFU ${(100 * plan.mfu).toFixed(1)} %`]);
    found.push(["memory of a GPU", byte(plan.memory_byte), plan.fits ? "fits" : "does not fit"]);
  }
  return found.map(([name, value, more]) => `<div><dt>${text(name)}</dt><dd>${text(value)}<small>${text(more)}</small></dd></div>`).join("");
}
function keys(shown) {
  const used = new Set(shown.card.points.filter((one) => one.flop_per_s).map((one) => one.bound));
  return KINDS.filter((one) => used.has(one)).map((one) => `<li><i style="background: var(--${one})"></i>${one}-bound</li>`).join("") + "<li>area: share of the time; line: up to its bound</li>";
}
function memory(shown, gpu) {
  const plan = shown.estimate, lines = plan ? plan.lines : shown.memory?.lines, capacity = gpu.capacity_byte.value;
  if (!lines) return "<p>Training with weights of less than 2 bytes has no standard recipe.</p>";
  const kinds = ["weights", "training", "activations", "cache"], of = (kind) => lines.filter((one) => one.kind === kind).reduce((sum, one) => sum + one.byte_per_gpu, 0);
  const sums = kinds.map((kind) => [kind, of(kind)]).filter(([, byte]) => byte), whole = sums.reduce((sum, [, byte]) => sum + byte, 0);
  const room = plan ? plan.room_byte : shown.memory.room_byte, scale = 100 / Math.max(capacity, whole), byte = (value) => perfmodel.scaled(value, "B", 4);
  const parts = sums.map(([kind, own]) => `<span style="width: ${own * scale}%; background: var(--${kind})" title="${kind}: ${byte(own)}"></span>`).join("");
  const words = sums.map(([kind, own]) => `<li><i style="background: var(--${kind})"></i>${kind} ${byte(own)}</li>`).join("");
  const label = `${byte(whole)} of ${byte(capacity)}, of which ${byte(capacity - room)} stay free as a reserve: ${whole <= room ? "fits" : "does not fit"}`;
  return `<div class="bar" role="img" aria-label="${label}">${parts}<span class="reserve" style="left: ${room * scale}%; width: ${(capacity - room) * scale}%"></span><span class="limit" style="left: calc(${capacity * scale}% - 2px)"></span></div>
    <ul class="keys square">${words}<li><i style="background: var(--reserve)"></i>reserve ${byte(capacity - room)}</li><li>${label.split(",")[0]}: <b>${whole <= room ? "fits" : "does not fit"}</b></li></ul>`;
}
function notes({ shown }) {
  const hidden = shown.card.points.filter((one) => !one.flop_per_s).map((one) => one.name);
  const words = hidden.length ? [`No FLOPs, so not on the roofline: ${hidden.join(", ")}.`] : [];
  return [...shown.table.notes, ...words, ...(shown.estimate ? shown.estimate.notes : [])];
}
async function copyText(words, button) {
  const before = button.textContent;
  try { await navigator.clipboard.writeText(words); }
  catch {
    const area = dom("<textarea class='visually-hidden'></textarea>");
    area.value = words; document.body.append(area); area.select(); document.execCommand("copy"); area.remove();
  }
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = before; }, 1200);
}
