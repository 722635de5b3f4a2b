// Draws the fleet from api/fleet, api/pods and api/bills. No build step and no library: the page has to work
// from inside a cluster that reaches nothing else. Text always goes through textContent, names are never parsed as HTML.
"use strict";

const REFRESH_MILLISECONDS = 1500;
const TERMS = ["fragmentation", "nvlink", "carbon", "money", "locality"];
const LEGEND = [
  ["free", "free"], ["k1", "1g"], ["k2", "2g"], ["k3", "3g"], ["k4", "4g"], ["k7", "7g"],
  ["whole", "whole GPU"], ["used", "in use, instance unknown"], ["stranded", "stranded: free, but no profile fits"],
];
const REGIMES = { slicewise: "DRA, Slicewise's driver", nvidia: "DRA, NVIDIA's driver", "device-plugin": "device plugin" };

const $ = (id) => document.getElementById(id);
const cards = new Map(); // node name -> { card, drawn }
let fleet = { nodes: [], totals: {}, currency: "" };
let bills = new Map(); // node name -> bill of the chosen pod
let billOrder = [];
let billProblem = "";
let podsDrawn = "";

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") made.className = value;
    else if (value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

function money(value) {
  // Always the same number of digits, so that columns line up and near prices can be told apart.
  return value.toFixed(3).replace(/^-(0\.0+)$/, "$1");
}

function chosenPod() {
  const value = $("pod").value;
  if (!value) return null;
  const cut = value.indexOf("/");
  return { namespace: value.slice(0, cut), name: value.slice(cut + 1), key: value };
}

function spanClass(span) {
  if (span.kind !== "mig") return span.kind;
  const slices = parseInt(span.profile, 10);
  return slices >= 7 ? "k7" : slices >= 4 ? "k4" : "k" + Math.max(1, slices || 1);
}

function spanText(span, gpu) {
  const units = `${span.size} of ${gpu.units} memory unit${gpu.units === 1 ? "" : "s"}`;
  const place = gpu.units === 1 ? "" : ` from ${span.start}, ${units}`;
  const who = span.pods.length ? `\n${span.pods.join("\n")}` : "";
  if (span.kind === "free") return `free${place}`;
  if (span.kind === "stranded") return `stranded${place}: free memory that no MIG profile can reach beside what runs`;
  if (span.kind === "whole") return `whole GPU${who}`;
  if (span.kind === "used") return `in use${place}${who}`;
  return `${span.profile}${place}${who}`;
}

function drawGpu(gpu, pod) {
  const bar = element("div", {
    class: "bar", role: "img",
    "aria-label": `GPU ${gpu.index}, ${gpu.model}: ` + gpu.spans.map((span) => spanText(span, gpu).replaceAll("\n", ", ")).join("; "),
  });
  bar.style.gridTemplateColumns = `repeat(${gpu.units}, 1fr)`;
  for (const span of gpu.spans) {
    const label = span.kind === "mig" ? span.profile.split(".")[0] : span.kind === "whole" && gpu.units > 1 ? "whole" : "";
    const mine = pod && span.pods.includes(pod.key) ? " mine" : "";
    const unit = element("span", { class: `unit ${spanClass(span)}${mine}` }, label);
    unit.style.gridColumn = `span ${span.size}`;
    unit.style.setProperty("--units", gpu.partitionable ? span.size : 1);
    unit.dataset.tip = `GPU ${gpu.index} · ${gpu.model} · ${gpu.memory_gib} GiB\n${spanText(span, gpu)}`;
    bar.append(unit);
  }
  return element("div", { class: "gpu" }, element("b", { "aria-hidden": "true" }, String(gpu.index)), bar);
}

function priceTag(node) {
  const bill = bills.get(node.name);
  if (!bill) return null;
  if (!bill.feasible) return element("span", { class: "price no", title: bill.reason }, "does not fit");
  const best = billOrder.length && billOrder[0].node === node.name ? " best" : "";
  return element("span", { class: "price" + best }, `${money(bill.total)} ${fleet.currency}/h`);
}

function drawNode(node, pod) {
  const bill = bills.get(node.name);
  const here = pod && node.gpus.some((gpu) => gpu.spans.some((span) => span.pods.includes(pod.key)));
  const card = element("article", { class: "node" + (here ? " here" : "") + (bill && !bill.feasible ? " out" : "") });
  const models = [...new Set(node.gpus.map((gpu) => gpu.model))].join(", ");
  const facts = [`${node.gpus.length} × ${models}`, node.topology];
  if (node.gpu_hour !== null) facts.push(`${node.gpu_hour.toFixed(2)} ${fleet.currency}/h`);
  const name = element("span", {}, node.name);
  name.dataset.tip = `${node.name}\n${facts.join(", ")} a GPU\n${REGIMES[node.regime] || node.regime}\n${bill ? (bill.feasible ? "" : bill.reason) : ""}`.trim();
  card.append(element("h3", {}, name, priceTag(node)), element("p", { class: "facts" }, facts.join(" · ")));
  const many = node.gpus.length > 4 && node.gpus.every((gpu) => gpu.spans.length === 1);
  const rows = element("div", { class: many ? "whole-grid" : node.topology.includes("pair") ? "pairs" : "" });
  node.gpus.forEach((gpu) => rows.append(drawGpu(gpu, pod)));
  card.append(rows);
  return card;
}

function sorted(nodes) {
  const order = $("order").value;
  const price = (node) => {
    const bill = bills.get(node.name);
    return bill && bill.feasible ? bill.total : Infinity;
  };
  const byName = (a, b) => a.name.localeCompare(b.name, "en", { numeric: true });
  if (order === "price" && bills.size) return [...nodes].sort((a, b) => price(a) - price(b) || byName(a, b));
  if (order === "free") return [...nodes].sort((a, b) => b.free_share - a.free_share || byName(a, b));
  return [...nodes].sort(byName);
}

function zoneTitle(zone, nodes) {
  const first = nodes[0];
  const grid = first.grams_per_kwh === null ? first.carbon_note : `${Math.round(first.grams_per_kwh)} gCO₂e/kWh`;
  const count = `${nodes.length} node${nodes.length === 1 ? "" : "s"}`;
  return element("h2", {}, zone || "no zone", element("small", {}, [first.region, grid, count].filter(Boolean).join(" · ")));
}

function drawNodes() {
  const pod = chosenPod();
  const zone = $("zone").value;
  const model = $("model").value;
  const shown = fleet.nodes.filter((node) => (!zone || node.zone === zone) && (!model || node.gpus.some((gpu) => gpu.model === model)));
  const groups = new Map();
  if ($("order").value === "price" && bills.size) groups.set("all zones", sorted(shown));
  else for (const node of sorted(shown)) groups.set(node.zone, [...(groups.get(node.zone) || []), node]);
  const parts = [];
  for (const [name, nodes] of [...groups].sort((a, b) => a[0].localeCompare(b[0]))) {
    const grid = element("div", { class: "grid" });
    for (const node of nodes) {
      // Only what changed is drawn anew, so that what is hovered or selected stays.
      const drawn = JSON.stringify([node, bills.get(node.name) || null, billOrder[0] ? billOrder[0].node : "", pod ? pod.key : ""]);
      let kept = cards.get(node.name);
      if (!kept || kept.drawn !== drawn) {
        kept = { card: drawNode(node, pod), drawn };
        cards.set(node.name, kept);
      }
      grid.append(kept.card);
    }
    parts.push(groups.size === 1 && name === "all zones" ? element("h2", {}, "Nodes, cheapest first") : zoneTitle(name, nodes), grid);
  }
  if (!parts.length) parts.push(element("p", { class: "empty" }, fleet.nodes.length ? "No node matches." : "No GPU node is known yet."));
  $("nodes").replaceChildren(...parts);
}

function drawTotals() {
  const totals = fleet.totals;
  const percent = (part) => (totals.units ? `${((100 * part) / totals.units).toFixed(1)} %` : "–");
  const rows = [
    ["nodes", totals.nodes], ["GPUs", totals.gpus], ["in use", percent(totals.used_units)],
    ["stranded", percent(totals.stranded_units)], ["waiting pods", totals.waiting_pods],
  ];
  $("totals").replaceChildren(...rows.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, String(value)))));
}

