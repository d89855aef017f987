// Plays a person on the demo page: reads the card, presses its button, confirms, waits for the end, takes a picture.
// usage: demo_page.js URL PICTURE PROFILE_FOLDER     prints {button, confirm, card, errors, outside} as JSON
// What it relies on in the page: a message is [data-ts], a card's button is a <button> in it, and the confirm dialog is #confirm,
// whose last button goes on.
const { chromium } = require("playwright-core");
// As parts.py has it.
const PATIENCE_MS = 180000;

(async () => {
  const [url, picture, profile] = process.argv.slice(2);
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM, headless: true, viewport: { width: 1000, height: 1400 }, deviceScaleFactor: 2, colorScheme: "light",
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
  const page = await context.newPage();
  const errors = [], outside = [], host = new URL(url).host;
  page.on("pageerror", (e) => errors.push(String(e)));
  page.on("console", (m) => m.type() === "error" && errors.push(m.text()));
  page.on("request", (r) => { if (/^https?:/.test(r.url()) && new URL(r.url()).host !== host) outside.push(r.url()); });
  await page.goto(url);
  const button = page.locator("[data-ts] button", { hasText: "Roll back" }).first();
  await button.waitFor({ timeout: PATIENCE_MS });
  const label = (await button.innerText()).trim();
  const card = page.locator("[data-ts]", { has: page.locator("button", { hasText: "Roll back" }) }).first();
  const ts = await card.getAttribute("data-ts");
  await card.screenshot({ path: picture });
  await button.click();
  const dialog = page.locator("#confirm[open]");
  await dialog.waitFor({ timeout: PATIENCE_MS });
  const confirm = (await dialog.innerText()).trim();
  await dialog.locator("footer button").last().click();
  const same = page.locator(`[data-ts="${ts}"]`);
  await same.filter({ hasText: "✅" }).waitFor({ timeout: PATIENCE_MS });
  console.log(JSON.stringify({ button: label, confirm, card: await same.innerText(), errors, outside }));
  await context.close();
})().catch((e) => { console.error(e); process.exit(1); });
