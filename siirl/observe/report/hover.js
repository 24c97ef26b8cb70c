// Tells the values under the pointer, or under a finger: whatever has data-tip.
const tip = document.getElementById("tip");
function show(event) {
  const target = event.target.closest("[data-tip]");
  tip.classList.toggle("on", Boolean(target));
  if (!target) return;
  tip.textContent = target.dataset.tip;
  const width = tip.offsetWidth, height = tip.offsetHeight, room = document.documentElement.clientWidth - width - 8;
  const above = event.clientY - height - 14;
  tip.style.left = Math.max(8, Math.min(event.clientX + 14, room)) + "px";
  tip.style.top = (above > 8 ? above : event.clientY + 18) + "px";
}
document.addEventListener("pointermove", show);
document.addEventListener("pointerdown", show);
document.addEventListener("scroll", () => tip.classList.remove("on"), { passive: true });
