// What people are told where a part of the page is not what its makers have signed.

import { REFUSED } from "./reports.js";

const DIALOG = {
  boxSizing: "border-box",
  width: "min(36rem, calc(100vw - 2rem))",
  padding: "1.5rem 2rem",
  border: "2px solid #b3361e",
  borderRadius: "0.6rem",
  background: "Canvas",
  color: "CanvasText",
  colorScheme: "light dark",
  font: "1.05rem/1.5 system-ui, sans-serif",
};

/** Listens to the worker. Its first word is shown, and no later ones: a page may have many parts. */
export function warn() {
  let isShown = false;
  navigator.serviceWorker?.addEventListener("message", ({ data }) => {
    if (data?.[0] !== REFUSED || isShown) return;
    isShown = true;
    if (document.body) show(data[1]);
    else addEventListener("DOMContentLoaded", () => show(data[1]), { once: true });
  });
}

function show(path) {
  const dialog = styled("dialog", "", DIALOG);
  dialog.setAttribute("role", "alertdialog");
  dialog.id = "bulla-warning";
  const reload = styled("button", "Reload", { font: "inherit", padding: "0.4rem 1rem", marginRight: "0.6rem" });
  reload.addEventListener("click", () => location.reload());
  const close = styled("button", "Close", { font: "inherit", padding: "0.4rem 1rem" });
  close.addEventListener("click", () => dialog.remove());
  dialog.append(
    styled("h1", "A part of this page was changed on its way", { font: "600 1.3rem/1.3 system-ui, sans-serif", margin: "0 0 0.8rem" }),
    styled("p", "It is not what the makers of this site have signed, and was not run. Somebody between them and you may have changed it; or the site is being renewed right now.", {}),
    styled("p", "Enter nothing here. Reload the page. If this comes again, come back later, or by another network.", {}),
    styled("p", `integrity: ${path}`, { font: "0.85rem/1.5 ui-monospace, monospace", opacity: "0.7", overflowWrap: "anywhere" }),
    reload,
    close,
  );
  document.body.append(dialog);
  dialog.showModal();
}

/** Styled by script, which policies for styles do not refuse. */
function styled(name, text, style) {
  const element = document.createElement(name);
  element.textContent = text;
  Object.assign(element.style, style);
  return element;
}
