// Each table of two rows or more can be sorted by its columns: upwards, then downwards; what is unknown comes last.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  const key = (row, at) => row.cells[at].dataset.key ?? row.cells[at].textContent;
  const compare = (a, b) => a - b || (isNaN(a) || isNaN(b) ? String(a).localeCompare(b, "en", { numeric: true }) : 0);
  heads.forEach((head, at) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.ariaSort === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.ariaSort = down ? "descending" : "ascending";
      const rows = [...body.rows], known = rows.filter((row) => key(row, at) !== "");
      known.sort((a, b) => (down ? -1 : 1) * compare(key(a, at), key(b, at)));
      body.append(...known, ...rows.filter((row) => key(row, at) === ""));
    });
  });
}
