"use strict";

// Tables that are sorted by a column: once upwards, at the next press downwards.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  for (const [column, head] of heads.entries()) {
    const button = head.querySelector(".sort");
    if (!button) continue;
    const numeric = head.classList.contains("number");
    button.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      const down = before === "ascending";
      for (const other of heads) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = (row) => {
        const cell = row.cells[column];
        return numeric ? Number(cell.dataset.value ?? cell.textContent) : cell.textContent.trim();
      };
      const compare = numeric ? (a, b) => a - b : (a, b) => a.localeCompare(b);
      const rows = [...body.rows].sort((a, b) => (down ? -1 : 1) * compare(value(a), value(b)));
      body.append(...rows);
    });
  }
}
