// Elements without strings of HTML: what comes from a call is text and never markup.

export const $ = (id) => document.getElementById(id);

// el("button", {class: "main", onclick: …, "aria-label": …}, "text", child, …)
export function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key.startsWith("--")) made.style.setProperty(key, value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export function save(name, parts, kind) {
  const url = URL.createObjectURL(parts instanceof Blob ? parts : new Blob(parts, { type: kind }));
  const link = el("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

// A name for a file, of what comes from a call.
export const fileName = (...parts) => parts.map((part) => String(part ?? "").replace(/[^A-Za-z0-9-]+/g, "-")).filter(Boolean).join("-").slice(0, 80);

export async function sure(question) {
  const dialog = $("sure");
  $("sure-what").textContent = question;
  dialog.returnValue = "";
  dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  return dialog.returnValue === "yes";
}