function fill(select, values) {
  const kept = select.value;
  const wanted = ["", ...values];
  if (wanted.length === select.options.length && wanted.every((value, i) => select.options[i].value === value)) return;
  select.replaceChildren(select.options[0], ...values.map((value) => element("option", { value }, value)));
  select.value = wanted.includes(kept) ? kept : "";
}

function drawPods(pods) {
  const drawn = JSON.stringify(pods);
  if (drawn === podsDrawn) return;
  podsDrawn = drawn;
  const select = $("pod");
  const kept = select.value;
  const group = (label, members) => {
    if (!members.length) return null;
    const made = element("optgroup", { label });
    for (const pod of members) {
      const key = `${pod.namespace}/${pod.name}`;
      made.append(element("option", { value: key }, `${key} (${pod.request})`));
    }
    return made;
  };
  const groups = [group("waiting", pods.filter((pod) => !pod.node)), group("running", pods.filter((pod) => pod.node))];
  select.replaceChildren(select.options[0], ...groups.filter(Boolean));
  select.value = pods.some((pod) => `${pod.namespace}/${pod.name}` === kept) ? kept : "";
}

function drawBill() {
  const pod = chosenPod();
  const panel = $("bill");
  panel.hidden = !pod;
  if (!pod) return;
  const unit = `${fleet.currency}/h`;
  const title = element("h2", {}, `Price of ${pod.key}`, element("small", {}, `${unit}, lowest is best`));
  if (billProblem) return panel.replaceChildren(title, element("p", {}, billProblem));
  const fits = billOrder.filter((bill) => bill.feasible);
  if (!fits.length) {
    const why = billOrder.length ? billOrder[0].reason : "It asks for no GPU, or is gone.";
    return panel.replaceChildren(title, element("p", {}, `It fits on no node now. ${why}`));
  }
  const terms = [...new Set([...TERMS, ...fits.flatMap((bill) => Object.keys(bill.terms))])].filter((term) => fits.some((bill) => term in bill.terms));
  const head = element("tr", {}, ...["node", ...terms, "total"].map((name) => element("th", { scope: "col" }, name)));
  const rows = fits.slice(0, 4).map((bill) => element("tr", {}, element("th", { scope: "row" }, bill.node),
    ...terms.map((term) => element("td", {}, term in bill.terms ? money(bill.terms[term]) : "–")),
    element("td", { class: "total" }, money(bill.total))));
  const rest = `Fits on ${fits.length} of ${billOrder.length} nodes.`;
  panel.replaceChildren(title, element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows)), element("p", {}, rest));
}

