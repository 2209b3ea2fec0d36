"use strict";
const by = (id) => document.getElementById(id);
const form = by("ask"), input = by("file"), state = by("state"), answer = by("answer");
const limits = JSON.parse(by("limits").textContent);

// Appended to the pages inside the answer: they tell how high they are.
const MEASURE = `<script>new ResizeObserver(() => parent.postMessage(
  {height: Math.ceil(document.documentElement.getBoundingClientRect().height)}, "*"
)).observe(document.documentElement)<\/script>`;

function make(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

function say(text, failed = false) {
  state.textContent = text;
  state.className = failed ? "failed" : "";
}

function bars(classes) {
  const rows = classes.flatMap(([name, score]) => {
    const fill = make("span", {className: "fill"});
    fill.style.width = `${100 * score}%`;
    return [make("span", {className: "class"}, name), make("span", {className: "track"}, fill),
      make("span", {className: "number"}, `${(100 * score).toFixed(2)} %`)];
  });
  return make("div", {className: "bars"}, ...rows);
}

function shown(page, name) {
  const save = make("button", {type: "button", className: "save"}, "Save this page");
  save.addEventListener("click", () => {
    const href = URL.createObjectURL(new Blob([page.html], {type: "text/html"}));
    make("a", {href, download: `${name}.html`}).click();
    setTimeout(() => URL.revokeObjectURL(href), 60000);
  });
  const frame = make("iframe", {title: page.title});
  frame.setAttribute("sandbox", "allow-scripts");
  frame.srcdoc = page.html + MEASURE;
  return [make("div", {className: "head"}, make("h2", {}, page.title), save), frame];
}

window.addEventListener("message", ({source, data}) => {
  for (const frame of answer.querySelectorAll("iframe")) {
    if (frame.contentWindow === source && Number.isFinite(data?.height)) {
      frame.style.height = `${Math.min(Math.max(data.height, 100), 20000) + 2}px`;
    }
  }
});

function show(found, name) {
  const parts = [];
  if (found.classes.length) parts.push(make("h2", {}, `Top ${found.classes.length}: ${name}`));
  if (found.classes.length) parts.push(bars(found.classes));
  parts.push(...found.notes.map((note) => make("p", {className: "faint"}, note)));
  parts.push(...found.pages.flatMap((page) => shown(page, name)));
  answer.replaceChildren(...parts);
  say("");
}

function heard(line, name) {
  const found = JSON.parse(line);
  if (found.state === "answered") show(found, name);
  else if (found.state === "failed") say(found.message, true);
  else if (found.ahead === 0) say(`Looking at ${name} …`);
  else say(`Waiting: ${found.ahead} before ${name} …`);
  return found.state !== "waiting";
}

async function listen(response, name) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "", ended = false;
  for (let part; !(part = await reader.read()).done;) {
    const lines = (text + part.value).split("\n");
    text = lines.pop();
    for (const line of lines) ended = heard(line, name) || ended;
  }
  if (text) ended = heard(text, name) || ended;
  if (!ended) say("The page has been stopped.", true);
}

async function ask(files) {
  const name = files.length === 1 ? files[0].name : `${files.length} files`;
  const size = files.reduce((sum, file) => sum + file.size, 0);
  answer.replaceChildren();
  if (size > limits.bytes) {
    say(`${name} is larger (${(size / 1e6).toFixed(1)} MB) than the ${limits.megabytes} MB that ` +
      "are allowed: choose a smaller file (or start the page with a larger --max_size)", true);
    return;
  }
  const body = new FormData();
  for (const file of files) body.append("file", file, file.name);
  for (const button of form.querySelectorAll("button")) button.disabled = true;
  say(`Uploading ${name} …`);
  try {
    await listen(await fetch("ask", {method: "POST", body}), name);
  } catch {
    say("The page does not answer: it has been stopped, or the file cannot be read.", true);
  } finally {
    for (const button of form.querySelectorAll("button")) button.disabled = false;
  }
}

form.addEventListener("submit", (event) => { event.preventDefault(); ask([...input.files]); });
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  form.addEventListener(kind, (event) => {
    event.preventDefault();
    form.classList.toggle("over", kind === "dragenter" || kind === "dragover");
  });
}
form.addEventListener("drop", ({dataTransfer}) => {
  if (!dataTransfer.files.length || by("send").disabled) return;
  input.files = dataTransfer.files;
  ask([...input.files]);
});

const record = by("record"), preview = by("preview");
let recorder = null;

async function begin() {
  const stream = await navigator.mediaDevices.getUserMedia({video: true});
  preview.srcObject = stream;
  preview.hidden = false;
  preview.play();
  const parts = [];
  recorder = new MediaRecorder(stream);
  recorder.addEventListener("dataavailable", ({data}) => parts.push(data));
  recorder.addEventListener("stop", () => {
    for (const track of stream.getTracks()) track.stop();
    preview.hidden = true;
    const type = recorder.mimeType, suffix = type.startsWith("video/mp4") ? "mp4" : "webm";
    recorder = null;
    record.textContent = "Record";
    ask([new File(parts, `recording.${suffix}`, {type})]);
  });
  recorder.start();
  record.textContent = "Stop and ask";
  const recorded = recorder;
  setTimeout(() => { if (recorded.state !== "inactive") recorded.stop(); },
    Math.min(900 * limits.seconds, 2 ** 31 - 1));
}

if (record && navigator.mediaDevices && window.MediaRecorder) {
  record.hidden = false;
  record.addEventListener("click", () => {
    if (recorder) { recorder.stop(); return; }
    begin().catch((error) => say(`The camera cannot be used (${error.message}).`, true));
  });
}
