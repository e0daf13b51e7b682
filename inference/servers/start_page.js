"use strict";

const REFRESH_MS = 5000;
const page = (id) => document.getElementById(id);
let models = [];
let shown = "";

/** An element with its class, text and children; text never becomes markup. */
function make(tag, className, ...content) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...content.filter((item) => item !== null && item !== undefined));
  return element;
}

// ---- what is served ---------------------------------------------------------------------------------------------------

async function refresh() {
  const health = page("health");
  try {
    const ready = await (await fetch("/health/ready")).json();
    health.textContent = ready.ready ? "ready" : `not ready: ${ready.reasons.join("; ")}`;
    health.className = ready.ready ? "state good" : "state bad";
    models = (await (await fetch("/api/models")).json()).models;
    showModels();
  } catch (error) {
    health.textContent = "the server does not answer";
    health.className = "state bad";
  }
  setTimeout(refresh, REFRESH_MS);
}

function showModels() {
  const now = JSON.stringify(models);
  if (now === shown) return;
  shown = now;
  page("models").replaceChildren(...models.map(card));
  if (!models.length) page("models").append(make("p", "quiet", "The models folder holds no models."));
  const select = page("model");
  const chosen = select.value;
  const loaded = models.filter((model) => model.state === "ready");
  const names = loaded.map((model) => `${model.name}/${model.version}`);
  if (names.join() === [...select.options].map((option) => option.value).join()) return;
  select.replaceChildren(...names.map((name) => new Option(name, name)));
  if (names.includes(chosen)) select.value = chosen;
  showInputs();
}

function card(model) {
  const state = model.state === "ready" ? (model.ready ? "ready" : "waiting for its canary") : model.state;
  const colour = model.ready ? "good" : model.state === "failed" ? "bad" : "";
  const rows = make("dl", "");
  const row = (name, value) => value && rows.append(make("dt", "", name), make("dd", "", value));
  row("takes", model.features.map((f) => `${f.name} (${f.unit})`).join(", ") || model.inputs.map(tensor).join(", "));
  row("answers", model.labels.join(", ") || model.outputs.map(tensor).join(", "));
  if (model.batching) {
    const { batched, rows_max, rows_max_from, reason } = model.batching;
    const together = rows_max > 1 ? `up to ${rows_max} rows together` : "one row at a time, since more gain nothing";
    row("batching", batched ? `${together} (${rows_max_from})` : reason);
  }
  row("runs on", model.provider);
  row("why not", model.reasons.join("; "));
  return make(
    "article", "card",
    make("h3", "", `${model.name} / ${model.version}`),
    make("p", `state ${colour}`, state),
    model.title ? make("p", "", model.title) : null,
    model.description ? make("p", "quiet", model.description) : null,
    rows,
  );
}

const tensor = (entry) => `${entry.name} ${entry.datatype} [${entry.shape.join(", ")}]`;

// ---- the form ---------------------------------------------------------------------------------------------------------

const current = () => models.find((model) => `${model.name}/${model.version}` === page("model").value);

function showInputs() {
  const model = current();
  page("predict").disabled = !model;
  page("inputs").replaceChildren(...(model ? fields(model) : [make("p", "quiet", "No model is loaded.")]));
  page("answer").replaceChildren(make("p", "quiet", "The answer appears here."));
  showCurl();
}

function fields(model) {
  if (model.task === "sensor_window") return [...model.features.map(sensor), line()];
  if (model.task === "image") return [picture()];
  return [tensors(model)];
}

function field(label, input, hint) {
  return make("label", "field", make("span", "", label), input, hint ? make("small", "", hint) : null);
}

function sensor(feature) {
  const input = make("input", "");
  const middle = (feature.valid_min + feature.valid_max) / 2;
  const usual = feature.normalisation_mean;
  Object.assign(input, { type: "number", step: "any", required: true, name: feature.name });
  input.value = Number((usual > feature.valid_min && usual < feature.valid_max ? usual : middle).toPrecision(5));
  const name = feature.name.replaceAll("_", " ");
  return field(`${name}, ${feature.unit}`, input, `${feature.valid_min} to ${feature.valid_max}`);
}

function line() {
  const input = make("input", "");
  Object.assign(input, { name: "stream_id", placeholder: "none" });
  return field("production line", input, "With a name the server remembers the line's rows and judges them together.");
}

function picture() {
  const input = make("input", "");
  Object.assign(input, { type: "file", accept: "image/jpeg,image/png", required: true, name: "image" });
  const preview = make("img", "preview");
  preview.hidden = true;
  input.addEventListener("change", () => {
    if (preview.src) URL.revokeObjectURL(preview.src);
    preview.hidden = !input.files.length;
    if (input.files.length) preview.src = URL.createObjectURL(input.files[0]);
  });
  preview.alt = "the chosen picture";
  return make("div", "", field("picture of the glass", input, "JPEG or PNG"), preview);
}

