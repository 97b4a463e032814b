"use strict";
// What every page shares: its data, the theme, tables that sort.
const pageData = JSON.parse(document.getElementById("page-data").textContent);

/** Makes an element with attributes and children. */
function make(name, attributes = {}, ...children) {
  const svg = ["svg", "g", "path", "line", "circle", "text", "rect", "title"].includes(name);
  const found = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) found.setAttribute(key, value);
  found.append(...children);
  return found;
}

/** A number with at most four digits and a prefix, such as 12.34 ms. */
function scaled(value, unit) {
  if (value === null || value === undefined) return "";
  if (!value) return `0 ${unit}`;
  const small = [[1, ""], [1e-3, "m"], [1e-6, "µ"], [1e-9, "n"]];
  const large = [[1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""]];
  const [factor, prefix] = (unit === "s" ? small : large).find(([one]) => value >= one) || [unit === "s" ? 1e-9 : 1, unit === "s" ? "n" : ""];
  return `${(value / factor).toPrecision(4)} ${prefix}${unit}`;
}

/** The value of a colour of the style sheet, in the theme that is shown. */
function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

const redraws = [];
function redraw() { for (const draw of redraws) draw(); }

document.querySelectorAll("[data-theme-toggle]").forEach((button) => {
  button.addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    redraw();
  });
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
addEventListener("resize", redraw);

/** Lets a table sort by the columns whose heading has a button; a cell sorts by its data-value, or by its text. */
function sortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, place) => {
    const button = head.querySelector("button");
    if (!button) return;
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = (row) => {
        const cell = row.cells[place];
        return cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value);
      };
      const body = table.tBodies[0];
      const rows = [...body.rows].sort((a, b) => {
        const [x, y] = [value(a), value(b)];
        const order = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y));
        return down ? -order : order;
      });
      body.append(...rows);
    });
  });
}
document.querySelectorAll("table.sorts").forEach(sortable);
