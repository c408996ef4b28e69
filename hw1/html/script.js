"use strict";

// Light or dark as the reader's system has it, until the button is pressed.
document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = isDark ? "light" : "dark";
});

// A click on a heading sorts by it, a second one the other way; what has no value stays at the end.
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const heading = button.parentElement;
    const body = heading.closest("table").tBodies[0];
    const isNumber = heading.classList.contains("number");
    const sign = heading.ariaSort === "ascending" ? -1 : 1;
    const value = (row) => row.cells[heading.cellIndex].dataset.value;
    const compare = (a, b) => (isNumber ? a - b : a.localeCompare(b, "en", { numeric: true }));
    const rows = [...body.rows].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      return x === "" || y === "" ? (x === "") - (y === "") : sign * compare(x, y);
    });
    for (const other of heading.parentElement.cells) other.ariaSort = null;
    heading.ariaSort = sign > 0 ? "ascending" : "descending";
    body.append(...rows);
  });
}

// A figure in the whole window; a click there shows its parts larger.
const zoom = document.getElementById("zoom");
const stage = zoom.querySelector(".stage");
const large = stage.querySelector("img");
for (const button of document.querySelectorAll(".plot")) {
  button.addEventListener("click", () => {
    const small = button.querySelector("img");
    stage.classList.remove("near");
    large.src = small.src;
    large.alt = small.alt;
    zoom.showModal();
  });
}
large.addEventListener("click", (event) => {
  const [x, y] = [event.offsetX / large.clientWidth, event.offsetY / large.clientHeight];
  if (stage.classList.toggle("near")) {
    stage.scrollTo(x * stage.scrollWidth - stage.clientWidth / 2, y * stage.scrollHeight - stage.clientHeight / 2);
  }
});

// A link to a run opens its recipe and environment.
function openTarget() {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  if (target && target.matches("details")) {
    target.open = true;
    target.scrollIntoView();
  }
}
addEventListener("hashchange", openTarget);
for (const link of document.querySelectorAll('a[href^="#run-"]')) link.addEventListener("click", () => setTimeout(openTarget));
openTarget();
