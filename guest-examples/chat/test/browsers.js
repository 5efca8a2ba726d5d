// Two browsers that talk to each other, and people who join late.
//
//     node browsers.js URL CHROMIUM FOLDER
//
// URL is where the host serves the page, CHROMIUM the program of the browser, and FOLDER
// an empty one for its profiles. Ends with 0 if all was as it has to be.

import assert from "node:assert/strict";
import { join } from "node:path";
import { chromium } from "playwright-core";

const [url, executablePath, folder] = process.argv.slice(2);
const PATIENCE_MS = 20_000;
const ARGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
const browsers = [];

// A browser: a process with a profile of its own.
async function start(profile) {
  const options = { executablePath, args: ARGS, headless: true };
  const browser = await chromium.launchPersistentContext(join(folder, profile), options);
  browsers.push(browser);
  browser.setDefaultTimeout(PATIENCE_MS);
  return browser;
}

// A person in a room, in a tab of a browser.
async function enter(browser, name, room = "lobby") {
  const page = await browser.newPage();
  const person = { name, page, errors: [], links: [], isCutOff: false };
  await page.routeWebSocket(/\/mqtt$/, (link) => {
    if (person.isCutOff) return link.close();
    link.connectToServer();
    person.links.push(link);
  });
  page.on("pageerror", (error) => person.errors.push(String(error)));
  await page.goto(`${url}?room=${room}&name=${encodeURIComponent(name)}`);
  await page.locator("#state", { hasText: /^connected$/ }).waitFor();
  return person;
}

async function say(person, text) {
  await person.page.fill("#text", text);
  await person.page.click("#say button");
}

// Waits until the person sees the line.
async function sees(person, from, text, kind = "message") {
  const lines = person.page.locator(`#lines li.${kind}`);
  const line = lines.filter({ has: person.page.locator("b", { hasText: exactly(from) }) });
  await line.filter({ has: person.page.locator("span", { hasText: exactly(text) }) }).waitFor();
}

const exactly = (text) => new RegExp(`^${text.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&")}$`);

// What the person sees, in order.
async function all(person, kind = "message") {
  return person.page.locator(`#lines li.${kind}`).evaluateAll((lines) =>
    lines.map((line) => [line.querySelector("b").textContent, line.querySelector("span").textContent]),
  );
}

try {
  const [first, second] = await Promise.all([start("first"), start("second")]);
  const ann = await enter(first, "ann");
  const ben = await enter(second, "ben <b>");
  const talk = [
    ["ann", "hello, is anybody here?"],
    ["ben <b>", "yes: ✓"],
    ["ann", "<img src=x onerror=alert(1)>"],
    ["ben <b>", "**** it"],
  ];
  for (const [name, heard] of talk) {
    const [speaker, other] = name === "ann" ? [ann, ben] : [ben, ann];
    await say(speaker, heard.replace("****", "Darn"));
    await sees(other, name, heard);
    await sees(speaker, name, heard);
  }

  // Answers are for who asked.
  await say(ben, "/who");
  await sees(ben, "chat", "spoke lately: ann, ben <b>", "answer");
  await say(ben, "   ");
  await sees(ben, "chat", "there is nothing in that message", "answer");

  // Who joins late sees what was said, in the order in which it was said.
  const cleo = await enter(first, "cleo");
  await sees(cleo, ...talk.at(-1));
  assert.deepEqual(await all(cleo), talk);
  await say(cleo, "what have I missed?");
  talk.push(["cleo", "what have I missed?"]);
  for (const person of [ann, ben, cleo]) {
    await sees(person, ...talk.at(-1));
    assert.deepEqual(await all(person), talk, person.name);
    assert.equal(await person.page.locator("#lines img").count(), 0, "what is said is text");
  }
  assert.equal((await all(ben, "answer")).length, 2);
  for (const person of [ann, cleo]) assert.deepEqual(await all(person, "answer"), []);

  // Who was cut off gets what was said meanwhile.
  ben.isCutOff = true;
  await Promise.all(ben.links.map((link) => link.close()));
  await ben.page.locator("#state", { hasText: /^not connected$/ }).waitFor();
  talk.push(["ann", "ben?"]);
  await say(ann, "ben?");
  await sees(cleo, ...talk.at(-1));
  assert.deepEqual(await all(ben), talk.slice(0, -1));
  ben.isCutOff = false;
  await sees(ben, ...talk.at(-1));
  assert.deepEqual(await all(ben), talk);

  // Another room hears nothing of it.
  const dora = await enter(second, "dora", "attic");
  await say(dora, "alone");
  await sees(dora, "dora", "alone");
  assert.deepEqual(await all(dora), [["dora", "alone"]]);
  assert.deepEqual(await all(ann), talk);

  for (const person of [ann, ben, cleo, dora]) assert.deepEqual(person.errors, [], person.name);
  console.log("all have talked");
} finally {
  await Promise.all(browsers.map((browser) => browser.close()));
}
