// The kernels of the step on their streams, coloured by what bounds them.
(function () {
  const host = document.getElementById("timeline");
  const { start, length, lane, row, idle, lanes, span } = pageData.timeline;
  if (!host || !start.length) return;
  const canvas = host.querySelector("canvas");
  const picked = host.querySelector(".picked");
  const shown = host.querySelector("output");
  const rows = pageData.rows;
  const LANE = 34, GAP = 20, AXIS = 20;
  const height = AXIS + lanes.length * (LANE + GAP) + GAP;
  let from = 0, to = span, at = -1;

  /** Step of the axis: 1, 2 or 5 times a power of ten. */
  function step(width) {
    const rough = width / 8, power = 10 ** Math.floor(Math.log10(rough));
    return [1, 2, 5, 10].map((one) => one * power).find((one) => one >= rough);
  }

  /** A time of the axis, without zeros behind the point. */
  function plain(time) {
    return scaled(time * 1e-6, "s").replace(/(\.\d*?)0+ /, "$1 ").replace(". ", " ");
  }

  function draw() {
    const ratio = devicePixelRatio || 1, width = canvas.clientWidth;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    canvas.style.height = `${height}px`;
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    pen.font = "12px system-ui, sans-serif";
    const x = (time) => ((time - from) / (to - from)) * width;
    const inks = {};
    for (const name of ["memory", "tensor", "vector", "special", "link", "unknown", "idle", "idle-other", "line", "faint", "ink", "card"]) inks[name] = colour(name);
    pen.fillStyle = inks.faint;
    const tick = step(to - from);
    for (let time = Math.ceil(from / tick) * tick; time <= to; time += tick) {
      pen.fillStyle = inks.line;
      pen.fillRect(x(time), 0, 1, height);
      pen.fillStyle = inks.faint;
      if (x(time) < width - 60) pen.fillText(plain(time), x(time) + 4, 14);
    }
    for (const [begin, end, late] of idle) {
      if (end < from || begin > to) continue;
      pen.fillStyle = late ? inks.idle : inks["idle-other"];
      pen.fillRect(x(begin), AXIS, Math.max(x(end) - x(begin), 0.3), height - AXIS);
    }
    for (let i = 0; i < start.length; i += 1) {
      const end = start[i] + length[i];
      if (end < from || start[i] > to) continue;
      const left = Math.max(x(start[i]), -2), right = Math.min(x(end), width + 2), top = AXIS + GAP + lane[i] * (LANE + GAP);
      pen.fillStyle = inks[rows[row[i]].bound || "unknown"] || inks.unknown;
      pen.fillRect(left, top, Math.max(right - left - (right - left > 4 ? 1 : 0), 0.6), LANE);
      if (right - left > 64) {
        pen.save();
        pen.beginPath();
        pen.rect(left, top, right - left - 4, LANE);
        pen.clip();
        pen.fillStyle = "#ffffff";
        pen.fillText(rows[row[i]].label, left + 6, top + LANE / 2 + 4);
        pen.restore();
      }
    }
    if (at >= 0) {
      const top = AXIS + GAP + lane[at] * (LANE + GAP);
      pen.strokeStyle = inks.ink;
      pen.lineWidth = 2;
      pen.strokeRect(x(start[at]) - 1, top - 1, Math.max(x(start[at] + length[at]) - x(start[at]), 2) + 2, LANE + 2);
    }
    pen.fillStyle = inks.faint;
    lanes.forEach((name, place) => pen.fillText(name, 4, AXIS + GAP + place * (LANE + GAP) - 5));
    shown.textContent = `${scaled(from * 1e-6, "s")} to ${scaled(to * 1e-6, "s")}`;
  }

  function pick(place, follow) {
    at = place;
    const one = rows[row[at]];
    picked.replaceChildren(
      make("b", {}, `${one.label}  ${one.shape}`), ` ${one.dtype} on ${lanes[lane[at]]}, at ${scaled(start[at] * 1e-6, "s")}: `,
      make("b", {}, scaled(length[at] * 1e-6, "s")),
      one.expected === null ? "" : `; expected ${scaled(one.expected, "s")}, at least ${scaled(one.lower, "s")}, bottleneck ${one.bound}`,
      make("br"), make("code", {}, one.name), one.module ? make("br") : "", one.module,
    );
    if (follow && (start[at] < from || start[at] + length[at] > to)) {
      const wide = to - from;
      from = Math.max(0, Math.min(start[at] + length[at] / 2 - wide / 2, span - wide));
      to = from + wide;
    }
    draw();
  }

  function zoom(factor, middle = (from + to) / 2) {
    const wide = Math.min(span, Math.max((to - from) * factor, 2));
    from = Math.max(0, Math.min(middle - ((middle - from) / (to - from)) * wide, span - wide));
    to = from + wide;
    draw();
  }

  function move(share) {
    const wide = to - from;
    from = Math.max(0, Math.min(from + share * wide, span - wide));
    to = from + wide;
    draw();
  }

  const time = (event) => from + ((event.clientX - canvas.getBoundingClientRect().left) / canvas.clientWidth) * (to - from);
  function under(event) {
    const place = Math.floor((event.clientY - canvas.getBoundingClientRect().top - AXIS - GAP) / (LANE + GAP));
    const slack = ((to - from) / canvas.clientWidth) * 2, here = time(event);
    let best = -1, near = Infinity;
    for (let i = 0; i < start.length; i += 1) {
      if (lane[i] !== place || start[i] > here + slack || start[i] + length[i] < here - slack) continue;
      const far = Math.abs(start[i] + length[i] / 2 - here);
      if (far < near) [best, near] = [i, far];
    }
    return best;
  }

  let held = null;
  canvas.addEventListener("pointerdown", (event) => { held = { x: event.clientX, from, to, moved: false }; canvas.setPointerCapture(event.pointerId); });
  canvas.addEventListener("pointermove", (event) => {
    if (!held) return;
    const by = ((held.x - event.clientX) / canvas.clientWidth) * (held.to - held.from);
    held.moved = held.moved || Math.abs(held.x - event.clientX) > 3;
    if (!held.moved) return;
    from = Math.max(0, Math.min(held.from + by, span - (held.to - held.from)));
    to = from + (held.to - held.from);
    draw();
  });
  canvas.addEventListener("pointerup", (event) => {
    if (held && !held.moved) { const found = under(event); if (found >= 0) pick(found, false); }
    held = null;
  });
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.shiftKey) return;
    event.preventDefault();
    zoom(event.deltaY + event.deltaX > 0 ? 1.25 : 0.8, time(event));
  }, { passive: false });
  const acts = { in: () => zoom(0.5), out: () => zoom(2), left: () => move(-0.5), right: () => move(0.5), fit: () => { from = 0; to = span; draw(); } };
  host.querySelectorAll("[data-act]").forEach((button) => button.addEventListener("click", () => acts[button.dataset.act]()));
  canvas.addEventListener("keydown", (event) => {
    const keys = { "+": acts.in, "=": acts.in, "-": acts.out, Home: acts.fit, PageUp: acts.left, PageDown: acts.right,
      ArrowRight: () => pick(Math.min(at + 1, start.length - 1), true), ArrowLeft: () => pick(Math.max(at - 1, 0), true) };
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  });
  redraws.push(draw);
  draw();
})();
