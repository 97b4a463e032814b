// The roofline as SVG text. All places come from the chart data of the model.
const text = (value) => String(value).replace(/[&<>"]/g, (one) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[one]);
const KINDS = ["memory", "tensor", "vector", "special", "link", "unknown"];
const LABELS = 7, LEAST_SHARE = 0.02;

function drawn(view, width, limits, chosen) {
  const narrow = width < 560, height = Math.round(Math.min(520, Math.max(330, width * 0.58)));
  const box = { left: narrow ? 46 : 58, right: width - 10, top: 10, bottom: height - 40 };
  const place = (x, y) => {
    const [across, up] = limits.parts(x, y);
    return [box.left + across * (box.right - box.left), box.bottom - up * (box.bottom - box.top)];
  };
  const cards = view.cards, [own] = cards, size = Math.min(34, width / 24);
  const parts = [axes(limits, box, place, narrow)], words = [], titles = perfmodel.tags(cards);
  cards.forEach((card, at) => parts.push(roofs(card, limits, box, place, at > 0, narrow, cards.length > 1 ? titles[at] : "", words)));
  const dots = [];
  cards.forEach((card, at) => card.points.forEach((point, row) => { if (point.flop_per_s) dots.push(dotOf(point, row, at, place, size)); }));
  dots.sort((a, b) => b.r - a.r);
  parts.push(dots.map((dot) => lift(dot, place)).join(""));
  const first = dots.find((dot) => !dot.card && dot.row === chosen) ?? dots.find((dot) => !dot.card);
  parts.push(dots.map((dot) => circle(dot, own, dot === first, dot.row === chosen)).join(""));
  parts.push(tags(dots.filter((dot) => !dot.card), box, narrow ? 4 : LABELS, view.names, words));
  const label = `Roofline of ${cards.map((card) => card.title).join(" and ")}: ${dots.filter((dot) => !dot.card).length} kernels, FLOP per second over FLOP per byte`;
  return `<svg viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="group" aria-label="${text(label)}" xmlns="http://www.w3.org/2000/svg" font-family="system-ui, Segoe UI, Roboto, Helvetica, Arial, sans-serif">${parts.join("")}</svg>`;
}

// Axes that contain all dots and ridges, rounded to halves of decades so that they rarely move.
function ranges(cards) {
  const found = perfmodel.limits(cards, 1.8), half = (value, round) => 10 ** (round(2 * Math.log10(value)) / 2);
  return found.$replaced({ left: half(found.left, Math.floor), right: half(found.right, Math.ceil), bottom: half(found.bottom, Math.floor) });
}

function axes(limits, box, place, narrow) {
  const lines = [], words = [], step = narrow ? 2 : 1;
  perfmodel.decades(limits.left, limits.right).forEach((x, at) => {
    const [left] = place(x, limits.bottom);
    lines.push(`<line x1="${left}" x2="${left}" y1="${box.top}" y2="${box.bottom}"/>`);
    if (at % step === 0) words.push(`<text x="${left}" y="${box.bottom + 16}" text-anchor="${left > box.right - 16 ? "end" : "middle"}">${text(perfmodel.decade(x))}</text>`);
  });
  for (const y of perfmodel.decades(limits.bottom, limits.top)) {
    const [, up] = place(limits.left, y);
    lines.push(`<line x1="${box.left}" x2="${box.right}" y1="${up}" y2="${up}"/>`);
    words.push(`<text x="${box.left - 6}" y="${up + 4}" text-anchor="end">${text(perfmodel.decade(y))}</text>`);
  }
  words.push(`<text class="title" x="${(box.left + box.right) / 2}" y="${box.bottom + 33}" text-anchor="middle">arithmetic intensity (FLOP/B)</text>`);
  words.push(`<text class="title" x="${box.left + 6}" y="${box.top + 14}">FLOP/s</text>`);
  const frame = `<rect class="frame" x="${box.left}" y="${box.top}" width="${box.right - box.left}" height="${box.bottom - box.top}"/>`;
  return `<g class="grid" aria-hidden="true">${lines.join("")}</g><g class="axis" aria-hidden="true">${words.join("")}</g>${frame}`;
}

// The lines of a card. `words` collects the boxes of their names.
function roofs(card, limits, box, place, other, narrow, tag, words) {
  const kind = other ? "roof other" : "roof", [memory, ...caches] = card.slopes, found = [], heights = [];
  const top = Math.max(...card.roofs.map((roof) => roof.flop_per_s));
  const sloped = (rate, name) => {
    const right = Math.min(limits.right, top / rate), [x1, y1] = place(limits.left, rate * limits.left), [x2, y2] = place(right, rate * right);
    const from = y1 > box.bottom ? place(limits.bottom / rate, limits.bottom) : [x1, y1];
    found.push(`<line class="${name}" x1="${from[0]}" y1="${from[1]}" x2="${x2}" y2="${y2}"/>`);
    return [from, [x2, y2]];
  };
  const [from, to] = sloped(memory.byte_per_s, kind);
  const angle = Math.atan2(to[1] - from[1], to[0] - from[0]), part = narrow ? 0.03 : 0.05;
  const at = [from[0] + part * (to[0] - from[0]), from[1] + part * (to[1] - from[1]) - 6];
  const title = tag && `${tag}: `;
  if (!other) {
    const name = `${title}memory ${perfmodel.brief(memory.byte_per_s, "B/s")}`;
    found.push(`<text class="rooftext" x="${at[0]}" y="${at[1]}" transform="rotate(${(angle * 180) / Math.PI} ${at[0]} ${at[1]})">${text(name)}</text>`);
    for (let along = 0; along < name.length * 6; along += 12) {
      const x = at[0] + along * Math.cos(angle), y = at[1] + along * Math.sin(angle);
      words.push([x - 8, y - 12, x + 12, y + 4]);
    }
  }
  for (const cache of caches) sloped(cache.byte_per_s, "roof cache");
  for (const roof of card.roofs) {
    const [x1, y] = place(roof.flop_per_s / memory.byte_per_s, roof.flop_per_s);
    found.push(`<line class="${kind}" x1="${x1}" y1="${y}" x2="${box.right}" y2="${y}"/>`);
    const free = heights.every((one) => Math.abs(one - y) > 14);
    if (free && (!other || roof === card.roofs[0])) {
      heights.push(y);
      const name = other ? `${title}${roof.name}` : `${title}${roof.name} ${perfmodel.brief(roof.flop_per_s, "FLOP/s")}`, up = other ? y + 13 : y - 5;
      found.push(`<text class="rooftext" x="${box.right - 4}" y="${up}" text-anchor="end">${text(name)}</text>`);
      words.push([box.right - 4 - name.length * 6, up - 11, box.right, up + 3]);
    }
  }
  return `<g aria-hidden="true">${found.join("")}</g>`;
}

function dotOf(point, row, card, place, size) {
  const [x, y] = place(point.intensity, point.height), r = Math.max(3.5, Math.sqrt(point.share ?? 0) * size);
  return { point, row, card, x, y, r, share: point.share ?? 0 };
}
function lift(dot, place) {
  const [, up] = place(dot.point.intensity, dot.point.flop_per_s);
  return dot.y - up > dot.r ? `<line class="lift ${dot.point.bound}" x1="${dot.x}" x2="${dot.x}" y1="${dot.y - dot.r}" y2="${up}" aria-hidden="true"/>` : "";
}
function circle(dot, own, first, chosen) {
  const { point, row, card } = dot, percent = (100 * dot.share).toFixed(1);
  const words = `${point.name}: ${percent} % of the time, ${point.bound}-bound, ${perfmodel.brief(point.height, "FLOP/s", 3)} of ${perfmodel.brief(point.flop_per_s, "FLOP/s", 3)}`;
  const focus = card ? 'aria-hidden="true"' : `role="button" tabindex="${first ? 0 : -1}" aria-pressed="${chosen}" data-row="${row}" aria-label="${text(words)}"`;
  return `<circle class="dot ${point.bound}${card ? " other" : ""}${chosen && !card ? " chosen" : ""}" cx="${dot.x.toFixed(2)}" cy="${dot.y.toFixed(2)}" r="${dot.r.toFixed(2)}" ${focus}/>`;
}

// Names of the longest kernels, each at the first place beside its dot that is free.
function tags(dots, box, most, names, words) {
  const taken = [...words, ...dots.map((dot) => [dot.x - dot.r, dot.y - dot.r, dot.x + dot.r, dot.y + dot.r])], found = [];
  for (const dot of dots.filter((one) => one.share >= LEAST_SHARE).slice(0, most)) {
    const name = names[dot.row], wide = name.length * 6.3 + 4, gap = dot.r + 5;
    const places = [[gap, 4, "start"], [-gap, 4, "end"], [0, gap + 10, "middle"], [0, -gap, "middle"], [gap, gap + 6, "start"], [-gap, gap + 6, "end"], [gap, -gap, "start"], [-gap, -gap, "end"], [0, gap + 26, "middle"], [gap, gap + 22, "start"], [-gap, gap + 22, "end"]];
    for (const [dx, dy, anchor] of places) {
      const x = dot.x + dx, y = dot.y + dy, left = anchor === "start" ? x : anchor === "end" ? x - wide : x - wide / 2, own = [left, y - 11, left + wide, y + 3];
      const inside = own[0] > box.left && own[2] < box.right && own[1] > box.top && own[3] < box.bottom;
      if (!inside || taken.some((one) => own[0] < one[2] && one[0] < own[2] && own[1] < one[3] && one[1] < own[3])) continue;
      taken.push(own);
      found.push(`<text class="tag" x="${x.toFixed(1)}" y="${y.toFixed(1)}" text-anchor="${anchor}">${text(name)}</text>`);
      break;
    }
  }
  return `<g aria-hidden="true">${found.join("")}</g>`;
}

// The arrow keys move from dot to dot, of which the Tab key reaches one. Returns whether the key was one of them.
function moveDot(root, event) {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key], dot = event.target.closest("[data-row]");
  if (!step || !dot) return false;
  const dots = [...root.querySelectorAll(".dot[data-row]")].sort((a, b) => a.cx.baseVal.value - b.cx.baseVal.value);
  const next = dots[(dots.indexOf(dot) + step + dots.length) % dots.length];
  dots.forEach((one) => one.setAttribute("tabindex", one === next ? 0 : -1));
  next.focus();
  event.preventDefault();
  return true;
}

// --- files
const PAINT = ["fill", "stroke", "stroke-width", "stroke-dasharray", "fill-opacity", "opacity", "font-size", "paint-order", "stroke-linejoin"];
function standalone(svg) {
  const copy = svg.cloneNode(true), from = [svg, ...svg.querySelectorAll("*")], to = [copy, ...copy.querySelectorAll("*")];
  from.forEach((one, at) => {
    const style = getComputedStyle(one);
    for (const name of PAINT) if (style.getPropertyValue(name)) to[at].setAttribute(name, style.getPropertyValue(name));
    for (const name of ["class", "tabindex", "role", "aria-pressed", "aria-hidden", "data-row"]) to[at].removeAttribute(name);
  });
  copy.removeAttribute("style");
  const back = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  back.setAttribute("width", "100%"); back.setAttribute("height", "100%");
  back.setAttribute("fill", getComputedStyle(svg.closest(".column")).backgroundColor);
  copy.prepend(back);
  return new XMLSerializer().serializeToString(copy);
}
function saved(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
async function pixels(svg, scale = 2) {
  const picture = new Image();
  picture.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(standalone(svg))}`;
  await picture.decode();
  const canvas = document.createElement("canvas");
  canvas.width = svg.viewBox.baseVal.width * scale; canvas.height = svg.viewBox.baseVal.height * scale;
  canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
  return new Promise((done) => canvas.toBlob(done, "image/png"));
}
