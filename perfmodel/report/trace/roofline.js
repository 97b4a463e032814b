// Kernels as dots on the roofline of the card, drawn as the explorer draws it.
(function () {
  const host = document.getElementById("roofline");
  if (!host) return;
  const chart = host.querySelector(".chart"), picked = host.querySelector(".picked"), { cards } = perfmodel;
  const view = { cards, names: cards[0].points.map((point) => point.name.split(" ")[0]) }, limits = ranges(cards);
  let chosen = -1;
  function draw() { chart.innerHTML = drawn(view, Math.max(280, chart.clientWidth), limits, chosen); }
  function show(event) {
    const dot = event.target.closest("[data-row]");
    if (!dot) return;
    const point = cards[0].points[+dot.dataset.row];
    picked.textContent = `${dot.getAttribute("aria-label")}, at ${point.intensity.toPrecision(3)} FLOP/B, ${perfmodel.brief(point.measured_s, "s")} measured`;
  }
  for (const event of ["focusin", "pointerover", "click"]) chart.addEventListener(event, show);
  chart.addEventListener("keydown", (event) => { moveDot(chart, event); });
  redraws.push(draw);
  draw();
})();