async function getJson(path) {
  const answer = await fetch(path, { headers: { accept: "application/json" }, signal: AbortSignal.timeout(10000) });
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.detail || `${answer.status} ${answer.statusText}`);
  return body;
}

async function readBills() {
  const pod = chosenPod();
  bills = new Map();
  billOrder = [];
  billProblem = "";
  if (!pod) return;
  try {
    const query = new URLSearchParams({ namespace: pod.namespace, pod: pod.name });
    const answer = await getJson(`api/bills?${query}`);
    if (chosenPod() === null || chosenPod().key !== pod.key) return;
    billOrder = answer.bills;
    bills = new Map(answer.bills.map((bill) => [bill.node, bill]));
  } catch (error) {
    billProblem = String(error.message || error);
  }
}

async function refresh() {
  try {
    const [newFleet, pods] = await Promise.all([getJson("api/fleet"), getJson("api/pods")]);
    fleet = newFleet;
    drawPods(pods.pods);
    await readBills();
    fill($("zone"), [...new Set(fleet.nodes.map((node) => node.zone))].filter(Boolean).sort());
    fill($("model"), [...new Set(fleet.nodes.flatMap((node) => node.gpus.map((gpu) => gpu.model)))].sort());
    drawTotals();
    drawBill();
    drawNodes();
    $("state").className = "";
    $("state").textContent = `live · state ${fleet.generation}`;
  } catch (error) {
    $("state").className = "late";
    $("state").textContent = `No answer from the controller (${error.message || error}); what you see is old.`;
  }
}

async function keepRefreshing() {
  await refresh();
  document.body.dataset.loaded = "yes";
  setTimeout(keepRefreshing, document.hidden ? 4 * REFRESH_MILLISECONDS : REFRESH_MILLISECONDS);
}

function showTip(event) {
  const target = event.target.closest("[data-tip]");
  const tip = $("tip");
  tip.hidden = !target;
  if (!target) return;
  tip.textContent = target.dataset.tip;
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.min(event.clientX + 14, innerWidth - box.width - 8)}px`;
  tip.style.top = `${event.clientY + 18 + box.height > innerHeight ? event.clientY - box.height - 10 : event.clientY + 18}px`;
}

$("legend").replaceChildren(...LEGEND.map(([kind, text]) => element("li", {}, element("i", { class: kind }), text)));
for (const id of ["zone", "model", "order"]) $(id).addEventListener("change", drawNodes);
$("pod").addEventListener("change", async () => { await readBills(); drawBill(); drawNodes(); });
document.addEventListener("mousemove", showTip);
document.addEventListener("mouseleave", () => { $("tip").hidden = true; });
keepRefreshing();
