"use strict";
// Marks labels by key or button, keeps the marks in this browser, and saves them as corrections.csv: a line for each
// scan that is marked, of which only wrong labels change anything.
(() => {
  const cards = [...document.querySelectorAll(".suspect")];
  const cardOf = new Map(cards.map((card) => [card.dataset.key, card]));
  const author = document.getElementById("author"), progress = document.getElementById("progress");
  const place = `sixray review ${document.body.dataset.review}`;
  const state = {author: "", marks: {}, undo: [], ...JSON.parse(localStorage.getItem(place) ?? "{}")};

  const show = () => {
    const counts = {right: 0, wrong: 0, unsure: 0};
    for (const card of cards) {
      const mark = state.marks[card.dataset.key]?.mark;
      if (mark) counts[mark] += 1;
      for (const button of card.querySelectorAll("[data-mark]")) button.setAttribute("aria-pressed", String(button.dataset.mark === mark));
    }
    const marked = counts.right + counts.wrong + counts.unsure;
    progress.textContent = `${marked} of ${cards.length} marked: ${counts.right} right, ${counts.wrong} wrong, ${counts.unsure} unsure`;
  };
  const keep = () => { localStorage.setItem(place, JSON.stringify(state)); show(); };
  const current = () => document.activeElement.closest(".suspect");
  const go = (card) => { if (card) { card.focus({preventScroll: true}); card.scrollIntoView({block: "start"}); } };
  const mark = (card, name) => {
    const key = card.dataset.key;
    state.undo.push([key, state.marks[key] ?? null]);
    state.marks[key] = {mark: name, time: new Date().toISOString()};
    keep();
    go(card.nextElementSibling ?? card);
  };
  const undo = () => {
    const [key, before] = state.undo.pop() ?? [];
    if (key === undefined) return;
    if (before) state.marks[key] = before; else delete state.marks[key];
    keep();
    go(cardOf.get(key));
  };

  const cell = (text) => /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  const lines = () => cards.filter((card) => state.marks[card.dataset.key]).map((card) => {
    const {key, sha256, labels, boxes, reason} = card.dataset, {mark: name, time} = state.marks[key], isWrong = name === "wrong";
    return [key, sha256, isWrong ? labels : "{}", isWrong ? boxes : "", state.author, time, `${name}: ${reason}`];
  });
  const save = () => {
    if (!author.reportValidity()) return;
    const text = [document.body.dataset.columns.split(","), ...lines()].map((cells) => `${cells.map(cell).join(",")}\r\n`).join("");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], {type: "text/csv"}));
    link.download = "corrections.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  };

  const heatmaps = document.getElementById("heatmaps");  // none without a model to draw them
  const toggle = () => heatmaps.setAttribute("aria-pressed", String(document.body.classList.toggle("heatmaps")));
  heatmaps?.addEventListener("click", toggle);

  author.value = state.author;
  // A spreadsheet must not take a name for a formula.
  author.addEventListener("input", () => { state.author = author.value.trim().replace(/^[=+\-@]/, "'$&"); keep(); });
  document.getElementById("bar").addEventListener("submit", (event) => { event.preventDefault(); save(); });
  document.getElementById("undo").addEventListener("click", undo);
  for (const card of cards) {
    for (const button of card.querySelectorAll("[data-mark]")) button.addEventListener("click", () => mark(card, button.dataset.mark));
    card.addEventListener("click", (event) => { if (!event.target.closest("button")) card.focus({preventScroll: true}); });
  }
  const names = {r: "right", w: "wrong", u: "unsure"};
  document.addEventListener("keydown", (event) => {
    if (event.target === author || event.altKey || event.metaKey || (event.ctrlKey && event.key !== "z")) return;
    const key = event.key.toLowerCase(), card = current();
    if (names[key] && card) mark(card, names[key]);
    else if (key === "z") undo();
    else if (key === "s") save();
    else if (key === "h" && heatmaps) toggle();
    else if (key === "arrowdown" || key === "j") go(card ? card.nextElementSibling : cards[0]);
    else if (key === "arrowup" || key === "k") go(card?.previousElementSibling);
    else return;
    event.preventDefault();
  });
  show();
  const first = cards.find((card) => !state.marks[card.dataset.key]);
  if (first) first.focus({preventScroll: Object.keys(state.marks).length === 0});
})();
