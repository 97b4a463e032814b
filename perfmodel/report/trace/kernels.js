// A filter for the table of kernels.
(function () {
  const input = document.getElementById("kernel-filter"), table = document.getElementById("kernel-table");
  if (!input || !table) return;
  const count = document.getElementById("kernel-count");
  const rows = [...table.tBodies[0].rows];
  function filter() {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.dataset.text;
      row.hidden = !words.every((word) => text.includes(word));
      shown += row.hidden ? 0 : 1;
    }
    count.textContent = `${shown} of ${rows.length} rows`;
  }
  input.addEventListener("input", filter);
  filter();
})();
