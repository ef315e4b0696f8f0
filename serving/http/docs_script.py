"""What `/docs` does in a browser: it keeps the token in sessionStorage alone, and sends the tries."""

from __future__ import annotations

from typing import Final

STYLE: Final = """
:root{color-scheme:light dark}
body{font:15px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem}
code,pre,textarea,input{font:13px/1.5 ui-monospace,monospace}
code{background:#8881;padding:.1em .3em}
h2{margin:2rem 0 .3rem}
details{border:1px solid #8884;border-radius:6px;margin:.4rem 0;padding:.3rem .7rem}
summary{cursor:pointer}
.method{display:inline-block;min-width:4.2em;font-weight:600}
table{border-collapse:collapse;width:100%}
td,th{padding:.2rem .8rem .2rem 0;vertical-align:top;text-align:left}
input,textarea{width:100%;box-sizing:border-box}
textarea{min-height:7rem}
pre{background:#8881;padding:.6rem;overflow:auto;max-height:30rem}
small{opacity:.75}
#access{position:sticky;top:0;background:Canvas;padding:.5rem 0;border-bottom:1px solid #8884}
"""
SCRIPT: Final = """
"use strict";
const KEPT = "freshet-token";
const token = document.getElementById("token");
if (token) {
  token.value = sessionStorage.getItem(KEPT) || "";
  token.addEventListener("input", () => sessionStorage.setItem(KEPT, token.value.trim()));
}

function request(form) {
  const headers = new Headers(), query = new URLSearchParams();
  let path = form.dataset.path;
  for (const field of form.querySelectorAll("[data-in]")) {
    const value = field.value;
    if (field.dataset.in === "path") path = path.replace(`{${field.name}}`, encodeURIComponent(value));
    else if (!value) continue;
    else if (field.dataset.in === "header") headers.set(field.name, value);
    else if (field.dataset.many) for (const each of value.split(",")) query.append(field.name, each.trim());
    else query.set(field.name, value);
  }
  const body = form.querySelector("textarea");
  if (body) headers.set("Content-Type", "application/json");
  if (token && token.value.trim()) headers.set("Authorization", `Bearer ${token.value.trim()}`);
  const target = query.size ? `${path}?${query}` : path;
  return [target, {method: form.dataset.method, headers, body: body ? body.value : undefined,
    credentials: "omit", cache: "no-store", redirect: "error", referrerPolicy: "no-referrer"}];
}

async function send(form) {
  const output = form.querySelector("output"), shown = document.createElement("pre");
  output.replaceChildren(shown);
  try {
    const [target, options] = request(form), began = performance.now();
    const answer = await fetch(target, options), text = await answer.text();
    const ms = (performance.now() - began).toFixed(0);
    let said = text;
    try { said = JSON.stringify(JSON.parse(text), null, 2); } catch { /* it is no JSON */ }
    const head = `${options.method} ${target}\\n${answer.status} ${answer.statusText}, ${ms} ms`;
    shown.textContent = `${head}\\n\\n${said}`;
    output.dataset.status = answer.status;
  } catch (error) {
    shown.textContent = `The request was not sent, or its answer may not be read: ${error.message}`;
    output.dataset.status = "none";
  }
}

for (const form of document.querySelectorAll("form"))
  form.addEventListener("submit", event => { event.preventDefault(); send(form); });
"""
