"use strict";
// Moves the alarm threshold over the operating points of metrics.json, and sorts tables. Without the script the page
// shows the same numbers at one threshold, in the order of the classes.
(() => {
  const significant = (v, digits) => v.toLocaleString("en-US", {maximumSignificantDigits: digits});
  const count = (n) => n.toLocaleString("en-US");
  const percent = (v) => v === null ? "–" : (v === 0 || v >= 0.01 ? (100 * v).toFixed(1) : significant(100 * v, 2)) + "\u00a0%";
  const rate = (v) => v === null ? "–" : v >= 100 ? v.toFixed(0) : v >= 10 || v === 0 ? v.toFixed(1) : v.toFixed(2);
  const share = (part, whole) => whole ? part / whole : null;

  const slider = document.getElementById("threshold");
  if (slider) {
    const points = JSON.parse(document.getElementById("operating-points").textContent);
    const rows = [...document.querySelectorAll("#alarm-table tbody tr")];
    const shown = document.getElementById("threshold-score");
    const show = () => {
      const t = Number(slider.value);
      shown.textContent = significant(points.scores[t], 4);
      slider.setAttribute("aria-valuetext", `score ${shown.textContent}`);
      points.rows.forEach((row, k) => {
        const hits = row.num_true[t], falseAlarms = row.num_false[t];
        const cells = [
          percent(share(hits, row.num_positive)), count(hits), count(row.num_positive - hits),
          rate(share(1000 * falseAlarms, row.num_negative)), count(falseAlarms), percent(share(hits, hits + falseAlarms)),
        ];
        cells.forEach((text, c) => { rows[k].cells[c + 1].textContent = text; });
      });
    };
    slider.addEventListener("input", show);
    show();
  }

  // A cell of figures sorts by its own number, not by the small print below it, and any other cell as text: dates are
  // written year first. A dash comes last in both directions.
  const valueOf = (row, column) => {
    const cell = row.cells[column], text = (cell.firstChild?.textContent ?? "").trim();
    if (text === "–" || text === "") return null;
    const number = Number.parseFloat(text.replaceAll(",", "").replace("\u2212", "-"));
    return cell.classList.contains("n") && !Number.isNaN(number) ? number : text;
  };
  const compare = (a, b) => typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", {numeric: true});

  const large = document.getElementById("large");
  for (const button of document.querySelectorAll(".zoom")) {
    button.addEventListener("click", () => {
      large.querySelector("figure")?.remove();
      const figure = document.createElement("figure");
      figure.append(button.firstElementChild.cloneNode(true), button.nextElementSibling.cloneNode(true));
      large.append(figure);
      large.showModal();
    });
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0];
    [...table.tHead.rows[0].cells].forEach((header, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...header.childNodes);
      header.append(button);
      button.addEventListener("click", () => {
        const direction = header.getAttribute("aria-sort") === "descending" ? "ascending" : "descending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        header.setAttribute("aria-sort", direction);
        const sign = direction === "ascending" ? 1 : -1;
        const sorted = [...body.rows].map((row) => [valueOf(row, column), row]).sort(([a], [b]) =>
          a === null || b === null ? (a === null) - (b === null) : sign * compare(a, b));
        body.append(...sorted.map(([, row]) => row));
      });
    });
  }
})();
