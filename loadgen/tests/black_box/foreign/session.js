// A person in Chromium: signs in, looks around, sends a form. Playwright records it as an HTTP archive.
// node session.js BASE_URL HAR_FILE
const { chromium } = require("playwright-core");

async function main([base, path]) {
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox"] });
  const context = await browser.newContext({ recordHar: { path }, viewport: { width: 1280, height: 720 } });
  const page = await context.newPage();
  await page.goto(base + "/sign-in");
  await page.fill("[name=user]", "alice");
  await page.fill("[name=password]", "geheim");
  await Promise.all([page.waitForURL("**/home*"), page.click("#sign-in")]);
  await page.waitForLoadState("load");
  // Not by a link: a page that is opened anew, with what the cache has.
  await page.goto(base + "/nasty?a=1", { waitUntil: "load" });
  await page.waitForTimeout(300);
  await page.fill("[name=note]", "two\nlines & {more}");
  await page.selectOption("[name=size]", "l");
  await Promise.all([page.waitForURL("**/orders/*"), page.click("[name=go][form=f]")]);
  await Promise.all([page.waitForURL("**/thanks"), page.click("button")]);
  await page.waitForLoadState("load");
  await context.close();
  await browser.close();
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exit(1);
});