function tensors(model) {
  const input = make("textarea", "");
  input.name = "tensors";
  input.value = JSON.stringify(Object.fromEntries(model.inputs.map((entry) => [entry.name, zeros(entry)])));
  return field("inputs", input, model.inputs.map(tensor).join(", "));
}

function zeros(entry) {
  const zero = { BOOL: false, BYTES: "text" }[entry.datatype] ?? 0;
  return entry.shape.reduceRight((inner, size) => Array(Math.min(size < 1 ? 1 : size, 64)).fill(inner), zero);
}

// ---- the call ---------------------------------------------------------------------------------------------------------

/** The request that the form stands for: path, content type and body. */
function call() {
  const model = current();
  const form = page("form").elements;
  if (model.task === "image") {
    const file = form.image.files[0];
    const query = new URLSearchParams({ model_name: model.name, model_version: model.version });
    return { path: `/api/inference/stream?${query}`, type: file ? file.type : "image/jpeg", body: file, file: file?.name };
  }
  const body = { model_name: model.name, model_version: model.version };
  if (model.task === "sensor_window") {
    body.data = { timestamp: new Date().toISOString() };
    for (const feature of model.features) body.data[feature.name] = form[feature.name].valueAsNumber;
    if (form.stream_id.value) body.stream_id = form.stream_id.value;
  } else {
    body.data = JSON.parse(form.tensors.value);
  }
  return { path: "/api/inference/stream", type: "application/json", body: JSON.stringify(body) };
}

function showCurl() {
  const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  try {
    const { path, type, body, file } = call();
    const sent = typeof body === "string" ? `-d ${quote(body)}` : `--data-binary @${quote(file ?? "picture.jpg")}`;
    page("curl").textContent = `curl -s ${quote(location.origin + path)} -H 'content-type: ${type}' ${sent}`;
  } catch (error) {
    page("curl").textContent = "";
  }
}

async function predict(event) {
  event.preventDefault();
  page("predict").disabled = true;
  try {
    const { path, type, body } = call();
    const response = await fetch(path, { method: "POST", headers: { "content-type": type }, body });
    const answer = await response.json();
    page("answer").replaceChildren(...(response.ok ? verdict(answer) : [fault(answer, response.status)]));
  } catch (error) {
    page("answer").replaceChildren(fault({ error: String(error), details: [] }));
  }
  page("predict").disabled = false;
}

// ---- the answer -------------------------------------------------------------------------------------------------------

const percent = (share) => `${(100 * share).toFixed(1)} %`;

function bar(name, share, strong) {
  const fill = make("div", "fill");
  fill.style.width = `${100 * share}%`;
  const label = make("p", "", make("span", "", name), make("span", "", percent(share)));
  return make("div", strong ? "bar strong" : "bar", label, make("div", "track", fill));
}

function verdict(answer) {
  const result = answer.result;
  const shown = [];
  if ("probabilities" in result) {
    shown.push(make("p", "verdict", result.defect_type));
    const ranked = Object.entries(result.probabilities).sort((a, b) => b[1] - a[1]);
    shown.push(...ranked.map(([label, share]) => bar(label, share, label === result.defect_type)));
  } else if ("confidence" in result) {
    shown.push(make("p", "verdict", result.decision ?? "answer"));
    shown.push(bar("probability of a defect", result.defect_probability, true));
    shown.push(bar("confidence in this decision", result.confidence, false));
  }
  const facts = [`answered by ${answer.model_name} / ${answer.model_version}`];
  if ("probabilities" in result) facts.unshift(`confidence ${percent(result.confidence)}`);
  if (result.processing_time_ms !== undefined) facts.push(`${result.processing_time_ms} ms in the server`);
  if (result.real_rows !== undefined) facts.push(`${result.real_rows} measured row${result.real_rows === 1 ? "" : "s"}`);
  if (result.input_quality < 1) facts.push(`input quality ${percent(result.input_quality)}`);
  shown.push(make("p", "quiet", facts.join(" · ")));
  const raw = make("details", "", make("summary", "", "answer as JSON"));
  raw.append(make("pre", "", JSON.stringify(answer, null, 2)));
  raw.open = !("confidence" in result);
  return [...shown, raw];
}

function fault(answer, status) {
  const named = answer.details?.length > 0;
  const title = named ? answer.error.split(":")[0] : answer.error;
  const box = make("div", "fault", make("p", "", status ? `${title} (${status})` : title));
  if (named) {
    const lines = answer.details.map((d) => make("li", "", `${d.field}: given ${d.given}, accepted ${d.accepted}`));
    box.append(make("ul", "", ...lines));
  }
  return box;
}

page("form").addEventListener("submit", predict);
page("form").addEventListener("input", showCurl);
page("model").addEventListener("change", showInputs);
fetch("/v2").then((response) => response.json()).then((server) => { page("version").textContent = server.version; });
refresh();
