// The page: one state, or two side by side; a change is shown in the next frame.
const { trees, cases } = pageData;
const page = { states: [first()], active: 0, columns: [], frame: 0, settled: 0, views: [] };
const element = (id) => document.getElementById(id);

function viewOf(state, moving) {
  const shown = perfmodel.shown(asked(state));
  const others = state.also.map((gpu) => perfmodel.shown(asked(state, gpu)).card);
  const names_full = shown.analysis.rows.map((row) => row.name);
  return { state: copied(state), shown, cards: [shown.card, ...others], names: perfmodel.short(names_full), names_full, moving };
}

function render(moving = false) {
  page.frame = 0;
  const begun = performance.now(), errors = [];
  page.states.forEach((state, at) => {
    try { page.views[at] = viewOf(state, moving); }
    catch (error) {
      if (!(error instanceof perfmodel.InputError || error instanceof perfmodel.UsageError)) throw error;
      errors.push(error.message);
      page.columns[at].root.classList.add("stale");
    }
  });
  page.views.length = page.states.length;
  const message = element("message");
  message.hidden = !errors.length;
  if (message.textContent !== errors.join(" ")) message.textContent = errors.join(" ");
  const known = page.views.filter(Boolean);
  if (known.length) {
    const limits = ranges(known.flatMap((view) => view.cards));
    page.columns.forEach((column, at) => { if (page.views[at] && !(errors.length && column.root.classList.contains("stale"))) column.show(page.views[at], limits); });
  }
  const now = page.views[page.active];
  element("glance").textContent = now ? `${summary(now)}${errors.length ? " (before)" : ""}` : "";
  controls.show(page.states, page.active);
  page.lasted = performance.now() - begun;
  clearTimeout(page.settled);
  page.settled = setTimeout(settle, moving ? 180 : 0);
}
function settle() {
  page.settled = 0;
  history.replaceState(null, "", `#${page.states.map(written).join(";")}`);
  page.columns.forEach((column) => { if (column.view && !column.root.classList.contains("stale")) column.settle(); });
  const view = page.views[page.active];
  if (view && element("message").hidden) element("status").textContent = summary(view);
}
function summary({ shown }) {
  const whole = shown.analysis.total, s = (value) => perfmodel.scaled(value, "s", 4);
  return `Expected ${s(whole.expected.expected_s)}, at least ${s(whole.lower_s)}, ${whole.bound}-bound`;
}
function changed({ moving = false, active = page.active } = {}) {
  page.active = active;
  page.moving = moving;
  if (!page.frame) page.frame = requestAnimationFrame(() => render(page.moving));
}
function arrange() {
  const place = element("columns");
  while (page.columns.length < page.states.length) {
    const at = page.columns.length;
    page.columns.push(new Column((step) => { page.states[at].step = step; changed(); }));
    place.append(page.columns[at].root);
  }
  while (page.columns.length > page.states.length) page.columns.pop().root.remove();
  place.className = page.states.length > 1 ? "two" : "";
  page.columns.forEach((column, at) => column.root.setAttribute("aria-label", page.states.length > 1 ? `State ${"AB"[at]}` : "Figures"));
  page.active = Math.min(page.active, page.states.length - 1);
  const compare = element("compare");
  compare.setAttribute("aria-pressed", page.states.length > 1);
  compare.textContent = page.states.length > 1 ? "One state" : "Compare";
}
function load() {
  const parts = location.hash.slice(1).split(";").filter(Boolean).slice(0, 2);
  page.states = parts.length ? parts.map(read) : [first()];
  page.views = [];
  arrange();
  render();
}

const controls = new Controls(element("controls"), changed);
element("compare").addEventListener("click", () => {
  page.states = page.states.length > 1 ? [page.states[page.active]] : [page.states[0], copied(page.states[0])];
  page.active = page.states.length - 1;
  page.views = [];
  arrange();
  render();
});
element("link").addEventListener("click", (event) => { settle(); copyText(location.href, event.target); });
const name = () => { const { model, gpu, phase } = page.states[page.active]; return `roofline-${model}-${gpu}-${phase}`; };
const picture = () => page.columns[page.active].root.querySelector(".chart svg");
element("svg").addEventListener("click", () => saved(new Blob([standalone(picture())], { type: "image/svg+xml" }), `${name()}.svg`));
element("png").addEventListener("click", async () => saved(await pixels(picture()), `${name()}.png`));
addEventListener("hashchange", load);
new ResizeObserver(() => page.columns.forEach((column) => column.resized())).observe(element("columns"));
load();
