// Visits web pages of a mirror in a browser; `run` says which ones, and what each must show. Ends with one line; exit code 1
// when a page breaks a promise: no violation of axe's rules, no console message, no horizontal scrolling, everything reachable
// by keyboard, focus visible.
import { readFileSync, mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const { base, token, folder, browser: browserPath, pages } = JSON.parse(process.argv[2]);
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const WIDTHS = [320, 768, 1280];
const SCHEMES = ["light", "dark"];
const MOST_TABS = 400;

const faults = [];
let visits = 0;

/** The focusable elements of a page that the Tab key does not reach, and those whose focus cannot be seen. */
async function unreachable(page) {
  const expected = await page.evaluate(() => {
    const all = document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea, pre[tabindex='0']");
    return [...all].map((element, number) => element.setAttribute("data-number", number)).length;
  });
  const reached = new Set();
  const unseen = [];
  for (let tab = 0; tab < MOST_TABS && reached.size < expected; tab += 1) {
    await page.keyboard.press("Tab");
    const focus = await page.evaluate(() => {
      const element = document.activeElement;
      if (!element || element === document.body) return null;
      const style = getComputedStyle(element);
      const isSeen = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
      return { number: element.getAttribute("data-number"), isSeen, html: element.outerHTML.slice(0, 120) };
    });
    if (focus?.number == null) continue;
    reached.add(focus.number);
    if (!focus.isSeen) unseen.push(focus.html);
  }
  return { missing: expected - reached.size, unseen };
}

async function visit(context, name, width, scheme) {
  const [path, status, text] = pages[name];
  const where = `${path} at ${width} px, ${scheme}`;
  const page = await context.newPage();
  page.on("console", (message) => {
    // The browser reports the status of a page that is an error on purpose.
    if (!(status >= 400 && message.text().includes(String(status)))) faults.push(`${where}: console: ${message.text()}`);
  });
  page.on("pageerror", (error) => faults.push(`${where}: ${error.message}`));
  page.on("requestfailed", (request) => faults.push(`${where}: ${request.url()} failed`));
  page.on("request", (request) => {
    if (!request.url().startsWith(`${base}/`)) faults.push(`${where}: asks ${request.url()}`);
  });
  const response = await page.goto(base + path, { waitUntil: "load" });
  if (response.status() !== status) faults.push(`${where}: status ${response.status()}`);
  if (!(await page.content()).includes(text)) faults.push(`${where}: does not say "${text}"`);
  const sizes = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  if (sizes[0] > sizes[1]) faults.push(`${where}: is ${sizes[0]} px wide`);
  await page.screenshot({ path: `${folder}/${name}-${width}-${scheme}.png`, fullPage: true });
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  for (const violation of violations) {
    const nodes = violation.nodes.slice(0, 3).map((node) => node.html.slice(0, 160));
    faults.push(`${where}: axe ${violation.id}: ${violation.help}: ${nodes.join(" ")}`);
  }
  if (scheme === "light") {
    const { missing, unseen } = await unreachable(page);
    if (missing > 0) faults.push(`${where}: ${missing} elements are not reached by Tab`);
    for (const html of unseen) faults.push(`${where}: focus cannot be seen: ${html}`);
  }
  await page.close();
  visits += 1;
}

mkdirSync(folder, { recursive: true });
const browser = await chromium.launch({ executablePath: browserPath, args: ["--no-sandbox", "--disable-gpu"] });
try {
  for (const scheme of SCHEMES) {
    for (const width of WIDTHS) {
      const options = { colorScheme: scheme, viewport: { width, height: 900 } };
      const contexts = {
        signedIn: await browser.newContext({ ...options, extraHTTPHeaders: { authorization: `Bearer ${token}` } }),
        anonymous: await browser.newContext(options),
        signingIn: await browser.newContext({ ...options, httpCredentials: { username: "any", password: token } }),
      };
      for (const name of Object.keys(pages)) await visit(contexts[pages[name][3] ?? "signedIn"], name, width, scheme);
      for (const context of Object.values(contexts)) await context.close();
    }
  }
} finally {
  await browser.close();
}
for (const fault of [...new Set(faults)]) console.log(fault);
console.log(`page: ${visits} visits, ${faults.length} faults; the screenshots are in ${folder}`);
process.exit(faults.length > 0 ? 1 : 0);
