/*
Draws the report from the data in the page.

Takes: #data, a JSON list of run documents (summary.py); #report and #subtitle, where it draws.
Gives: tables by scenario and tenant, plots over time and as distributions, the generator's health, configuration and machine;
with two runs, their differences first. Everything is drawn as SVG here; nothing is fetched.
What is worse is told by a sign and words as well as by colour; tables that are wider than the screen can be reached and moved by keyboard.
*/
"use strict";
(function () {
  const runs = JSON.parse(document.getElementById("data").textContent);
  const report = document.getElementById("report");
  const SVG = "http://www.w3.org/2000/svg";
  const COLOURS = 8;
  const several = runs.length > 1;

  function make(name, parent, text, className) {
    const element = document.createElement(name);
    if (text !== undefined && text !== null) element.textContent = text;
    if (className) element.className = className;
    if (parent) parent.appendChild(element);
    return element;
  }

  function draw(name, parent, attributes) {
    const element = document.createElementNS(SVG, name);
    for (const key in attributes) element.setAttribute(key, attributes[key]);
    parent.appendChild(element);
    return element;
  }

  function plain(value, digits) {
    if (value === undefined || value === null) return "–";
    const size = Math.abs(value);
    const most = digits !== undefined ? digits : size >= 100 ? 0 : size >= 10 ? 1 : 2;
    // What rounds to nothing has no sign.
    return value.toLocaleString("en", { maximumFractionDigits: most, signDisplay: "negative" });
  }

  // Axes...

  function ticks(low, high, wanted) {
    const rough = (high - low) / wanted || 1;
    const power = Math.pow(10, Math.floor(Math.log10(rough)));
    const step = [1, 2, 5, 10].map((f) => f * power).find((s) => s >= rough) || rough;
    const all = [];
    for (let at = Math.ceil(low / step) * step; at <= high + step * 1e-6; at += step) all.push(at);
    return all;
  }

  function logTicks(low, high) {
    const all = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
      for (const f of [1, 2, 5]) {
        const at = f * Math.pow(10, power);
        if (at >= low * 0.999 && at <= high * 1.001) all.push(at);
      }
    return all.length > 9 ? all.filter((at) => /^[1]/.test(String(at / Math.pow(10, Math.floor(Math.log10(at) + 1e-9))))) : all;
  }

  // lines: [{name, colour, dash, points: [[x, y], ...]}]; a null y breaks the line.
  function plot(parent, title, unitX, unitY, lines, options) {
    const drawn = lines.filter((line) => line.points.some((p) => p[1] !== null));
    if (!drawn.length) return;
    const settings = Object.assign({ logX: false, topY: null }, options || {});
    const figure = make("figure", parent);
    make("figcaption", figure, title);
    const W = 520, H = 250, L = 52, R = 12, T = 12, B = 34;
    const svg = draw("svg", figure, { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": title });
    const xs = drawn.flatMap((line) => line.points.map((p) => p[0]));
    const ys = drawn.flatMap((line) => line.points.map((p) => p[1]).filter((y) => y !== null));
    let lowX = Math.min(...xs), highX = Math.max(...xs);
    if (settings.logX) { lowX = Math.max(lowX, 0.001); highX = Math.max(highX, lowX * 1.5); }
    else if (lowX === highX) highX = lowX + 1;
    const highY = settings.topY || Math.max(...ys) * 1.05 || 1;
    const placeX = settings.logX
      ? (x) => L + (W - L - R) * Math.log(Math.max(x, lowX) / lowX) / Math.log(highX / lowX)
      : (x) => L + (W - L - R) * (x - lowX) / (highX - lowX);
    const placeY = (y) => H - B - (H - T - B) * Math.min(y, highY) / highY;
    for (const y of ticks(0, highY, 5)) {
      draw("line", svg, { class: "grid", x1: L, x2: W - R, y1: placeY(y), y2: placeY(y) });
      draw("text", svg, { x: L - 6, y: placeY(y) + 4, "text-anchor": "end" }).textContent = plain(y);
    }
    for (const x of settings.logX ? logTicks(lowX, highX) : ticks(lowX, highX, 6)) {
      draw("line", svg, { class: "grid", x1: placeX(x), x2: placeX(x), y1: T, y2: H - B });
      draw("text", svg, { x: placeX(x), y: H - B + 14, "text-anchor": "middle" }).textContent = plain(x);
    }
    draw("text", svg, { x: W - R, y: H - 4, "text-anchor": "end" }).textContent = unitX;
    draw("text", svg, { x: 4, y: T - 1 }).textContent = unitY;
    const legend = make("div", figure, null, "legend");
    for (const line of drawn) {
      let path = "", pen = false;
      for (const [x, y] of line.points) {
        if (y === null) { pen = false; continue; }
        path += `${pen ? "L" : "M"}${placeX(x).toFixed(1)} ${placeY(y).toFixed(1)}`;
        pen = true;
      }
      const stroke = `var(--c${line.colour % COLOURS})`;
      const style = line.dash ? { "stroke-dasharray": line.dash } : {};
      const drawnPath = draw("path", svg, Object.assign({ d: path, stroke: stroke }, style));
      draw("title", drawnPath, {}).textContent = line.name;
      const entry = make("span", legend);
      const sample = draw("svg", entry, { viewBox: "0 0 24 8", "aria-hidden": "true" });
      draw("path", sample, Object.assign({ d: "M0 4L24 4", stroke: stroke }, style));
      entry.appendChild(document.createTextNode(line.name));
    }
  }

  // What is compared: every base of every run.
  const series = runs.flatMap((run, at) =>
    Object.keys(run.by_base).map((base) => ({
      run: run, base: base, name: several ? `${String.fromCharCode(65 + at)}: ${base}` : base,
    })));
  series.forEach((one, at) => { one.colour = at; });

  function overTime(one, read) {
    return (one.part.over_time.bases[one.base] || []).map((point) => {
      const value = read(point);
      return [point.at_s, value === undefined ? null : value];
    });
  }

  function table(parent, name, head, rows) {
    const region = make("div", parent, null, "scroll");
    for (const [key, value] of [["role", "region"], ["aria-label", name], ["tabindex", "0"]]) region.setAttribute(key, value);
    const element = make("table", region);
    make("caption", element, name);
    const first = make("tr", make("thead", element));
    head.forEach((title) => make("th", first, title).setAttribute("scope", "col"));
    const body = make("tbody", element);
    rows.forEach((row) => {
      const line = make("tr", body);
      row.forEach((cell, at) => {
        const marked = cell !== null && typeof cell === "object";
        const worse = marked && cell.mark;
        const element = make(at ? "td" : "th", line, null, worse ? cell.mark : "");
        if (!at) element.setAttribute("scope", "row");
        if (worse) make("span", element, "▲ ").setAttribute("aria-label", "worse: ");
        element.appendChild(document.createTextNode(marked ? cell.text : cell === null || cell === undefined ? "" : cell));
      });
    });
  }

  // The parts of the page...

  const names = runs.map((run, at) => (several ? `${String.fromCharCode(65 + at)}: ` : "") + run.title);
  document.getElementById("subtitle").textContent = runs
    .map((run, at) => `${several ? names[at] + ", " : ""}${new Date(run.begin_s * 1000).toISOString().replace(/\.\d+Z/, "Z")}, ${plain(run.seconds)} s`)
    .join("; ");

  runs.forEach((run, at) => run.warnings.forEach((words) => make("p", report, (several ? names[at] + ": " : "") + words, "warning")));

  if (runs.length === 2) {
    make("h2", report, "A and B");
    make("p", report, "B minus A; what got worse by more than a tenth is marked.", "note");
    const rows = [];
    const metrics = [["ttft", "TTFT"], ["itl", "ITL"], ["icl", "ICL"], ["e2e", "E2E"]];
    for (const [key, label] of metrics)
      for (const p of ["p50", "p95", "p99"]) {
        const [a, b] = runs.map((run) => run.total[key] && run.total[key][p]);
        if (a === null || b === null || a === undefined || b === undefined) continue;
        const mark = b > a * 1.1 ? "worse" : "";
        rows.push([`${label} ${p} ms`, plain(a), plain(b), { text: plain(b - a), mark: mark }, { text: a ? plain(100 * (b / a - 1), 1) + " %" : "–", mark: mark }]);
      }
    for (const [key, label] of [["rate", "begun/s"], ["throughput", "completed/s"], ["goodput", "goodput/s"], ["tokens_s", "tokens/s"]]) {
      const [a, b] = runs.map((run) => run.total[key]);
      const mark = b < a * 0.9 ? "worse" : "";
      rows.push([label, plain(a), plain(b), { text: plain(b - a), mark: mark }, { text: a ? plain(100 * (b / a - 1), 1) + " %" : "–", mark: mark }]);
    }
    const [ea, eb] = runs.map((run) => 100 * run.total.error_share);
    rows.push(["errors %", plain(ea), plain(eb), { text: plain(eb - ea), mark: eb > ea ? "worse" : "" }, ""]);
    table(report, "A and B", ["", "A", "B", "difference", "relative"], rows);
  }

  if (runs.some((run) => run.verdicts)) {
    make("h2", report, "Budget");
    runs.filter((run) => run.verdicts).forEach((run) =>
      table(report, "Budget", ["what", "budget", "measured", "lowest to highest", "verdict"],
        run.verdicts.map((row) => [row.what, row.budget, row.measured, row.range, { text: row.verdict + (row.why ? `: ${row.why}` : ""), mark: row.verdict === "broken" ? "worse" : "" }])));
  }

  // A soak's slopes, an overload's phases, a comparison's bases: under the names that the run gives their columns.
  for (const [key, title] of [["slopes", "What grew"], ["phases", "Phases of the overload"], ["side", "Side by side"]])
    runs.filter((run) => run[key] && run[key].length).forEach((run) => {
      make("h2", report, title);
      const titles = run.columns || Object.fromEntries(Object.keys(run[key][0]).map((name) => [name, name]));
      const columns = Object.keys(titles);
      table(report, title, Object.values(titles), run[key].map((row) => columns.map((name) => {
        const value = row[name];
        return value === undefined ? "–" : typeof value === "number" ? plain(value) : value === "grows" ? { text: value, mark: "worse" } : value;
      })));
      if (run.recovery_s !== undefined && run.recovery_s !== null && key === "phases")
        make("p", report, `Recovery: every call that began later than ${plain(run.recovery_s)} s after the overload ended was good.`, "note");
    });

  function figuresTable(title, key) {
    make("h2", report, title);
    const rows = [];
    runs.forEach((run, at) => Object.entries(run[key]).forEach(([name, f]) => {
      const p = (metric, which) => (f[metric] ? plain(f[metric][which]) : "–");
      const errors = plain(100 * f.error_share);
      rows.push([
        (several ? String.fromCharCode(65 + at) + ": " : "") + name, plain(f.calls), { text: errors, mark: f.error_share > 0 ? "worse" : "" },
        plain(f.rate), plain(f.throughput), plain(f.goodput), plain(f.tokens_s), p("ttft", "p50"), p("ttft", "p95"), p("ttft", "p99"),
        p("itl", "p50"), p("itl", "p99"), p("icl", "p99"), p("tpot", "p50"), p("e2e", "p50"), p("e2e", "p95"), p("e2e", "p99"), p("tok_s", "p50"),
      ]);
    }));
    table(report, title, ["", "calls", "errors %", "begun/s", "completed/s", "goodput/s", "tokens/s", "TTFT p50", "p95", "p99", "ITL p50", "p99", "ICL p99", "TPOT p50", "E2E p50", "p95", "p99", "tok/s/user"], rows);
  }
  figuresTable("By scenario (milliseconds)", "by_scenario");
  runs.filter((run) => run.total.unfinished).forEach((run) =>
    make("p", report, `${plain(run.total.unfinished)} calls were still open at the end; they are in none of these figures.`, "note"));
  if (runs.some((run) => Object.keys(run.by_tenant).length > 1)) {
    figuresTable("By tenant", "by_tenant");
    make("p", report, "Jain's fairness index over the tenants' share of good calls: " + runs.map((run) => plain(run.fairness, 3)).join(", ") + " (1 is equal).", "note");
  }

  // Of a run of many scenarios each is drawn on its own: they share no axis.
  const parts = [...new Set(runs.flatMap((run) => (run.parts || [{ name: "" }]).map((part) => part.name)))];
  const partOf = (run, name) => (name ? (run.parts || []).find((part) => part.name === name) : run.parts ? null : run);
  function curves(title, draw) {
    make("h2", report, title);
    for (const name of parts) {
      if (name) make("h3", report, name);
      draw(make("div", report, null, "plots"), series.flatMap((one) => {
        const part = partOf(one.run, name);
        return part ? [Object.assign({}, one, { part: part })] : [];
      }));
    }
  }

  const dashes = { p50: "", p95: "6 3", p99: "2 3" };
  curves("Over time", (time, shown) => {
    for (const [metric, label] of [["ttft", "Time to first token"], ["e2e", "End-to-end latency"]])
      plot(time, label, "s", "ms", shown.flatMap((one) => Object.keys(dashes).map((p) => ({
        name: `${one.name} ${p}`, colour: one.colour, dash: dashes[p], points: overTime(one, (point) => point[metric] && point[metric][p]),
      }))));
    plot(time, "Calls begun, good calls", "s", "1/s", shown.flatMap((one) => [
      { name: `${one.name} begun`, colour: one.colour, points: overTime(one, (p) => p.rate) },
      { name: `${one.name} good`, colour: one.colour, dash: "6 3", points: overTime(one, (p) => p.goodput) },
    ]));
    plot(time, "Output tokens", "s", "1/s", shown.map((one) => ({ name: one.name, colour: one.colour, points: overTime(one, (p) => p.tokens_s) })));
    plot(time, "Errors", "s", "1/s", shown.map((one) => ({ name: one.name, colour: one.colour, points: overTime(one, (p) => p.errors) })));
  });

  curves("Distributions", (cdfs, shown) => {
    for (const [metric, label] of [["ttft", "Time to first token"], ["icl", "Gaps between chunks"], ["itl", "Inter-token latency"], ["e2e", "End-to-end latency"]])
      plot(cdfs, label, "ms, logarithmic", metric === "icl" ? "share of gaps" : "share of calls", shown.map((one) => ({
        name: one.name, colour: one.colour, points: (one.part.cdf[one.base] && one.part.cdf[one.base][metric]) || [],
      })).filter((line) => line.points.length), { logX: true, topY: 1 });
  });

  const processes = runs.flatMap((run, at) => Object.entries(run.health).map(([name, rows]) => ({ name: (several ? String.fromCharCode(65 + at) + ": " : "") + name, rows: rows })));
  if (processes.length) {
    make("h2", report, "The generator");
    make("p", report, "Where it uses a whole core, or its timers run late, the latencies above are its own.", "note");
    const health = make("div", report, null, "plots");
    const ofHealth = (key) => processes.map((one, at) => ({ name: one.name, colour: at, points: one.rows.map((row) => [row.at_s, row[key] === undefined ? null : row[key]]) }));
    plot(health, "CPU, and dashed what it waited for", "s", "cores", [...ofHealth("cpu"), ...ofHealth("waited").map((line) => Object.assign({}, line, { name: `${line.name} waited`, dash: "6 3" }))], { topY: 1 });
    plot(health, "Lateness of its own timer", "s", "ms", ofHealth("lag_ms"));
    plot(health, "Open calls", "s", "calls", ofHealth("open_calls"));
  }

  const watched = runs.flatMap((run, at) => Object.entries(run.watched || {}).map(([name, rows]) => ({ name: name, rows: rows, colour: at })));
  if (watched.length) {
    make("h2", report, "The target, watched");
    const target = make("div", report, null, "plots");
    watched.forEach((one) => plot(target, one.name, "s", "", [{ name: one.name, colour: one.colour, points: one.rows }]));
  }

  const failed = runs.flatMap((run) => Object.entries(run.by_base).flatMap(([base, f]) => Object.entries(f.errors).map(([kind, count]) => [base, kind, plain(count), f.details[kind] || ""])));
  if (failed.length) {
    make("h2", report, "Errors");
    table(report, "Errors", ["base", "kind", "count", "for example"], failed);
  }

  make("h2", report, "Configuration and machine");
  runs.forEach((run, at) => {
    if (several) make("p", report, names[at], "note");
    const list = make("dl", report);
    const facts = Object.assign({}, run.config, { objectives: run.objectives }, run.machine);
    for (const key in facts) {
      make("dt", list, key);
      make("dd", list, typeof facts[key] === "object" ? JSON.stringify(facts[key]) : String(facts[key]));
    }
  });
})();
