// Kernels as dots on the roofline of the card: intensity against the rate that was measured, sized by time.
(function () {
  const host = document.getElementById("roofline");
  const data = pageData.roofline;
  if (!host || !data) return;
  const svg = host.querySelector("svg"), picked = host.querySelector(".picked");
  const dots = pageData.rows.map((row, place) => ({ ...row, place })).filter((row) => row.flops && row.byte && row.measured);
  if (!dots.length) return;
  const LEAST = 1e-3; // FLOP per byte: kernels below stand at the left edge
  const intensity = (row) => Math.max(row.flops / row.byte, LEAST), rate = (row) => row.flops / row.measured;
  const low = (list) => 10 ** Math.floor(Math.log10(Math.min(...list))), high = (list) => 10 ** Math.ceil(Math.log10(Math.max(...list)));
  const left = Math.min(low(dots.map(intensity)), 0.1), right = Math.max(high(dots.map(intensity)), 1e4);
  const top = high(data.roofs.map((roof) => roof.rate)), bottom = Math.max(low(dots.map(rate)), top / 1e7);
  const longest = Math.max(...dots.map((row) => row.measured));

  function draw() {
    const width = Math.max(host.clientWidth - 40, 300), height = Math.min(520, Math.max(320, width * 0.5));
    const [x0, x1, y0, y1] = [58, width - 14, height - 40, 14];
    const x = (value) => x0 + (Math.log10(value / left) / Math.log10(right / left)) * (x1 - x0);
    const y = (value) => y0 - (Math.log10(value / bottom) / Math.log10(top / bottom)) * (y0 - y1);
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.replaceChildren();
    const wide = width >= 640, every = wide ? 1 : 2; // a narrow page names the roofs below the chart
    for (let i = 0, value = left; value <= right * 1.01; value *= 10, i += 1) {
      svg.append(make("line", { class: "grid", x1: x(value), x2: x(value), y1: y0, y2: y1 }));
      const anchor = value * 10 > right * 1.01 ? "end" : "middle";
      if (i % every === 0) svg.append(make("text", { x: x(value), y: y0 + 17, "text-anchor": anchor }, String(Number(value.toPrecision(1)))));
    }
    for (let value = bottom; value <= top * 1.01; value *= 10) {
      svg.append(make("line", { class: "grid", x1: x0, x2: x1, y1: y(value), y2: y(value) }));
      svg.append(make("text", { x: x0 - 6, y: y(value) + 4, "text-anchor": "end" }, scaled(value, "").replace(/\.0+ /, " ")));
    }
    svg.append(make("text", { x: x1, y: height - 6, "text-anchor": "end" }, "FLOP per byte of memory traffic"));
    svg.append(make("text", { x: x0 + 6, y: y1 + 12 }, "FLOP/s"));
    const highest = Math.max(...data.roofs.map((roof) => roof.rate));
    const steep = Math.max(left, bottom / data.bandwidth);
    svg.append(make("path", { class: "roof", d: `M${x(steep)} ${y(data.bandwidth * steep)}L${x(highest / data.bandwidth)} ${y(highest)}` }));
    for (const roof of data.roofs) {
      const ridge = Math.min(Math.max(roof.rate / data.bandwidth, left), right);
      svg.append(make("path", { class: "roof", d: `M${x(ridge)} ${y(roof.rate)}L${x1} ${y(roof.rate)}` }));
      if (wide) svg.append(make("text", { x: x(ridge) - 10, y: y(roof.rate) + 4, "text-anchor": "end" }, `${roof.name} ${scaled(roof.rate, "FLOP/s")}`));
    }
    const slope = Math.sqrt(steep * (highest / data.bandwidth));
    if (wide) svg.append(make("text", { x: x(slope) - 10, y: y(data.bandwidth * slope) - 4, "text-anchor": "end" }, `memory ${scaled(data.bandwidth, "B/s")}`));
    for (const row of [...dots].sort((a, b) => b.measured - a.measured)) {
      const size = Math.max(2.5, 26 * Math.sqrt(row.measured / longest));
      const words = `${row.label} ${row.shape}: ${scaled(rate(row), "FLOP/s")} at ${intensity(row).toPrecision(3)} FLOP/B, ${scaled(row.measured, "s")} in ${row.calls} kernels`;
      const dot = make("circle", { cx: x(intensity(row)), cy: Math.min(y(Math.max(rate(row), bottom)), y0), r: size, tabindex: 0, role: "img", "aria-label": words, fill: `var(--${row.bound || "unknown"})` }, make("title", {}, words));
      const show = () => { picked.textContent = words; };
      for (const event of ["focus", "pointerenter", "click"]) dot.addEventListener(event, show);
      svg.append(dot);
    }
  }
  host.querySelector(".roofs").textContent = ["memory " + scaled(data.bandwidth, "B/s"), ...data.roofs.map((roof) => `${roof.name} ${scaled(roof.rate, "FLOP/s")}`)].join(", ");
  redraws.push(draw);
  draw();
})();
