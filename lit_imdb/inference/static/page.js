"use strict";
const by = (id) => document.getElementById(id);
const STRONG = 0.3; // share of the strongest influence from which a word is underlined

function say(verdict, note) {
  const small = document.createElement("small");
  small.textContent = note;
  by("verdict").replaceChildren(verdict, small);
}

function strongest(words, sign) {
  const sums = new Map();
  for (const [word, influence] of words) sums.set(word, (sums.get(word) || 0) + influence);
  return [...sums].filter(([, sum]) => sum * sign > 0)
    .sort((a, b) => sign * (b[1] - a[1])).slice(0, 3).map(([word]) => word).join(", ");
}

function show(answer) {
  const problem = answer.error || answer.reason;
  by("answer").hidden = false;
  by("details").hidden = Boolean(problem);
  if (problem) return say("No answer", problem);
  say(answer.label === "pos" ? "Positive" : "Negative",
    `Probability of a positive review: ${(100 * answer.probability).toFixed(1)}\u00a0%`);
  by("mark").style.left = `${100 * answer.probability}%`;
  const most = Math.max(...answer.words.map(([, influence]) => Math.abs(influence))) || 1;
  by("words").replaceChildren(...answer.words.flatMap(([word, influence]) => {
    const span = document.createElement("span");
    const share = Math.abs(influence) / most;
    span.textContent = word; // as text, whatever the review holds
    span.className = `word ${influence > 0 ? "pos" : "neg"}${share >= STRONG ? " strong" : ""}`;
    span.style.setProperty("--strength", share);
    span.title = `${influence > 0 ? "+" : "\u2212"}${Math.abs(influence).toFixed(3)}`;
    return [span, " "];
  }));
  const [pos, neg] = [strongest(answer.words, 1), strongest(answer.words, -1)];
  by("strongest").textContent =
    `For positive: ${pos || "no word"}. For negative: ${neg || "no word"}.`;
  const count = answer.words.length;
  by("read").textContent = `Words read: ${count}. Of a longer review it reads the end only. ` +
    `Not in its vocabulary: ${Math.round(100 * answer.unknown_words)}\u00a0%.`;
}

let busy = false; // a disabled button would lose the keyboard's focus

async function judge(event) {
  event.preventDefault();
  if (busy) return;
  busy = true;
  let answer;
  try {
    const response = await fetch("predict", {
      method: "POST",
      headers: {"Content-Type": "application/json"},
      body: JSON.stringify({text: by("text").value, explain: true}),
    });
    answer = await response.json().catch(() => ({error: response.statusText})); // plain text
  } catch {
    answer = {error: "The server cannot be reached."};
  }
  show(answer);
  busy = false;
}

by("form").addEventListener("submit", judge);
by("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) judge(event);
});
