"use strict";
const groups = new Map();
for (const element of document.querySelectorAll("[data-c], [data-b]")) {
  for (const name of ["c", "b"]) {
    for (const number of (element.dataset[name] || "").split(" ").filter(Boolean)) {
      const key = name + number;
      if (!groups.has(key)) groups.set(key, []);
      groups.get(key).push(element);
    }
  }
}
let lit = [];
function light(target) {
  for (const element of lit) element.classList.remove("on");
  lit = [];
  if (!target) return;
  for (const name of ["c", "b"]) {
    for (const number of (target.dataset[name] || "").split(" ").filter(Boolean)) {
      for (const element of groups.get(name + number)) {
        element.classList.add("on");
        lit.push(element);
      }
    }
  }
}
const linked = (event) => event.target.closest("[data-c], [data-b]");
document.addEventListener("mouseover", (event) => light(linked(event)));
document.addEventListener("focusin", (event) => light(linked(event)));
document.addEventListener("click", (event) => {
  const target = linked(event);
  if (!target || target.closest("article")) return;
  const key = target.dataset.b ? "b" + target.dataset.b : "c" + target.dataset.c;
  const place = groups.get(key).find((element) => element.closest("article"));
  if (place) place.scrollIntoView({ block: "center" });
});
