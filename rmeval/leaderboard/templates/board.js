/* Sorting, filtering and a choice of two entries: the pages are whole without it. Text is only ever set as text. */
"use strict";
(function () {
  function keyOf(row, column) {
    var cell = row.cells[column];
    return cell && cell.dataset.key !== undefined ? cell.dataset.key : "";
  }
  function sortRows(table, column, kind, down) {
    var body = table.tBodies[0];
    var rows = Array.prototype.slice.call(body.rows).map(function (row, i) { return { row: row, at: i, key: keyOf(row, column) }; });
    rows.sort(function (a, b) {
      /* what is missing stands last in both directions: it is not the least */
      if ((a.key === "") !== (b.key === "")) { return a.key === "" ? 1 : -1; }
      var order = kind === "number" ? Number(a.key) - Number(b.key) : a.key.localeCompare(b.key);
      return (down ? -order : order) || a.at - b.at;
    });
    rows.forEach(function (one) { body.appendChild(one.row); });
  }
  function setUp(table) {
    var heads = Array.prototype.slice.call(table.tHead.rows[0].cells);
    var panel = table.closest(".panel");
    var tools = panel && panel.querySelector("[data-tools]");
    var first = panel && panel.querySelector("table[data-sortable]") === table;
    var choice = tools && first ? tools.querySelector("[data-sortby]") : null;
    function by(column, down) {
      heads.forEach(function (head, i) {
        if (!head.dataset.sort) { return; }
        head.setAttribute("aria-sort", i === column ? (down ? "descending" : "ascending") : "none");
        var button = head.querySelector(".sort");
        button.textContent = button.dataset.name + (i === column ? (down ? " \u2193" : " \u2191") : "");
      });
      sortRows(table, column, heads[column].dataset.sort, down);
    }
    heads.forEach(function (head, column) {
      if (!head.dataset.sort) { return; }
      var name = head.textContent;
      var button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.textContent = button.dataset.name = name;
      head.textContent = "";
      head.appendChild(button);
      var startsDown = head.dataset.sort === "number" && !head.classList.contains("rank");
      button.addEventListener("click", function () {
        var now = head.getAttribute("aria-sort");
        by(column, now === "ascending" ? true : now === "descending" ? false : startsDown);
      });
      if (choice) {
        var option = document.createElement("option");
        option.value = String(column);
        option.textContent = name;
        choice.appendChild(option);
      }
    });
    if (choice) {
      choice.addEventListener("change", function () {
        if (choice.value === "") { return; }
        var head = heads[Number(choice.value)];
        by(Number(choice.value), head.dataset.sort === "number" && !head.classList.contains("rank"));
      });
    }
    if (!tools || !first) { return; }
    tools.hidden = false;
    var words = tools.querySelector("[data-filter]");
    var kind = tools.querySelector("[data-kind]");
    var count = tools.querySelector("[data-count]");
    function filter() {
      var wanted = words.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
      var shown = 0;
      Array.prototype.forEach.call(table.tBodies[0].rows, function (row) {
        var text = (row.dataset.text || row.textContent).toLowerCase();
        var fits = wanted.every(function (word) { return text.indexOf(word) !== -1; });
        if (kind && kind.value && row.dataset.kind !== kind.value) { fits = false; }
        row.hidden = !fits;
        shown += fits ? 1 : 0;
      });
      count.textContent = shown === table.tBodies[0].rows.length ? "" : shown + " of " + table.tBodies[0].rows.length + " rows";
    }
    words.addEventListener("input", filter);
    if (kind) { kind.addEventListener("change", filter); }
  }
  function points(value) {
    var text = (value >= 0 ? "+" : "\u2212") + Math.abs(100 * value).toFixed(1);
    return text === "+0.0" || text === "\u22120.0" ? "0.0" : text;
  }
  function setUpPicker(picker) {
    var a = picker.querySelector("[data-a]");
    var b = picker.querySelector("[data-b]");
    var all = picker.querySelector("[data-all]");
    var said = document.querySelector("[data-gap]");
    var duels = Array.prototype.slice.call(document.querySelectorAll(".duel"));
    var known = JSON.parse(picker.dataset.picker);
    var bytes = atob(known.errors);
    Array.prototype.forEach.call(a.options, function (option) { b.appendChild(option.cloneNode(true)); });
    b.selectedIndex = 1;
    function error(i, j) {
      var at = 2 * (i * known.values.length - i * (i + 1) / 2 + j - i - 1);
      return known.step * (bytes.charCodeAt(at) + 256 * bytes.charCodeAt(at + 1));
    }
    function show(id) {
      duels.forEach(function (duel) { duel.hidden = id !== "" && duel.id !== id; });
    }
    function say(i, j) {
      var gap = known.values[i] - known.values[j];
      var se = error(i, j);
      var half = 1.959964 * se;
      said.textContent = a.options[i].text + " against " + a.options[j].text + ": " + (100 * known.values[i]).toFixed(1) + " and "
        + (100 * known.values[j]).toFixed(1) + ", a difference of " + points(gap) + " points"
        + (se > 0 ? " [" + points(gap - half) + ", " + points(gap + half) + "]" : "")
        + (Math.abs(gap) > known.critical * se && gap !== 0 ? "; the order is known." : "; they are not told apart.");
    }
    function chosen() {
      var i = Math.min(Number(a.value), Number(b.value));
      var j = Math.max(Number(a.value), Number(b.value));
      var id = "pair-" + i + "-" + j;
      show(i === j ? "none" : id);
      /* two of the best have a panel of their own, about the examples that those few scored */
      said.hidden = i === j || duels.some(function (duel) { return duel.id === id; });
      if (!said.hidden) { say(i, j); }
    }
    function fromAddress() {
      var found = /^#pair-(\d+)-(\d+)$/.exec(location.hash);
      if (found) { a.value = found[1]; b.value = found[2]; chosen(); }
    }
    a.addEventListener("change", chosen);
    b.addEventListener("change", chosen);
    if (all) { all.addEventListener("click", function () { show(""); said.hidden = true; }); }
    window.addEventListener("hashchange", fromAddress);
    picker.hidden = false;
    if (location.hash) { fromAddress(); } else { chosen(); }
  }
  Array.prototype.forEach.call(document.querySelectorAll("table[data-sortable]"), setUp);
  Array.prototype.forEach.call(document.querySelectorAll("[data-picker]"), setUpPicker);
})();
