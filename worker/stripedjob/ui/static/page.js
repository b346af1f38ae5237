// Keeps the page as it is in the pool: the server sends what <main> shows, whenever that has changed.
"use strict";

const SILENT_MS = 20000; // the server says something every few seconds; after so long the connection counts as lost
const AGAIN_MS = 2000;
const main = document.getElementById("main");
const link = document.getElementById("link");
let source = null;
let silence = 0;
let lost = false;
let trouble = link.textContent;

function say() {
  const words = lost ? "The connection is lost; trying again…" : trouble && `Not as it is now: ${trouble}`;
  if (link.textContent !== words) link.textContent = words;
  link.hidden = !words;
}

function heard() {
  lost = false;
  clearTimeout(silence);
  silence = setTimeout(again, SILENT_MS);
  say();
}

function again() {
  lost = true;
  say();
  disconnect();
  silence = setTimeout(connect, AGAIN_MS);
}

function disconnect() {
  clearTimeout(silence);
  if (source) source.close();
  source = null;
}

function connect() {
  disconnect();
  source = new EventSource(location.href);
  silence = setTimeout(again, SILENT_MS);
  source.addEventListener("trouble", (event) => {
    trouble = event.data;
    heard();
  });
  source.addEventListener("shown", (event) => {
    const shown = document.createElement("template");
    shown.innerHTML = event.data;
    morphChildren(main, shown.content);
    heard();
  });
  source.addEventListener("error", again);
}

// Changes what differs and leaves the rest: focus, selection and scroll stay where they are.
function morph(old, fresh) {
  if (old.nodeName !== fresh.nodeName) {
    old.replaceWith(fresh);
  } else if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
  } else {
    for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
    for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    morphChildren(old, fresh);
  }
}

function morphChildren(old, fresh) {
  const stays = new Set([...fresh.children].map((one) => one.dataset.key));
  for (const one of [...old.children]) if (one.dataset.key && !stays.has(one.dataset.key)) one.remove();
  const keyed = new Map([...old.children].filter((one) => one.dataset.key).map((one) => [one.dataset.key, one]));
  let at = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    const same = child.dataset?.key ? keyed.get(child.dataset.key) : at && !at.dataset?.key ? at : null;
    while (same && at && at !== same && !at.dataset?.key) {
      at = at.nextSibling;
      (at ? at.previousSibling : old.lastChild).remove();
    }
    if (!same) {
      old.insertBefore(child, at);
      continue;
    }
    if (same === at) at = at.nextSibling;
    else old.insertBefore(same, at);
    morph(same, child);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
document.getElementById("still").remove();
connect();
